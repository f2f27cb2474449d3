"""Chooses and restores partitions: by side, by number of cells, from a saved state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from geoguesser.errors import look_up_kind
from geoguesser.geo.cells.base import Cells, check_count
from geoguesser.geo.cells.quadtree import QuadtreeCells
from geoguesser.geo.cells.square import BandCells, SquareCells, StripCells
from geoguesser.geo.cells.voronoi import VoronoiCells
from geoguesser.geo.region import PlaneRegion, Region

BISECTIONS = 16
TOLERANCE = 0.005  # relative error of the count with which the search ends


def make_cells_of_side(region: Region, side_km: float, phase: tuple[float, float] = (0.0, 0.0)) -> Cells:
    """Makes the partition of one side for a region: squares if it has a plane, else equal areas."""
    if isinstance(region, PlaneRegion):
        return SquareCells.over(region, side_km, phase)
    return BandCells.over(region, side_km)


def make_cells_by_count(region: Region, size: int) -> Cells:
    """Finds the partition of which `size` cells touch the land, within 2 % from 60 up.

    The count falls as the side grows, but in jumps, because the raster moves with the side. Bisection finds the
    neighbourhood of the side. Then sides within 15 % of it are tried, in the plane also with rasters moved by
    quarters of a side, until the count is within TOLERANCE of `size`. If none is, the nearest count wins.

    Raises:
        ConfigError: The partition would have too many cells.
    """
    # Before the search, which would be long: the partition has at least `size` cells.
    check_count(size)

    # On the sphere, sides that are near each other make the same cells.
    @cache
    def count_bands(bands: tuple[int, ...]) -> int:
        return len(BandCells(list(bands)).touching(region))

    def count(cells: Cells) -> int:
        if isinstance(cells, BandCells):
            return count_bands(tuple(cells.cells_per_band))
        return len(cells.touching(region))

    # Bracket the side: `coarse` has enough cells, 1.5 times as much does not.
    coarse = 2.0 * region.diagonal_km / np.sqrt(size)
    while count(make_cells_of_side(region, coarse)) < size:
        coarse /= 1.5

    # Bisect by the geometric mean, so that the relative error halves.
    low, high = coarse, coarse * 1.5
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if count(make_cells_of_side(region, middle)) > size else (low, middle)

    # Try the neighbourhood, the nearest sides first.
    quarters = (0.0, 0.25, 0.5, 0.75)
    phases = [(x, y) for x in quarters for y in quarters] if isinstance(region, PlaneRegion) else [(0.0, 0.0)]
    best, best_miss = make_cells_of_side(region, high), math.inf
    for phase in phases:
        for shift in sorted(np.linspace(-0.15, 0.15, 61), key=abs):
            cells = make_cells_of_side(region, high * float(np.exp(shift)), phase)
            miss = abs(count(cells) - size)
            if miss < best_miss:
                best, best_miss = cells, miss
            if miss <= TOLERANCE * size:
                return best

    return best


# Subclasses take the values of their `state`, except its kind, as keywords.
CELLS: dict[str, Callable[..., Cells]] = {
    "square": SquareCells,
    "band": BandCells,
    "quadtree": QuadtreeCells,
    "voronoi": VoronoiCells,
    "strips": StripCells,
}


def restore_cells(state: dict[str, Any]) -> Cells:
    """Restores the partition that `Cells.state` described; UnknownKindError if no module registers its kind."""
    make = look_up_kind("grid.cells", CELLS, state["kind"])
    return make(**{key: value for key, value in state.items() if key != "kind"})
