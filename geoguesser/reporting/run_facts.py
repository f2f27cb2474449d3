"""Run facts: what a run folder knows of its model, for the model's card: its data, its result, intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from geoguesser.errors import CheckpointError, first_line
from geoguesser.locator import Locator
from geoguesser.reporting.bootstrap import Resampling
from geoguesser.reporting.intervals import Interval, mean_interval, median_interval
from geoguesser.reporting.model_card import Card
from geoguesser.reporting.result import versions

KINDS = {"demo_data": "demo", "PlacesDataModule": "places", "StoreDataModule": "store"}
SAMPLES = 2000
FEWEST = 20  # places for an interval


class RunFacts(NamedTuple):
    """What is known beside the checkpoint.

    Attributes:
        data: `demo`, `places` or `store`; None where it is not known.
        result: result.json; None where there is none.
        mean: The mean test error and its 95 % interval over places; None where there are no predictions.
        median: The median, likewise.
    """

    data: str | None
    result: dict[str, Any] | None = None
    mean: Interval | None = None
    median: Interval | None = None


def read_facts(checkpoint: Path, config: Mapping[str, Any] | None) -> RunFacts:
    """Reads what the run that a checkpoint belongs to left.

    Args:
        checkpoint: Of a run folder (in its `checkpoints`), or any other.
        config: The run's, as the checkpoint records it; None where it does not.

    Raises:
        CheckpointError: result.json or predictions_test.csv is there and broken.
    """
    target = str(((config or {}).get("data") or {}).get("_target_", "")).rsplit(".", 1)[-1]
    data, run = KINDS.get(target), checkpoint.parent.parent
    if checkpoint.parent.name != "checkpoints" or not (run / "result.json").is_file():
        return RunFacts(data)
    try:
        result = json.loads((run / "result.json").read_bytes())
        count = int(result["test"]["places"])
        table = run / "predictions_test.csv"
        error_km = pd.read_csv(table)["error_km"].to_numpy(np.float64) if table.is_file() else np.zeros(0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError.at(
            str(run), f"must hold a whole result.json and predictions_test.csv ({first_line(error)})"
        ) from error
    if len(error_km) != count or count < FEWEST:
        return RunFacts(data, result)
    resampling = Resampling(np.arange(count), samples=SAMPLES, seed=0)
    mean = mean_interval(resampling.mean(error_km), 0.95)
    return RunFacts(data, result, mean, median_interval(resampling, error_km, 0.95))


def card_of(
    locator: Locator,
    facts: RunFacts,
    license_name: str | None,
    files: dict[str, str],
    checks: list[dict[str, str]],
) -> Card:
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
    return Card(
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
        calibration_places=0 if locator.uncertainty is None else locator.uncertainty.places,
        license=license_name,
        files=files,
        checks=checks,
        versions=versions(),
    )
