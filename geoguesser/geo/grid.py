"""Grids: the classes of a classification head. Each cell that holds training places is a class.

No place is dropped: a place outside all kept cells belongs to the kept cell with the nearest centre. `SquareGrid`
is the default; geo/grid_builders.py has others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.errors import DataError, check_choice, check_int, check_number
from geoguesser.geo.cells.base import MAX_CELLS, Cells
from geoguesser.geo.cells.factory import make_cells_by_count, make_cells_of_side, restore_cells
from geoguesser.geo.region import Region, SphereRegion, check_degrees

COUNTRY_CELLS, WORLD_CELLS = 60, 240
POINTS = ("centroid", "clipped", "weighted")


@dataclass(frozen=True)
class Grid:
    """Kept cells of a partition and their class points.

    Attributes:
        region: Land, in whose space cells and distances are computed.
        cells: Partition.
        kept: (K,) ids of the cells that hold training places, ascending; class k is `kept[k]`.
        class_points_deg: (K, 2) point that represents each class.
        touching: (T,) ids of all cells that touch the land, for reports.
        parents: (K, G) for cells that are the pieces of G overlaid partitions: the number of the cell of each
            partition that contains each class. Numbers run on from one partition to the next, and each from 0 to
            `num_outputs` - 1 occurs. None for partitions without an overlay.
    """

    region: Region
    cells: Cells
    kept: IntArray
    class_points_deg: FloatArray
    touching: IntArray
    parents: IntArray | None = None

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a head: one per class, or one per cell of the overlaid partitions."""
        return self.num_cells if self.parents is None else int(self.parents.max()) + 1

    @property
    def num_cells(self) -> int:
        """Number K of classes."""
        return len(self.kept)

    def assign(self, coords_deg: FloatArray) -> IntArray:
        """Returns the classes (N,) of places (N, 2) in degrees."""
        return self.assign_points(self.region.to_space(coords_deg))

    def assign_points(self, points: FloatArray) -> IntArray:
        """Returns the classes (N,) of places (N, d) in the region's space."""
        classes = self._class_by_cell[self.cells.locate(points)]

        # Outside all kept cells, the nearest centre decides.
        outside = np.flatnonzero(classes < 0)
        if len(outside):
            classes[outside] = self._centres.query(points[outside])[1]

        return classes

    def inside(self, coords_deg: FloatArray) -> BoolArray:
        """Returns a mask (N,) of places within a kept cell; others are only nearest to one."""
        return self._class_by_cell[self.cells.locate(self.region.to_space(coords_deg))] >= 0

    def outlines_deg(self, ids: IntArray) -> list[FloatArray]:
        """Returns closed rings (V, 2) in degrees of M cell ids, for pictures."""
        rings = list(self.cells.outlines(ids))
        if not rings:
            return []

        # All rings in one call: a conversion of many points costs hardly more than of one.
        flat = self.region.from_space(np.concatenate(rings))
        return np.split(flat, np.cumsum([len(ring) for ring in rings[:-1]]))

    @cached_property
    def class_sides_km(self) -> FloatArray:
        """Sides (K,) of the classes' cells in km, the square roots of their areas."""
        return self.cells.sides_km(self.kept)

    @property
    def side_km(self) -> float:
        """Median of the sides of the classes' cells in km."""
        return float(np.median(self.class_sides_km))

    @cached_property
    def neighbours(self) -> csr_array[Any, tuple[int, int]]:
        """Symmetric bool matrix (K, K): True for classes whose cells have a common edge or corner."""
        return self.cells.neighbours(self.kept)

    @cached_property
    def _class_by_cell(self) -> IntArray:
        """Class of each cell id, -1 if the cell is not kept. The last entry is for id -1, outside of all cells."""
        table = np.full(self.cells.count + 1, -1, dtype=np.int64)
        table[self.kept] = np.arange(self.num_cells)
        return table

    @cached_property
    def _centres(self) -> cKDTree:
        return cKDTree(self.cells.centres(self.kept))

    def state(self) -> dict[str, Any]:
        """Returns plain values and arrays from which `restore_grid` makes the same grid."""
        state = {
            "cells": self.cells.state(),
            "kept": self.kept,
            "class_points_deg": self.class_points_deg,
            "touching": self.touching,
        }
        return state if self.parents is None else state | {"parents": self.parents}


def restore_grid(region: Region, state: dict[str, Any]) -> Grid:
    """Restores the grid that `Grid.state` described."""
    parents = state.get("parents")
    grid = Grid(
        region=region,
        cells=restore_cells(state["cells"]),
        kept=np.asarray(state["kept"], dtype=np.int64),
        class_points_deg=np.asarray(state["class_points_deg"], dtype=np.float64),
        touching=np.asarray(state["touching"], dtype=np.int64),
        parents=None if parents is None else np.asarray(parents, dtype=np.int64),
    )

    # The state comes from a file: ids of cells are indices of a table.
    check_int("grid.cells", grid.cells.count, low=1, high=MAX_CELLS)
    ids = np.concatenate((grid.kept, grid.touching))
    is_inside = grid.num_cells > 0 and ids.min() >= 0 and ids.max() < grid.cells.count
    if not is_inside or check_degrees(grid.class_points_deg).shape != (grid.num_cells, 2):
        raise ValueError("a grid must have kept cells of its partition, and a class point for each")
    if grid.parents is not None and (len(grid.parents) != grid.num_cells or grid.parents.min() < 0):
        raise ValueError("a grid must have the parents of each kept cell")
    return grid


@dataclass(frozen=True, kw_only=True)
class GridBuilder(ABC):
    """Settings of a grid. `fit` makes the `Grid` from a region and its training places.

    Attributes:
        point: Point that represents a cell: `centroid`, `clipped` (the centroid moved to the nearest land) or
            `weighted` (the mean of its training places).
    """

    point: str = "weighted"

    def check(self) -> None:
        """Raises ConfigError if a setting is invalid. A run checks before it reads any data."""
        check_choice("grid.point", self.point, POINTS)

    def requested_cells(self, region: Region) -> int | None:
        """Returns the requested number of cells for a region, or None if the settings request none."""
        return None

    @abstractmethod
    def cells(self, region: Region, train_coords_deg: FloatArray) -> Cells:
        """Makes the partition for a region and training places (N, 2) in degrees, N at least 1."""

    def keep(self, occupied: IntArray, touching: IntArray) -> IntArray:
        """Selects the ids to keep of those occupied by training places, given those that touch land."""
        return occupied

    def fit(self, region: Region, train_coords_deg: FloatArray) -> Grid:
        """Makes the grid from the region and training places (N, 2) in degrees.

        A training place in a cell that is not kept belongs to the kept cell with the nearest centre. Raises
        DataError if there is no place.
        """
        self.check()
        if len(train_coords_deg) == 0:
            raise DataError("The training split holds no place, so no cell can be kept.")

        # Cells that hold training places.
        cells = self.cells(region, train_coords_deg)
        touching = cells.touching(region)
        points = region.to_space(train_coords_deg)
        occupied = np.unique(cells.locate(points))
        kept = self.keep(occupied[occupied >= 0], touching)

        # If all training places lie at sea, the nearest cells with land are kept.
        if len(kept) == 0:
            kept = np.unique(touching[cKDTree(cells.centres(touching)).query(points)[1]])

        # Class points, the centroids first: assigning places to classes needs a grid.
        parents = _renumber(cells.parents(kept))
        grid = Grid(region, cells, kept, region.from_space(cells.centres(kept)), touching, parents)
        if self.point == "centroid":
            return grid
        if self.point == "clipped":
            class_points = region.snap(grid.class_points_deg)
        else:
            class_points = _compute_means(region, points, grid.assign_points(points), grid.class_points_deg)
        return replace(grid, class_points_deg=class_points)


@dataclass(frozen=True, kw_only=True)
class SquareGrid(GridBuilder):
    """Square cells: true squares in the region's CRS; for the world near-squares of equal area.

    A cell that holds training places but does not touch the land is not kept.

    Attributes:
        size: Number of cells that touch the land; None for `default_num_cells`.
        spacing_km: Side of a cell; if it is given, `size` is not used.
    """

    size: int | None = None
    spacing_km: float | None = None

    def check(self) -> None:
        super().check()
        check_raster(self.size, self.spacing_km)

    def requested_cells(self, region: Region) -> int | None:
        return (self.size or default_num_cells(region)) if self.spacing_km is None else None

    def cells(self, region: Region, train_coords_deg: FloatArray) -> Cells:
        return make_uniform_cells(region, self.size, self.spacing_km)

    def keep(self, occupied: IntArray, touching: IntArray) -> IntArray:
        return np.intersect1d(occupied, touching)


def check_size(size: Any) -> None:
    """Raises ConfigError unless `grid.size` is None or a positive integer."""
    if size is not None:
        check_int("grid.size", size, low=1)


def default_num_cells(region: Region) -> int:
    """Returns the default number of cells: 60 for a country; 240, about 1,000 km wide, for the world."""
    return WORLD_CELLS if isinstance(region, SphereRegion) else COUNTRY_CELLS


def check_raster(size: Any, spacing_km: Any) -> None:
    """Raises ConfigError unless the spacing, or without one the size, is valid."""
    if spacing_km is not None:
        check_number("grid.spacing_km", spacing_km, low=0.0, open_low=True)
    else:
        check_size(size)


def make_uniform_cells(region: Region, size: int | None, spacing_km: float | None) -> Cells:
    """Makes cells of side `spacing_km` if it is given, otherwise as many as `size` or `default_num_cells`."""
    if spacing_km is not None:
        return make_cells_of_side(region, float(spacing_km))

    return make_cells_by_count(region, size or default_num_cells(region))


def _renumber(cells: IntArray | None) -> IntArray | None:
    """Numbers (K, G) cells of G partitions from 0 without gaps, each partition after the one before."""
    if cells is None:
        return None

    columns, first = [], 0
    for column in cells.T:
        distinct, number = np.unique(column, return_inverse=True)
        columns.append(first + number)
        first += len(distinct)

    return np.stack(columns, axis=-1).astype(np.int64)


def _compute_means(region: Region, points: FloatArray, classes: IntArray, fallback_deg: FloatArray) -> FloatArray:
    """Returns the means (K, 2) of the classes' places in the region's space; the fallback without places."""
    counts = np.bincount(classes, minlength=len(fallback_deg))
    sums = [np.bincount(classes, weights=column, minlength=len(fallback_deg)) for column in points.T]
    means = np.stack(sums, axis=-1) / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, region.from_space(means), fallback_deg)
