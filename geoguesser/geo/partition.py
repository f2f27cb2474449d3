"""Partitions of a region's space into cells with ids, and all that boxes have in common.

A partition knows no places and no classes; geo/grid.py makes both from it. Boxes lie along the axes of a
*chart*: easting and northing of the plane, or longitude and sine of latitude of the sphere (which keeps areas).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import csr_array

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import EARTH_RADIUS_KM, FloatArray, to_unit
from geoguesser.geo.region import RUN, PlaneRegion, Region, SphereRegion

IntArray = npt.NDArray[np.int64]
MAX_CELLS = 4_000_000  # of the raster, land or not; a table of so many entries takes 32 MB
PER_EDGE = 9  # points along each edge of an outline on the sphere
SAME = 1e-7  # edges of boxes nearer than this share of a box's side are one


class Cells(ABC):
    """A partition. Ids run from 0 to `count` - 1, whether or not there is land.

    Attributes:
        side_km: The side of a cell; the median where cells differ.
        count: The number of ids.
    """

    side_km: float
    count: int

    @abstractmethod
    def locate(self, points: FloatArray) -> IntArray:
        """(N, d) points of the region's space -> (N,) ids, -1 outside of all cells."""

    @abstractmethod
    def centres(self, ids: IntArray) -> FloatArray:
        """(M,) ids -> (M, d) centres in the region's space."""

    @abstractmethod
    def outlines(self, ids: IntArray) -> list[FloatArray] | FloatArray:
        """(M,) ids -> M closed rings (V, d) in the region's space; cells may differ in V."""

    @abstractmethod
    def touching(self, region: Region) -> IntArray:
        """The ids of the cells that touch the region's land, ascending."""

    @abstractmethod
    def sides_km(self, ids: IntArray) -> FloatArray:
        """(M,) ids -> (M,) the square root of each cell's area in km."""

    @abstractmethod
    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """(M,) ids -> (M, M) bool, symmetric: which of these cells share an edge or a corner."""

    def parents(self, ids: IntArray) -> IntArray | None:
        """(M,) ids -> (M, G) the cell of each of G overlaid partitions that holds it; None for a plain one."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain values and arrays from which `cells_from_state` makes the same partition."""


class BoxCells(Cells):
    """Cells that are boxes in the chart. Subclasses have `boxes` and `_locate_chart`.

    Attributes:
        sphere: Whether the chart is that of the sphere.
    """

    sphere: bool

    @abstractmethod
    def boxes(self, ids: IntArray) -> FloatArray:
        """(M,) ids -> (M, 4) west, south, east and north edge in the chart."""

    @abstractmethod
    def locate_chart(self, chart: FloatArray) -> IntArray:
        """(N, 2) points of the chart -> (N,) ids, -1 outside of all cells."""

    def locate(self, points: FloatArray) -> IntArray:
        return self.locate_chart(to_chart(points))

    def centres(self, ids: IntArray) -> FloatArray:
        """The middle of a box; on the sphere that of its edges in degrees."""
        west, south, east, north = self.boxes(ids).T
        if not self.sphere:
            return np.stack(((west + east) / 2, (south + north) / 2), axis=-1)
        latitude = (_latitude(south) + _latitude(north)) / 2
        return to_unit(np.stack((latitude, (west + east) / 2), axis=-1))

    def outlines(self, ids: IntArray) -> FloatArray:
        west, south, east, north = self.boxes(ids).T
        if not self.sphere:
            ring = ((west, south), (east, south), (east, north), (west, north), (west, south))
            return np.stack([np.stack(corner, axis=-1) for corner in ring], axis=1)
        return box_rings(_latitude(south), _latitude(north), west, east)

    def touching(self, region: Region) -> IntArray:
        """In the plane exactly; on the sphere by centres on land and points of a boundary, 0.05 degrees apart."""
        ids = np.arange(self.count, dtype=np.int64)
        if isinstance(region, PlaneRegion):
            return ids[shapely.intersects(region.land_m, shapely.box(*self.boxes(ids).T))]
        assert isinstance(region, SphereRegion)
        met = region.contains(region.from_space(self.centres(ids)))
        chart, low, high = region.boundary_runs
        at_low, at_high = self.locate_chart(low), self.locate_chart(high)
        whole = at_low == at_high  # the run lies in one cell: nine times of ten, where cells are large
        met[at_low[whole]] = True
        rest = np.flatnonzero(~whole)[:, None] * RUN + np.arange(RUN)
        met[self.locate_chart(chart[rest[rest < len(chart)]])] = True
        return ids[met]

    def sides_km(self, ids: IntArray) -> FloatArray:
        west, south, east, north = self.boxes(ids).T
        if self.sphere:
            return EARTH_RADIUS_KM * np.sqrt(np.radians(east - west) * (north - south))
        return np.sqrt((east - west) * (north - south)) / 1000.0

    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """Boxes that touch; on the sphere also across the date line, and all those that meet at a pole."""
        boxes = self.boxes(ids)
        slack = SAME * np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        grown = boxes + slack[:, None] * np.array((-1.0, -1.0, 1.0, 1.0))
        tree = shapely.STRtree(shapely.box(*grown.T))
        turns = (-360.0, 0.0, 360.0) if self.sphere else (0.0,)
        pairs = [tree.query(shapely.box(*(grown + np.array((turn, 0.0, turn, 0.0))).T)) for turn in turns]
        if self.sphere:
            at_poles = (np.flatnonzero(boxes[:, 1] <= -1.0), np.flatnonzero(boxes[:, 3] >= 1.0))
            pairs += [np.stack(np.meshgrid(polar, polar)).reshape(2, -1) for polar in at_poles]
        return adjacency(np.concatenate(pairs, axis=1), len(ids))


def adjacency(pairs: IntArray, count: int) -> csr_array[Any, tuple[int, int]]:
    """(2, P) pairs of numbers below `count`, in any order, twice or not -> (count, count) bool, symmetric."""
    one, other = pairs[:, pairs[0] != pairs[1]]
    keys = np.unique(np.concatenate((one * count + other, other * count + one)))
    ones = np.ones(len(keys), dtype=np.bool_)
    return csr_array((ones, (keys // max(count, 1), keys % max(count, 1))), shape=(count, count))


def to_chart(points: FloatArray) -> FloatArray:
    """(N, 2) CRS metres as they are; (N, 3) vectors -> (N, 2) longitude (-180 to below 180), sine of latitude."""
    if points.shape[-1] == 2:
        return points
    x, y, z = points.T
    longitude = np.degrees(np.arctan2(y, x))
    longitude[longitude >= 180.0] = -180.0  # the date line belongs to the east of it
    return np.stack((longitude, z / np.linalg.norm(points, axis=-1)), axis=-1)


def box_rings(south: FloatArray, north: FloatArray, west: FloatArray, east: FloatArray) -> FloatArray:
    """(M, V, 3) closed rings of unit vectors round boxes of latitude and longitude in degrees, (M,) each."""
    along = np.linspace(0.0, 1.0, PER_EDGE)
    up, right = np.zeros((4, PER_EDGE)), np.zeros((4, PER_EDGE))
    right[0], up[1], right[2], up[3] = along, along, along[::-1], along[::-1]
    right[1], up[2] = 1.0, 1.0
    latitude = south[:, None] + up.ravel() * (north - south)[:, None]
    longitude = west[:, None] + right.ravel() * (east - west)[:, None]
    return to_unit(np.stack((latitude, longitude), axis=-1))


def check_count(cells: int, side_km: float | None = None, most: int = MAX_CELLS) -> None:
    """Raises ConfigError where more than `most` cells would be laid."""
    if cells > most:
        raise ConfigError.at(
            "grid",
            f"must not lay more than {most:,} cells over the region",
            found=f"{cells:,} cells" if side_km is None else f"{cells:,} cells of {side_km:.3g} km",
            remedy="Choose a smaller grid.size or a larger grid.spacing_km.",
        )


def _latitude(sine: FloatArray) -> FloatArray:
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
