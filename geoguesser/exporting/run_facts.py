"""Run facts: what a run folder knows of its model, for the model's card: its data, its result, intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from geoguesser.data.sources.base import source_from_config
from geoguesser.errors import CheckpointError, first_line
from geoguesser.evaluation.intervals import Interval
from geoguesser.evaluation.metrics import compute_metrics
from geoguesser.exporting.model_card import ModelCard
from geoguesser.geo.region import Region
from geoguesser.inference.predictor import Predictor
from geoguesser.system.versions import collect_versions

EVALUATE: dict[str, Any] = {"confidence": 0.95, "samples": 5000, "seed": 0, "block_km": None}  # conf/evaluate.yaml
POINT = ["latitude", "longitude"]


class RunFacts(NamedTuple):
    """What is known beside the checkpoint.

    Attributes:
        data: Kind of the data source (`demo`, `places`, `store`); None if it is not known.
        result: result.json; None where there is none.
        mean: The mean test error and its 95 % interval, as `evaluate` gives it; None without predictions.
        median: The median, likewise.
        units: What the intervals' bootstrap drew: `108 places`, `72 blocks of 30 km`; None without predictions.
    """

    data: str | None
    result: dict[str, Any] | None = None
    mean: Interval | None = None
    median: Interval | None = None
    units: str | None = None


def read_facts(checkpoint: Path, config: Mapping[str, Any] | None, region: Region) -> RunFacts:
    """Reads what the run that a checkpoint belongs to left.

    Args:
        checkpoint: Of a run folder (in its `checkpoints`), or any other.
        config: The run's, as the checkpoint records it; None where it does not.
        region: The run's, for the blocks of its intervals.

    Raises:
        CheckpointError: result.json or predictions_test.csv is there and broken.
    """
    kind, run = source_from_config(config or {}).kind, checkpoint.parent.parent
    data = None if kind is None else kind.name
    if checkpoint.parent.name != "checkpoints" or not (run / "result.json").is_file():
        return RunFacts(data)
    try:
        result = json.loads((run / "result.json").read_bytes())
        count = int(result["test"]["places"])
        file = run / "predictions_test.csv"
        if not file.is_file():
            return RunFacts(data, result)
        table = pd.read_csv(file)
        predicted_deg = table[POINT].to_numpy(float)
        true_deg = table[[f"true_{name}" for name in POINT]].to_numpy(float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError.at(
            str(run), f"must hold a whole result.json and predictions_test.csv ({first_line(error)})"
        ) from error
    if len(table) != count or count == 0:
        return RunFacts(data, result)
    found = compute_metrics(predicted_deg, true_deg, region, **EVALUATE)
    mean, median = (Interval(**found["error_km"][name]) for name in ("mean", "median"))
    return RunFacts(data, result, mean, median, found["units"])


def make_card(
    locator: Predictor,
    facts: RunFacts,
    license_name: str | None,
    files: dict[str, str],
    checks: list[dict[str, str]],
) -> ModelCard:
    """The card of an exported model.

    Args:
        locator: The model.
        facts: Of its run.
        license_name: Of its weights; None where none is stated.
        files: Name -> what it is.
        checks: How programs differ from torch, for its table.
    """
    head = locator.network.head.state()
    decoder = head.get("decoder")
    return ModelCard(
        region=locator.region.name,
        views=locator.image.name,
        head=head["kind"],
        decoder=None if decoder is None else str(decoder["kind"]),
        cells=None if locator.network.head.grid is None else locator.network.head.grid.num_cells,
        backbone=locator.network.backbone.name,
        data=facts.data,
        result=facts.result,
        mean=facts.mean,
        median=facts.median,
        units=facts.units,
        calibration_places=0 if locator.uncertainty is None else locator.uncertainty.places,
        license=license_name,
        files=files,
        checks=checks,
        versions=collect_versions(),
    )
