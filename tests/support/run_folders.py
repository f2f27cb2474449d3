"""Run folders for tests of comparisons, with errors chosen by the test."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from geoguesser.commands.compare import load_choices, read_config
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import Comparison, compare_groups
from geoguesser.geo.region import Region
from geoguesser.runs.run_folder import read_runs

QUICK = BootstrapSettings(samples=1000)
KM_PER_DEGREE = 6371.0088 * np.pi / 180.0
CONFIG: dict[str, Any] = {
    "region": {"_target_": "geoguesser.geo.region.country", "code": "HRV", "crs": "EPSG:3765"},
    "split": {"_target_": "geoguesser.data.splits.RandomSplit", "shares": [0.8, 0.1, 0.1], "seed": 0},
    "data": {
        "_target_": "geoguesser.data.sources.places.PlacesDataModule",
        "roots": ["/home/alice/photos"],
        "num_workers": None,
    },
    "grid": {"_target_": "geoguesser.geo.grid.SquareGrid", "size": 60},
    "head": {"_target_": "geoguesser.model.heads.classification.ClassificationHead.fit"},
    "logger": {"_target_": "geoguesser.tracking.loggers.CsvRunLogger"},
    "callbacks": {"early_stopping": {"_target_": "geoguesser.x.EarlyStopping", "patience": 10}},
    "seed": 0,
    "name": None,
}


def make_places(count: int, seed: int = 0) -> pd.DataFrame:
    """Makes a table of places in the middle of Croatia: uuid, true_latitude, true_longitude."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "uuid": [f"place-{seed}-{number:04d}" for number in range(count)],
            "true_latitude": random.uniform(45.3, 45.8, count),
            "true_longitude": random.uniform(15.6, 18.0, count),
        }
    )


def make_errors(seed: int, count: int = 200, spread_km: float = 4.0) -> np.ndarray:
    """Makes errors of places in kilometres: the difficulty of each place, shared by all runs, and noise."""
    difficulty_km = np.random.default_rng(0).gamma(2.0, 15.0, count)
    return np.abs(difficulty_km + spread_km * np.random.default_rng(100 + seed).normal(size=count))


def write_run(
    folder: Path,
    places: pd.DataFrame,
    error_km: np.ndarray,
    *,
    changes: dict[str, Any] | None = None,
    val_km: float = 50.0,
    fit_s: float = 10.0,
    state: str = "done",
    data: str = "a",
) -> Path:
    """Writes the folder of a run whose predictions lie `error_km` south of the places.

    Args:
        folder: Folder to make.
        places: Table from `make_places`.
        error_km: Error of each place.
        changes: Maps dotted config keys to values; a key that ends in `-` is removed.
        val_km: Mean validation error.
        fit_s: Training time in seconds.
        state: State in status.json.
        data: Name of the data in the fingerprint.
    """
    folder.mkdir(parents=True)
    config = copy.deepcopy(CONFIG)
    for key, value in (changes or {}).items():
        *parents, last = key.removesuffix("-").split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        if key.endswith("-"):
            del node[last]
        else:
            node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "status.json").write_text(json.dumps({"state": state}))
    if state != "done":
        return folder

    table = places.assign(
        latitude=places["true_latitude"] - np.asarray(error_km) / KM_PER_DEGREE,
        longitude=places["true_longitude"],
        error_km=error_km,
    )
    table.to_csv(folder / "predictions_test.csv", index=False)
    history = pd.DataFrame({"epoch": range(3), "val/error_km_mean": [2 * val_km, 1.2 * val_km, val_km]})
    history.to_csv(folder / "metrics.csv", index=False)

    fingerprint = dict.fromkeys(("ids", "coordinates", "masks", "views"), data)
    result = {
        "format": 1,
        "test": {"error_km_mean": float(np.mean(error_km)), "error_km_median": float(np.median(error_km))},
        "val": {"error_km_mean": val_km},
        "times": {"fit_s": fit_s, "total_s": fit_s + 5.0},
        "data": {**fingerprint, "splits": "s", "image": "px56-crop"},
        "epochs": 3,
        "device": "cpu",
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def compare_folders(
    region: Region, folders: Sequence[Path], settings: BootstrapSettings = QUICK, **more: Any
) -> Comparison:
    """Compares the runs of folders."""
    runs, unused = read_runs([str(folder) for folder in folders], read_config)
    return compare_groups(runs, unused, region, settings, choices=load_choices(), **more)
