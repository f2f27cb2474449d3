"""Results of a run: parts of result.json, the tables of predictions and places, and the table in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.datamodule import PlacesData
from geoguesser.evaluation.error_budget import format_error_budget
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.text import format_count

# Version of result.json.
RESULT_FORMAT_VERSION = 1
SPLITS = ("train", "val", "test", "unused")
BASELINES = {
    "ridge": "ridge on features",
    "nearest_features": "nearest training place by features",
    "nearest": "nearest training place by pixels",
    "best_constant": "best constant",
}


def make_predictions_table(data: PlacesData, rows: IntArray, predicted_deg: FloatArray) -> pd.DataFrame:
    """Returns uuid, latitude, longitude, true_latitude, true_longitude and error_km of predicted places."""
    true_deg = data.coords_deg[rows]
    table = pd.DataFrame({"uuid": data.table["uuid"].to_numpy()[rows]})
    table[["latitude", "longitude"]] = predicted_deg
    table[["true_latitude", "true_longitude"]] = true_deg
    return table.assign(error_km=haversine_km(predicted_deg, true_deg))


def make_places_table(data: PlacesData, region: Region, grid: Grid | None) -> pd.DataFrame:
    """Returns the split of each place, its coordinates, and whether it is a calibration place.

    Coordinates in the CRS are added for plane regions; the cell, its class point (the position that it predicts)
    and `inside_cell` for heads with cells.
    """
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


def summarise_grid(grid: Grid | None, requested_cells: int | None, test_deg: FloatArray) -> dict[str, Any] | None:
    """Returns the entry `grid` of result.json; None for a head without cells.

    The error floor is the mean distance from the (N, 2) test places in degrees to the class points of their cells:
    the error if every cell was predicted correctly. `requested_cells` is None if a grid has no such setting.
    """
    if grid is None:
        return None
    floor = haversine_km(grid.class_points_deg[grid.assign(test_deg)], test_deg)

    return {
        "asked": requested_cells,
        "touch_land": len(grid.touching),
        "hold_training_places": grid.num_cells,
        "side_km": grid.side_km,
        "error_floor_km_mean": float(floor.mean()),
        "test_places_outside_cells": int((~grid.inside(test_deg)).sum()),
    }


def count_places(data: PlacesData) -> dict[str, Any]:
    """Returns the entry `counts` of result.json: places by split, views not in use, and findings that skipped."""
    splits = data.table["split"].value_counts()
    return {
        "places": len(data.table),
        **{name: int(splits.get(name, 0)) for name in SPLITS},
        "masked_views": int((~data.mask).sum()),
        "skipped": data.findings.count_skipped(),
    }


def describe_data(data: PlacesData) -> str:
    """Returns a line with the number of places by split."""
    counts = count_places(data)
    parts = ", ".join(f"{counts[name]} {name}" for name in SPLITS if counts[name])
    return f"places: {counts['places']} ({parts})"


def print_result(result: dict[str, Any], folder: Path) -> None:
    """Prints the table at the end of a run, and its folder."""
    test, baselines = result["test"], result["baseline"]
    table = Table(title=f"Test, {format_count(test['places'], 'place')}", title_justify="left")
    for column in ("", "mean km", "median km", "p90 km", "within 25 km", "score"):
        table.add_column(column, justify="left" if not column else "right")

    rows = {"this model": test} | {label: baselines[name] for name, label in BASELINES.items()}
    for label, row in rows.items():
        # Baselines that use features are None if features were not cached.
        if row is None:
            continue
        errors = [f"{row[f'error_km_{name}']:.1f}" for name in ("mean", "median", "p90")]
        table.add_row(label, *errors, f"{row['share_within_km']['25']:.1%}", f"{row['score_mean']:.0f}")

    lines = [
        f"Best epoch {result['best_epoch'] + 1} of {result['epochs']}; seed {result['seed']}; "
        f"{result['times']['total_s']:.0f} s in total"
    ]
    if (grid := result["grid"]) is not None:
        requested = f"{grid['asked']} cells requested, " if grid["asked"] is not None else ""
        lines.append(
            f"{requested}{grid['touch_land']} on land, {grid['hold_training_places']} with training places "
            f"({grid['side_km']:.1f} km wide); correct cell {test['cell_top1']:.1%}, "
            f"in the top five {test['cell_top5']:.1%}; "
            f"error floor of the grid {grid['error_floor_km_mean']:.1f} km"
        )
    if (budget := format_error_budget(result["budget"])) is not None:
        lines.append(budget)

    console = TextConsole()
    console.print(table)
    for line in (*lines, f"Run folder: {folder}"):
        console.print(line, markup=False)
