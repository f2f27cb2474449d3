"""Run facts: data, result and intervals of a run folder, for the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from geoguesser.data.sources.base import SourceKind, source_from_config
from geoguesser.errors import CheckpointError, first_line
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.intervals import Interval
from geoguesser.evaluation.metrics import compute_metrics
from geoguesser.exporting.model_card import ModelCard
from geoguesser.geo.region import Region
from geoguesser.inference.predictor import Predictor
from geoguesser.system.received_files import read_json
from geoguesser.system.tables import read_csv
from geoguesser.system.versions import collect_versions


class RunFacts(NamedTuple):
    """Facts about a run that the checkpoint does not hold; None if unknown.

    Attributes:
        data: Declaration of the data source.
        result: Values of result.json.
        mean: Mean test error with its 95 % interval, as `evaluate` computes it, like `median`.
        units: Resampling units of the bootstrap: `108 places`, `72 blocks of 30 km`.
    """

    data: SourceKind | None
    result: dict[str, Any] | None = None
    mean: Interval | None = None
    median: Interval | None = None
    units: str | None = None


def read_facts(checkpoint: Path, config: Mapping[str, Any] | None, region: Region) -> RunFacts:
    """Reads the facts about the run of a checkpoint, with map blocks of the region for the intervals.

    Without a config from the checkpoint, or a run folder around it, the facts are unknown. Raises CheckpointError
    if result.json or predictions_test.csv is damaged.
    """
    data, run = source_from_config(config or {}).kind, checkpoint.parent.parent
    if checkpoint.parent.name != "checkpoints" or not (run / "result.json").is_file():
        return RunFacts(data)

    try:
        result = read_json(run / "result.json")
        count = int(result["test"]["places"])
        file = run / "predictions_test.csv"
        if not file.is_file():
            return RunFacts(data, result)
        table = read_csv(file)
        predicted_deg = table[["latitude", "longitude"]].to_numpy(float)
        true_deg = table[["true_latitude", "true_longitude"]].to_numpy(float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        rule = f"must hold a complete result.json and predictions_test.csv ({first_line(error)})"
        raise CheckpointError.at(str(run), rule) from error

    # Predictions of another number of places are not those of the result.
    if len(table) != count or count == 0:
        return RunFacts(data, result)
    metrics = compute_metrics(predicted_deg, true_deg, region, BootstrapSettings())
    mean, median = (Interval(**metrics["error_km"][name]) for name in ("mean", "median"))
    return RunFacts(data, result, mean, median, metrics["units"])


def make_card(
    predictor: Predictor,
    facts: RunFacts,
    license_name: str | None,
    files: dict[str, str],
    checks: list[dict[str, str]],
) -> ModelCard:
    """Makes the card of an exported model, with descriptions of its files and the table of programs."""
    network = predictor.network
    head = network.head.state()
    return ModelCard(
        region=predictor.region.name,
        views=predictor.image.name,
        head=head["kind"],
        decoder=head["decoder"]["kind"] if "decoder" in head else None,
        cells=None if network.head.grid is None else network.head.grid.num_cells,
        backbone=network.backbone.name,
        **facts._asdict(),
        calibration_places=0 if predictor.uncertainty is None else predictor.uncertainty.places,
        license=license_name,
        files=files,
        checks=checks,
        versions=collect_versions(),
    )
