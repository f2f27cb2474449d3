"""A run's results: result.json, predictions_test.csv, places.csv and the short table in the terminal."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from geoguesser.arrays import FloatArray
from geoguesser.data.datamodule import PlacesData
from geoguesser.evaluation.error_budget import format_budget
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.metrics import summarise_errors
from geoguesser.system.text import format_count
from geoguesser.system.versions import __version__

FORMAT = 1


def make_predictions_table(data: PlacesData, index: Any, predicted_deg: FloatArray) -> pd.DataFrame:
    """One row per predicted place: uuid, latitude, longitude, true_latitude, true_longitude, error_km."""
    truth = data.coords_deg[index]
    return pd.DataFrame(
        {
            "uuid": data.table["uuid"].to_numpy()[index],
            "latitude": predicted_deg[:, 0],
            "longitude": predicted_deg[:, 1],
            "true_latitude": truth[:, 0],
            "true_longitude": truth[:, 1],
            "error_km": haversine_km(predicted_deg, truth),
        }
    )


def make_places_table(data: PlacesData, region: Region, grid: Grid | None) -> pd.DataFrame:
    """One row per place: split, CRS coordinates, cell and class point (empty without), whether it calibrates."""
    table = data.table[["uuid", "latitude", "longitude", "split"]].copy()
    if isinstance(region, PlaneRegion):
        table[["x_m", "y_m"]] = np.round(region.to_metres(data.coords_deg), 2)
    if grid is not None:
        cell = grid.assign(data.coords_deg)
        table["cell"] = cell
        table[["class_latitude", "class_longitude"]] = grid.class_points_deg[cell]
        table["inside_cell"] = grid.inside(data.coords_deg)
    table["calibration"] = np.isin(np.arange(len(table)), data.rows["calibration"])
    return table


def summarise_test(predictions: pd.DataFrame, hits: dict[str, float | None], diagonal_km: float) -> dict[str, Any]:
    """The `test` part of result.json; a head without cells has null for its hits."""
    summary = summarise_errors(predictions["error_km"].to_numpy(), diagonal_km)
    return {"places": len(predictions), **summary, **hits}


def summarise_grid(grid: Grid | None, asked: int | None, test_deg: FloatArray) -> dict[str, Any] | None:
    """The `grid` part: counts, side, and the error floor, the mean error with every cell guessed right."""
    if grid is None:
        return None
    floor = haversine_km(grid.class_points_deg[grid.assign(test_deg)], test_deg)
    return {
        "asked": asked,
        "touch_land": len(grid.touching),
        "hold_training_places": grid.num_cells,
        "side_km": grid.side_km,
        "error_floor_km_mean": float(floor.mean()),
        "test_places_outside_cells": int((~grid.inside(test_deg)).sum()),
    }


def count_places(data: PlacesData) -> dict[str, Any]:
    """Places by split, and what was skipped by kind."""
    splits = data.table["split"].value_counts()
    names = ("train", "val", "test", "unused")
    return {
        "places": len(data.table),
        **{name: int(splits.get(name, 0)) for name in names},
        "masked_views": int((~data.mask).sum()),
        "skipped": data.findings.count_skipped(),
    }


def describe_data(data: PlacesData) -> str:
    """One line: how many places there are, by split."""
    counts = count_places(data)
    parts = ", ".join(f"{counts[name]} {name}" for name in ("train", "val", "test", "unused") if counts[name])
    return f"places: {counts['places']} ({parts})"


def collect_versions() -> dict[str, str]:
    """Versions of what results depend on."""
    from importlib.metadata import version

    packages = ("torch", "torchvision", "pytorch-lightning", "timm", "numpy", "pyproj", "shapely")
    return {"geoguesser": __version__, "python": platform.python_version()} | {
        name: version(name) for name in packages
    }


def print_result(result: dict[str, Any], folder: Path) -> None:
    """Prints the short table that ends a run, and the folder's name."""
    test, baseline = result["test"], result["baseline"]
    table = Table(title=f"Test, {format_count(test['places'], 'place')}", title_justify="left")
    for column in ("", "mean km", "median km", "p90 km", "within 25 km", "score"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {
        "this model": test,
        "ridge on features": baseline["ridge"],
        "nearest by features": baseline["nearest_features"],
        "nearest look-alike": baseline["nearest"],
        "best constant": baseline["best_constant"],
    }
    for name, row in rows.items():
        if row is None:
            continue
        table.add_row(
            name,
            f"{row['error_km_mean']:.1f}",
            f"{row['error_km_median']:.1f}",
            f"{row['error_km_p90']:.1f}",
            f"{row['share_within_km']['25']:.1%}",
            f"{row['score_mean']:.0f}",
        )
    lines = [
        f"Best epoch {result['best_epoch'] + 1} of {result['epochs']}; seed {result['seed']}; "
        f"{result['times']['total_s']:.0f} s in all"
    ]
    grid = result["grid"]
    if grid is not None:
        top1, top5 = test["cell_top1"], test["cell_top5"]
        asked = f"{grid['asked']} cells asked, " if grid["asked"] is not None else ""
        lines.append(
            f"{asked}{grid['touch_land']} touch land, {grid['hold_training_places']} hold training places "
            f"({grid['side_km']:.1f} km wide); right cell {top1:.1%}, among five {top5:.1%}; "
            f"error floor of the grid {grid['error_floor_km_mean']:.1f} km"
        )
    sources = format_budget(result["budget"])
    if sources is not None:
        lines.append(sources)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for line in lines:
        console.print(line, markup=False)
    console.print(f"Run folder: {folder}", markup=False)
