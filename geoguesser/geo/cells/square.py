"""Square cells: true squares in the plane, near-squares of equal area on the sphere; and how many cells are laid.

What a partition is stands in geo/partition.py; geo/grid.py makes classes from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import shapely

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import MAX_CELLS, BoxCells, Cells, box_rings, check_count
from geoguesser.geo.cells.overlay import StripCells
from geoguesser.geo.cells.quadtree import QuadtreeCells
from geoguesser.geo.cells.voronoi import VoronoiCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, Region

__all__ = ["BandCells", "Cells", "IntArray", "SquareCells", "cells_for", "cells_from_state", "cells_over"]


class SquareCells(BoxCells):
    """True squares in the CRS's metres, numbered row by row from the south-west.

    A square takes in its western and southern edges, so a point on a shared edge lies in exactly one.

    Args:
        west_m: The western edge, an easting.
        south_m: The southern edge, a northing.
        side_m: The side.
        columns: How many squares from west to east.
        rows: How many from south to north.
    """

    sphere = False

    def __init__(self, west_m: float, south_m: float, side_m: float, columns: int, rows: int) -> None:
        self.west_m, self.south_m, self.side_m = west_m, south_m, side_m
        self.columns, self.rows = columns, rows
        self.side_km = side_m / 1000.0
        self.count = columns * rows

    @classmethod
    def over(cls, region: PlaneRegion, side_km: float, phase: tuple[float, float] = (0.0, 0.0)) -> SquareCells:
        """The squares of one side, centred on the bounding box of the land, then moved by a phase.

        Args:
            region: The land.
            side_km: The side.
            phase: How far to move the raster east and north, in sides, from 0 to 1.
        """
        side = side_km * 1000.0
        west, south, east, north = region.land_m.bounds
        columns, rows = (max(1, int(np.ceil(span / side))) for span in (east - west, north - south))
        west_m, south_m = (west + east - columns * side) / 2, (south + north - rows * side) / 2
        if phase[0]:
            west_m, columns = west_m + (phase[0] - 1.0) * side, columns + 1
        if phase[1]:
            south_m, rows = south_m + (phase[1] - 1.0) * side, rows + 1
        check_count(columns * rows, side_km)
        return cls(west_m, south_m, side, columns, rows)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        column = np.floor((chart[:, 0] - self.west_m) * (1.0 / self.side_m)).astype(np.int64)
        row = np.floor((chart[:, 1] - self.south_m) * (1.0 / self.side_m)).astype(np.int64)
        ids = row * self.columns + column
        inside = (column >= 0) & (column < self.columns) & (row >= 0) & (row < self.rows)
        ids[~inside] = -1
        return ids

    def centres(self, ids: IntArray) -> FloatArray:
        x = self.west_m + (ids % self.columns + 0.5) * self.side_m
        y = self.south_m + (ids // self.columns + 0.5) * self.side_m
        return np.stack((x, y), axis=-1)

    def boxes(self, ids: IntArray) -> FloatArray:
        middle = self.centres(ids)
        return np.concatenate((middle - self.side_m / 2, middle + self.side_m / 2), axis=1)

    def outlines(self, ids: IntArray) -> FloatArray:
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * self.side_m / 2
        return self.centres(ids)[:, None, :] + corners

    def sides_km(self, ids: IntArray) -> FloatArray:
        return np.full(len(ids), self.side_km)

    def touching(self, region: Region) -> IntArray:
        assert isinstance(region, PlaneRegion)
        ids = self._under_boxes(region.parts_bounds_m)
        low = self.centres(ids) - self.side_m / 2
        boxes = shapely.box(low[:, 0], low[:, 1], low[:, 0] + self.side_m, low[:, 1] + self.side_m)
        return ids[shapely.intersects(region.land_m, boxes)]

    def _under_boxes(self, bounds_m: FloatArray) -> IntArray:
        """The ids under the bounding boxes of the land's parts: few, where islands lie far apart."""
        corners = np.concatenate((bounds_m[:, :2], bounds_m[:, 2:]))
        column = np.floor((corners[:, 0] - self.west_m) / self.side_m).astype(np.int64)
        row = np.floor((corners[:, 1] - self.south_m) / self.side_m).astype(np.int64)
        column, row = column.clip(0, self.columns - 1), row.clip(0, self.rows - 1)
        under = np.zeros((self.rows, self.columns), dtype=bool)
        for low_column, high_column, low_row, high_row in zip(
            *np.split(column, 2), *np.split(row, 2), strict=True
        ):
            under[low_row : high_row + 1, low_column : high_column + 1] = True
        return np.flatnonzero(under.ravel())

    def state(self) -> dict[str, Any]:
        names = ("west_m", "south_m", "side_m", "columns", "rows")
        return {"kind": "square", **{name: getattr(self, name) for name in names}}


class BandCells(BoxCells):
    """Near-square cells of exactly equal area on the sphere, in bands of latitude from the south.

    Band i holds `cells_per_band[i]` cells of equal width, about as wide as the band is high; the
    bands' edges are set so that every cell has the same area (the area north of a latitude is
    proportional to 1 - sin(latitude)).

    Args:
        cells_per_band: How many cells each band holds.
    """

    sphere = True

    def __init__(self, cells_per_band: list[int]) -> None:
        self.cells_per_band = [int(cells) for cells in cells_per_band]
        self._first = np.cumsum([0, *self.cells_per_band])
        self.count = int(self._first[-1])
        self.band_edges = np.clip(-1.0 + 2.0 * self._first / self.count, -1.0, 1.0)
        self.side_km = EARTH_RADIUS_KM * float(np.sqrt(4.0 * np.pi / self.count))

    @classmethod
    def over(cls, region: Region, side_km: float, *, most: int = MAX_CELLS) -> BandCells:
        """The cells of about one side; they cover the sphere, wherever the land is. At most so many are laid."""
        bands = max(1, round(np.pi * EARTH_RADIUS_KM / side_km))
        middles = -np.pi / 2 + (np.arange(bands) + 0.5) * np.pi / bands
        around = 2.0 * np.pi * EARTH_RADIUS_KM * np.cos(middles) / side_km
        cells = np.maximum(np.round(around), 1).astype(int)
        check_count(int(cells.sum()), side_km, most)
        return cls(cells.tolist())

    def locate(self, points: FloatArray) -> IntArray:
        coords_deg = from_unit(points)
        return self.locate_chart(np.stack((coords_deg[:, 1], np.sin(np.radians(coords_deg[:, 0]))), axis=-1))

    def locate_chart(self, chart: FloatArray) -> IntArray:
        longitude, sine = chart.T
        band = np.clip(np.searchsorted(self.band_edges, sine, side="right") - 1, 0, len(self.cells_per_band) - 1)
        cells = np.asarray(self.cells_per_band)[band]
        column = np.floor((longitude + 180.0) / 360.0 * cells).astype(np.int64) % cells
        return (self._first[band] + column).astype(np.int64)

    def _edges_deg(self, ids: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """South, north, west and east edge of each cell."""
        band = np.searchsorted(self._first, ids, side="right") - 1
        latitudes = np.degrees(np.arcsin(self.band_edges))
        width = 360.0 / np.asarray(self.cells_per_band)[band]
        west = -180.0 + (ids - self._first[band]) * width
        return latitudes[band], latitudes[band + 1], west, west + width

    def boxes(self, ids: IntArray) -> FloatArray:
        _, _, west, east = self._edges_deg(ids)
        band = np.searchsorted(self._first, ids, side="right") - 1
        return np.stack((west, self.band_edges[band], east, self.band_edges[band + 1]), axis=-1)

    def centres(self, ids: IntArray) -> FloatArray:
        south, north, west, east = self._edges_deg(ids)
        return to_unit(np.stack(((south + north) / 2, (west + east) / 2), axis=-1))

    def outlines(self, ids: IntArray) -> FloatArray:
        return box_rings(*self._edges_deg(ids))

    def sides_km(self, ids: IntArray) -> FloatArray:
        return np.full(len(ids), self.side_km)

    def state(self) -> dict[str, Any]:
        return {"kind": "band", "cells_per_band": self.cells_per_band}


def cells_over(region: Region, side_km: float, phase: tuple[float, float] = (0.0, 0.0)) -> Cells:
    """The partition of one side for a region: squares where it has a plane, else cells on the sphere."""
    if isinstance(region, PlaneRegion):
        return SquareCells.over(region, side_km, phase)
    return BandCells.over(region, side_km)


def cells_for(region: Region, size: int) -> Cells:
    """Finds the partition of which `size` cells touch the land.

    The count falls as the side grows, but in jumps, because the raster moves with it: bisection finds
    the neighbourhood; then sides within 15 % of it are tried, and in the plane also rasters moved by
    quarters of a side, until the count is within 0.5 % of `size`. Else the nearest count wins.

    Args:
        region: The land.
        size: The number of cells wanted.

    Returns:
        The partition; its count is within 2 % of `size` from 60 up.

    Raises:
        ConfigError: More cells would be laid than can be.
    """
    check_count(size)  # before a search: at least so many are laid

    @cache
    def counted(bands: tuple[int, ...]) -> int:
        return len(BandCells(list(bands)).touching(region))

    def count(cells: Cells) -> int:  # on the sphere, sides that are near each other make the same cells
        if isinstance(cells, BandCells):
            return counted(tuple(cells.cells_per_band))
        return len(cells.touching(region))

    coarse = 2.0 * region.diagonal_km / np.sqrt(size)
    while count(cells_over(region, coarse)) < size:
        coarse /= 1.5
    low, high = coarse, coarse * 1.5
    for _ in range(16):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if count(cells_over(region, middle)) > size else (low, middle)
    best, best_miss = cells_over(region, high), math.inf
    quarters = (0.0, 0.25, 0.5, 0.75)
    phases = [(x, y) for x in quarters for y in quarters] if isinstance(region, PlaneRegion) else [(0.0, 0.0)]
    for phase in phases:
        for shift in sorted(np.linspace(-0.15, 0.15, 61), key=abs):
            cells = cells_over(region, high * float(np.exp(shift)), phase)
            miss = abs(count(cells) - size)
            if miss < best_miss:
                best, best_miss = cells, miss
            if miss <= 0.005 * size:
                return best
    return best


def cells_from_state(state: dict[str, Any]) -> Cells:
    """Makes the partition again that `Cells.state` described."""
    kinds: dict[str, Callable[..., Cells]] = {
        "square": SquareCells,
        "band": BandCells,
        "quadtree": QuadtreeCells,
        "voronoi": VoronoiCells,
        "strips": StripCells,
    }
    return kinds[state["kind"]](**{key: value for key, value in state.items() if key != "kind"})
