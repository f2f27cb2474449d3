"""Partitions of a region's space into cells with ids: base classes for all cells, and for cells that are boxes.

Boxes lie along the axes of a *chart*: easting and northing of the plane, or longitude and sine of latitude of the
sphere. The latter preserves areas: d(area) = R^2 cos(latitude) d(latitude) d(longitude) = R^2 d(sin(latitude))
d(longitude).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import shapely
from scipy.sparse import csr_array

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.errors import ConfigError
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.geo.region import RUN_LENGTH, PlaneRegion, Region, SphereRegion

MAX_CELLS = 4_000_000  # on land or not; a table with an int64 per cell takes 32 MB
POINTS_PER_EDGE = 9  # of an outline on the sphere
EDGE_TOLERANCE = 1e-7  # edges of boxes that are nearer than this share of a box's side are the same


class Cells(ABC):
    """Partition of a region's space. Ids run from 0 to `count` - 1, on land or not.

    Attributes:
        side_km: Side of a cell; the median if cells differ.
        count: Number of ids.
        kind: Name of the class in checkpoints.
        arguments: Names of the arguments of `__init__`, which are attributes as well.
    """

    side_km: float
    count: int
    kind: str
    arguments: tuple[str, ...] = ()

    @abstractmethod
    def locate(self, points: FloatArray) -> IntArray:
        """Returns the ids (N,) of points (N, d) of the region's space, -1 outside of all cells."""

    @abstractmethod
    def centres(self, ids: IntArray) -> FloatArray:
        """Returns the centres (M, d) of cells in the region's space."""

    @abstractmethod
    def outlines(self, ids: IntArray) -> list[FloatArray] | FloatArray:
        """Returns closed rings (V, d) of M cells in the region's space; cells may differ in V."""

    @abstractmethod
    def touching(self, region: Region) -> IntArray:
        """Returns the ids of the cells that touch the region's land, ascending."""

    @abstractmethod
    def sides_km(self, ids: IntArray) -> FloatArray:
        """Returns the square roots (M,) of the cells' areas in km."""

    @abstractmethod
    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """Returns a symmetric bool matrix (M, M): True for cells with a common edge or corner."""

    def parents(self, ids: IntArray) -> IntArray | None:
        """Returns the cells (M, G) of G overlaid partitions that contain each cell; None without an overlay."""
        return None

    def state(self) -> dict[str, Any]:
        """Returns plain values and arrays from which `restore_cells` makes the same partition."""
        return {"kind": self.kind, **{name: getattr(self, name) for name in self.arguments}}


class BoxCells(Cells):
    """Cells that are boxes in the chart; `sphere` is True for the chart of the sphere."""

    sphere: bool

    @abstractmethod
    def boxes(self, ids: IntArray) -> FloatArray:
        """Returns the west, south, east and north edges (M, 4) of cells in the chart."""

    @abstractmethod
    def locate_chart(self, chart: FloatArray) -> IntArray:
        """Returns the ids (N,) of points (N, 2) of the chart, -1 outside of all cells."""

    def locate(self, points: FloatArray) -> IntArray:
        return self.locate_chart(to_chart(points))

    def centres(self, ids: IntArray) -> FloatArray:
        """Returns the middles of boxes, on the sphere those of their edges in degrees."""
        west, south, east, north = self.boxes(ids).T
        if not self.sphere:
            return np.stack(((west + east) / 2, (south + north) / 2), axis=-1)

        latitude = (_to_latitude(south) + _to_latitude(north)) / 2
        return to_unit(np.stack((latitude, (west + east) / 2), axis=-1))

    def outlines(self, ids: IntArray) -> FloatArray:
        west, south, east, north = self.boxes(ids).T
        if not self.sphere:
            ring = ((west, south), (east, south), (east, north), (west, north), (west, south))
            return np.moveaxis(np.array(ring), 2, 0)

        return draw_box_rings(_to_latitude(south), _to_latitude(north), west, east)

    def touching(self, region: Region) -> IntArray:
        """Tests exactly in the plane; on the sphere by centres and boundary points, 0.05 degrees apart."""
        ids = np.arange(self.count, dtype=np.int64)
        if isinstance(region, PlaneRegion):
            return ids[shapely.intersects(region.land_m, shapely.box(*self.boxes(ids).T))]

        assert isinstance(region, SphereRegion)
        touches = region.contains(region.from_space(self.centres(ids)))

        # A run of boundary points lies in one cell if both corners of its bounding box do. With large cells that
        # holds for nine runs of ten, and saves the search for their single points.
        chart, low, high = region.boundary_runs
        low_cell, high_cell = self.locate_chart(low), self.locate_chart(high)
        in_one_cell = low_cell == high_cell
        touches[low_cell[in_one_cell]] = True

        # The points of all other runs; the last run may be shorter.
        rest = np.flatnonzero(~in_one_cell)[:, None] * RUN_LENGTH + np.arange(RUN_LENGTH)
        touches[self.locate_chart(chart[rest[rest < len(chart)]])] = True
        return ids[touches]

    def sides_km(self, ids: IntArray) -> FloatArray:
        west, south, east, north = self.boxes(ids).T

        # The chart of the sphere preserves areas, apart from the square of the radius.
        if self.sphere:
            return EARTH_RADIUS_KM * np.sqrt(np.radians(east - west) * (north - south))
        return np.sqrt((east - west) * (north - south)) / 1000.0

    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """Returns boxes that touch, on the sphere also across the date line and at a pole."""
        # Boxes are made larger by a little, because rounding may leave gaps between them.
        boxes = self.boxes(ids)
        slack = EDGE_TOLERANCE * np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        grown = boxes + slack[:, None] * np.array((-1.0, -1.0, 1.0, 1.0))
        tree = shapely.STRtree(shapely.box(*grown.T))

        # Moved by a full turn, the boxes on one side of the date line touch those on the other.
        turns = (-360.0, 0.0, 360.0) if self.sphere else (0.0,)
        pairs = [tree.query(shapely.box(*(grown + np.array((turn, 0.0, turn, 0.0))).T)) for turn in turns]

        # In the chart a pole is an edge, on the sphere a point: all boxes at it meet.
        if self.sphere:
            at_poles = (np.flatnonzero(boxes[:, 1] <= -1.0), np.flatnonzero(boxes[:, 3] >= 1.0))
            pairs += [np.stack(np.meshgrid(polar, polar)).reshape(2, -1) for polar in at_poles]

        return make_adjacency(np.concatenate(pairs, axis=1), len(ids))


def make_adjacency(pairs: IntArray, count: int) -> csr_array[Any, tuple[int, int]]:
    """Makes a symmetric (count, count) bool matrix from (2, P) pairs, in any order and possibly repeated."""
    # A key is row * count + column, so that repeated entries are found by sorting.
    first, second = pairs[:, pairs[0] != pairs[1]]
    keys = np.unique(np.concatenate((first * count + second, second * count + first)))

    entries = np.ones(len(keys), dtype=np.bool_)
    return csr_array((entries, (keys // max(count, 1), keys % max(count, 1))), shape=(count, count))


def to_chart(points: FloatArray) -> FloatArray:
    """Converts points of a region's space to the chart (N, 2).

    CRS metres (N, 2) are returned unchanged. Vectors (N, 3) are converted to longitude, from -180 to below 180,
    and sine of latitude.
    """
    if points.shape[-1] == 2:
        return points

    # The date line belongs to the cells east of it.
    x, y, z = points.T
    longitude = np.degrees(np.arctan2(y, x))
    longitude[longitude >= 180.0] = -180.0

    return np.stack((longitude, z / np.linalg.norm(points, axis=-1)), axis=-1)


def draw_box_rings(south: FloatArray, north: FloatArray, west: FloatArray, east: FloatArray) -> FloatArray:
    """Returns boxes of latitude and longitude (M,) in degrees as closed rings (M, V, 3) of unit vectors."""
    # The southern, eastern, northern and western edge, as shares of the box's height and width.
    along = np.linspace(0.0, 1.0, POINTS_PER_EDGE)
    up, right = np.zeros((4, POINTS_PER_EDGE)), np.zeros((4, POINTS_PER_EDGE))
    right[0], up[1], right[2], up[3] = along, along, along[::-1], along[::-1]
    right[1], up[2] = 1.0, 1.0

    latitude = south[:, None] + up.ravel() * (north - south)[:, None]
    longitude = west[:, None] + right.ravel() * (east - west)[:, None]
    return to_unit(np.stack((latitude, longitude), axis=-1))


def check_count(cells: int, side_km: float | None = None, max_cells: int = MAX_CELLS) -> None:
    """Raises ConfigError if a partition would have more than `max_cells` cells."""
    if cells > max_cells:
        rule = f"must not lay more than {max_cells:,} cells over the region"
        found = f"{cells:,} cells" if side_km is None else f"{cells:,} cells of {side_km:.3g} km"
        remedy = "Choose a smaller grid.size or a larger grid.spacing_km."
        raise ConfigError.at("grid", rule, found=found, remedy=remedy)


def _to_latitude(sine: FloatArray) -> FloatArray:
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
