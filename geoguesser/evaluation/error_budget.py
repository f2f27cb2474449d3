"""Error budget: the contributions of groups of places to a run's mean error, and the part due to the grid.

Each table splits the test places into groups whose contributions sum to the mean error. With errors e_i of N
places, group G contributes

    km_G = sum over i in G of e_i / N.

The floor f_i is the error of a prediction at the class point of the true cell: the least error of a model that
predicts class points only. The part min(e_i, f_i) of an error counts as floor, the rest as excess.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray, StringArray
from geoguesser.geo.distance import chord_to_km, from_unit, haversine_km, to_unit
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.uncertainty import HeadOutput

# Parts of the land with fewer test places are merged.
MIN_PLACES_IN_PART = 10
ELSEWHERE = "elsewhere"
COMPASS = (
    ("south-west", "south", "south-east"),
    ("west", "centre", "east"),
    ("north-west", "north", "north-east"),
)

# Boxes that roughly hold the continents: south, north, west, east in degrees. The first box that fits counts.
CONTINENTS = {
    "Europe": (36, 82, -25, 45),
    "Africa": (-36, 38, -19, 52),
    "Oceania": (-50, -10, 110, 180),
    "Asia": (-11, 82, 26, 180),
    "South America": (-57, 13, -93, -30),
    "North America": (7, 84, -180, -11),
}

# Order of the parts in a table: from north-west to south-east, then the continents.
PART_ORDER = (*(name for row in reversed(COMPASS) for name in row), *CONTINENTS, ELSEWHERE)

DISTANCE_EDGES_KM = (1.0, 5.0, 20.0, 50.0)
DISTANCE_NAMES = ("below 1", "1 to 5", "5 to 20", "20 to 50", "above 50")


def compute_budget(
    *,
    error_km: FloatArray,
    test_deg: FloatArray,
    train_deg: FloatArray,
    region: Region,
    grid: Grid | None,
    output: HeadOutput,
) -> dict[str, Any]:
    """Computes the part `budget` of result.json, from the errors and the head's output for N test places.

    Errors are (N,), test places (N, 2) and training places (M, 2), N and M at least 1. The grid is None for a head
    without cells; floors and `by_cell` are then null.

    Returns:
        error_km_mean, floor_km_mean, and three tables of groups by name: `by_cell` (right, neighbouring, far),
        `by_part` of the land and `by_nearest_training_km`. A group has places, share of places, error_km_mean
        (null if it is empty), and its contributions to the mean error: km = floor_km + excess_km.
    """
    floor_km, by_cell = None, None
    if grid is not None and output.logits is not None and output.vectors is not None:
        cell, predicted = grid.assign(test_deg), output.logits.argmax(axis=1)
        floor_km = compute_floors_km(output.vectors, cell, test_deg)
        near = find_touching_cells(grid, predicted, cell)
        groups = {"right": predicted == cell, "neighbouring": near & (predicted != cell), "far": ~near}
        by_cell = _summarise_groups(groups, error_km, floor_km)

    names = name_parts(region, train_deg, test_deg)
    parts = {name: names == name for name in PART_ORDER if name in names}
    interval = np.searchsorted(DISTANCE_EDGES_KM, compute_nearest_km(train_deg, test_deg), side="right")
    distances = {name: interval == number for number, name in enumerate(DISTANCE_NAMES)}
    return {
        "error_km_mean": float(error_km.mean()),
        "floor_km_mean": None if floor_km is None else float(floor_km.mean()),
        "by_cell": by_cell,
        "by_part": _summarise_groups(parts, error_km, floor_km),
        "by_nearest_training_km": _summarise_groups(distances, error_km, floor_km),
    }


def _summarise_groups(
    groups: dict[str, BoolArray], error_km: FloatArray, floor_km: FloatArray | None
) -> dict[str, Any]:
    count, table = len(error_km), {}
    for name, inside in groups.items():
        errors = error_km[inside]

        # Contributions to the mean error of all places.
        km = float(errors.sum()) / count
        floor = None if floor_km is None else float(np.minimum(errors, floor_km[inside]).sum()) / count
        table[name] = {
            "places": len(errors),
            "share": len(errors) / count,
            "error_km_mean": float(errors.mean()) if len(errors) else None,
            "km": km,
            "floor_km": floor,
            "excess_km": None if floor is None else km - floor,
        }
    return table


def compute_floors_km(vectors: FloatArray, cell: IntArray, test_deg: FloatArray) -> FloatArray:
    """Returns (N,) the errors of predictions at the class points of the true cells.

    The unit vectors of the class points are (K, 3), or (N, K, 3) if they differ by place.
    """
    points = vectors[cell] if vectors.ndim == 2 else vectors[np.arange(len(cell)), cell]
    return haversine_km(from_unit(points), test_deg)


def find_touching_cells(grid: Grid, left: IntArray, right: IntArray) -> BoolArray:
    """Returns (N,) whether pairs of classes are the same or their cells touch, at least at a corner."""
    touch = np.asarray(grid.neighbours[left, right]).ravel()
    return (left == right) | touch.astype(bool)


def compute_nearest_km(train_deg: FloatArray, test_deg: FloatArray) -> FloatArray:
    """Returns (N,) the great-circle distance of each test place to the nearest training place."""
    chords, _ = cKDTree(to_unit(train_deg)).query(to_unit(test_deg))
    return chord_to_km(np.asarray(chords))


def name_parts(region: Region, train_deg: FloatArray, test_deg: FloatArray) -> StringArray:
    """Returns (N,) the name of the part of the land of each test place, `elsewhere` for parts with few places.

    Parts of a plane region are the nine fields of a 3 x 3 raster over the training places, named by the compass.
    Parts of the world are boxes of degrees that roughly hold the continents.
    """
    if isinstance(region, PlaneRegion):
        train_m = region.to_metres(train_deg)
        low, span = train_m.min(axis=0), np.maximum(np.ptp(train_m, axis=0), 1.0)
        column, row = np.clip((region.to_metres(test_deg) - low) / span * 3, 0, 2).astype(np.int64).T
        names = np.array(COMPASS)[row, column]
    else:
        latitude, longitude = test_deg.T
        inside = [
            (latitude >= south) & (latitude < north) & (longitude >= west) & (longitude <= east)
            for south, north, west, east in CONTINENTS.values()
        ]
        names = np.select(inside, list(CONTINENTS), default=ELSEWHERE)

    parts, number, count = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(count[number] >= MIN_PLACES_IN_PART, parts[number], ELSEWHERE)


def format_error_budget(budget: dict[str, Any]) -> str | None:
    """Returns one line for the terminal; None for a head without cells."""
    by_cell = budget["by_cell"]
    if by_cell is None:
        return None

    floor = sum(group["floor_km"] for group in by_cell.values())
    excess = {name: group["excess_km"] for name, group in by_cell.items()}
    return (
        f"mean error {budget['error_km_mean']:.1f} km = floor of the grid {floor:.1f}, off in the right cell "
        f"{excess['right']:.1f}, neighbouring cell {excess['neighbouring']:.1f}, far confusion {excess['far']:.1f}"
    )
