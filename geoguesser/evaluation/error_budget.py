"""The error budget: which places a run's mean error comes from, and what of it the grid alone explains.

Each table splits the test places into groups; what the groups contribute sums to the mean error. Pure functions.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray, StringArray
from geoguesser.geo.distance import chord_to_km, from_unit, haversine_km, to_unit
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.uncertainty import HeadOutput

MIN_PLACES_IN_PART = 10  # test places; parts of the land with fewer are told together
ELSEWHERE = "elsewhere"
COMPASS = (
    ("south-west", "south", "south-east"),
    ("west", "centre", "east"),
    ("north-west", "north", "north-east"),
)
# Boxes that roughly hold the continents: south, north, west, east in degrees; the first that fits counts.
CONTINENTS = {
    "Europe": (36, 82, -25, 45),
    "Africa": (-36, 38, -19, 52),
    "Oceania": (-50, -10, 110, 180),
    "Asia": (-11, 82, 26, 180),
    "South America": (-57, 13, -93, -30),
    "North America": (7, 84, -180, -11),
}
DISTANCE_EDGES_KM = (1.0, 5.0, 20.0, 50.0)


def compute_budget(
    *,
    error_km: FloatArray,
    test_deg: FloatArray,
    train_deg: FloatArray,
    region: Region,
    grid: Grid | None,
    said: HeadOutput,
) -> dict[str, Any]:
    """The `budget` part of result.json.

    Args:
        error_km: (N,) errors of the test places, N at least 1.
        test_deg: (N, 2) where they are.
        train_deg: (M, 2) the training places, M at least 1.
        region: The land.
        grid: The head's; None for a head without cells, whose floors and `by_cell` are null.
        said: What the head says of the test places.

    Returns:
        error_km_mean; floor_km_mean, the mean error if every answer were the true cell's point; and three tables,
        name -> group: `by_cell` (right, neighbouring, far), `by_part` of the land and `by_nearest_training_km`.
        A group has places, share of places, error_km_mean (null where it is empty), and km, what it adds to the
        mean error: floor_km, what the true cell's point would miss as well (never more than the error), and
        excess_km, the rest.
    """
    floor_km, by_cell = None, None
    if grid is not None and said.logits is not None and said.vectors is not None:
        cell = grid.assign(test_deg)
        floor_km = compute_floors_km(said.vectors, cell, test_deg)
        chosen = said.logits.argmax(axis=1)
        near = find_touching_cells(grid, chosen, cell)
        groups = {"right": chosen == cell, "neighbouring": near & (chosen != cell), "far": ~near}
        by_cell = _table(groups, error_km, floor_km)
    distance_km = compute_nearest_km(train_deg, test_deg)
    return {
        "error_km_mean": float(error_km.mean()),
        "floor_km_mean": None if floor_km is None else float(floor_km.mean()),
        "by_cell": by_cell,
        "by_part": _table(_masks(name_parts(region, train_deg, test_deg)), error_km, floor_km),
        "by_nearest_training_km": _table(_bins(distance_km), error_km, floor_km),
    }


def _table(groups: dict[str, BoolArray], error_km: FloatArray, floor_km: FloatArray | None) -> dict[str, Any]:
    return {name: _group(inside, error_km, floor_km) for name, inside in groups.items()}


def _group(inside: BoolArray, error_km: FloatArray, floor_km: FloatArray | None) -> dict[str, Any]:
    count, own = len(error_km), error_km[inside]
    km = float(own.sum()) / count
    floor = None if floor_km is None else float(np.minimum(own, floor_km[inside]).sum()) / count
    return {
        "places": len(own),
        "share": len(own) / count,
        "error_km_mean": float(own.mean()) if len(own) else None,
        "km": km,
        "floor_km": floor,
        "excess_km": None if floor is None else km - floor,
    }


def compute_floors_km(vectors: FloatArray, cell: IntArray, test_deg: FloatArray) -> FloatArray:
    """(N,) the error had the answer been the true cell's point.

    Args:
        vectors: (K, 3) unit vectors of the cells' points, or (N, K, 3) where they differ by place.
        cell: (N,) true cells.
        test_deg: (N, 2) the places.
    """
    own = vectors[cell] if vectors.ndim == 2 else vectors[np.arange(len(cell)), cell]
    return haversine_km(from_unit(own), test_deg)


def find_touching_cells(grid: Grid, left: IntArray, right: IntArray) -> BoolArray:
    """(N,) whether pairs of classes are the same or their cells touch, at a corner at least."""
    touch = np.asarray(grid.neighbours[left, right]).ravel()
    return (left == right) | touch.astype(bool)


def compute_nearest_km(train_deg: FloatArray, test_deg: FloatArray) -> FloatArray:
    """(N,) great-circle distance of each test place to the nearest training place."""
    chords = cKDTree(to_unit(train_deg)).query(to_unit(test_deg))[0]
    return chord_to_km(np.asarray(chords))


def _bins(distance_km: FloatArray) -> dict[str, BoolArray]:
    number = np.searchsorted(DISTANCE_EDGES_KM, distance_km, side="right")
    names = [f"below {DISTANCE_EDGES_KM[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in itertools.pairwise(DISTANCE_EDGES_KM)]
    names.append(f"above {DISTANCE_EDGES_KM[-1]:g}")
    return {name: number == at for at, name in enumerate(names)}


def name_parts(region: Region, train_deg: FloatArray, test_deg: FloatArray) -> StringArray:
    """(N,) the name of the part of the land where each test place lies, `elsewhere` for parts that hold few.

    In the plane: the nine fields of a 3 x 3 raster over the training places, named by the compass. For the world:
    boxes of degrees that roughly hold the continents.
    """
    names = _compass(region, train_deg, test_deg) if isinstance(region, PlaneRegion) else _continents(test_deg)
    found, number, count = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(count[number] >= MIN_PLACES_IN_PART, found[number], ELSEWHERE)


def _compass(region: PlaneRegion, train_deg: FloatArray, test_deg: FloatArray) -> StringArray:
    train_m = region.to_metres(train_deg)
    low, span = train_m.min(axis=0), np.maximum(np.ptp(train_m, axis=0), 1.0)
    column, row = np.clip((region.to_metres(test_deg) - low) / span * 3, 0, 2).astype(np.int64).T
    return np.array(COMPASS)[row, column]


def _continents(test_deg: FloatArray) -> StringArray:
    latitude, longitude = test_deg.T
    inside = [
        (latitude >= south) & (latitude < north) & (longitude >= west) & (longitude <= east)
        for south, north, west, east in CONTINENTS.values()
    ]
    return np.select(inside, list(CONTINENTS), default=ELSEWHERE)


def _masks(names: StringArray) -> dict[str, BoolArray]:
    """Name -> (N,) its places: from north-west to south-east, or in the order of the continents."""
    order = [name for row in reversed(COMPASS) for name in row] + [*CONTINENTS, ELSEWHERE]
    there = set(names.tolist())
    return {name: names == name for name in order if name in there}


def format_budget(found: dict[str, Any]) -> str | None:
    """One line for the terminal; None for a head without cells."""
    by_cell = found["by_cell"]
    if by_cell is None:
        return None
    floor = sum(group["floor_km"] for group in by_cell.values())
    excess = {name: group["excess_km"] for name, group in by_cell.items()}
    return (
        f"mean error {found['error_km_mean']:.1f} km = the grid's {floor:.1f}, off in the right cell "
        f"{excess['right']:.1f}, neighbouring cell {excess['neighbouring']:.1f}, far confusion {excess['far']:.1f}"
    )
