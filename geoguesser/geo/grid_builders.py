"""Grids other than squares of one size: quadtrees, k-means, and overlays of several rasters.

The files of conf/grid describe their settings.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, check_int, check_number
from geoguesser.geo.cells.base import Cells
from geoguesser.geo.cells.factory import make_cells_by_count
from geoguesser.geo.cells.overlay import Raster, make_band_raster, make_square_raster, overlay
from geoguesser.geo.cells.quadtree import QuadtreeCells
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.cells.voronoi import VoronoiCells
from geoguesser.geo.grid import GridBuilder, check_raster, check_size, default_num_cells, make_uniform_cells
from geoguesser.geo.region import Region


@dataclass(frozen=True, kw_only=True)
class QuadtreeGrid(GridBuilder):
    """Boxes that are split in four while they hold many training places: small cells if places are dense.

    Squares in the region's CRS; for the world boxes of longitude and sine of latitude, of equal area per level.
    """

    max_places: int = 25
    min_side_km: float = 1.0
    # It exists because the config group `density` sets it.
    size: None = None

    def check(self) -> None:
        super().check()
        _check_no_size(self.size, "grid.max_places")
        check_int("grid.max_places", self.max_places, low=1)
        check_number("grid.min_side_km", self.min_side_km, low=0.0, open_low=True)

    def cells(self, region: Region, train_coords_deg: FloatArray) -> Cells:
        return QuadtreeCells.over(
            region, train_coords_deg, max_places=self.max_places, min_side_km=self.min_side_km
        )


@dataclass(frozen=True, kw_only=True)
class KMeansGrid(GridBuilder):
    """Voronoi cells of the centres that k-means finds in the training places; the centres are the centroids.

    There are fewer than `size` cells if fewer training places are apart by 10 m.
    """

    size: int | None = None
    seed: int = 0

    def check(self) -> None:
        super().check()
        check_size(self.size)
        check_int("grid.seed", self.seed, low=0)

    def requested_cells(self, region: Region) -> int | None:
        return self.size or default_num_cells(region)

    def cells(self, region: Region, train_coords_deg: FloatArray) -> Cells:
        return VoronoiCells.over(
            region, train_coords_deg, size=self.size or default_num_cells(region), seed=self.seed
        )


class OverlayGrid(GridBuilder):
    """Overlay of several rasters. A class is a piece, the intersection of one cell of each, that holds places."""

    @abstractmethod
    def rasters(self, region: Region) -> list[Raster]:
        """Makes the rasters, at least two."""

    def cells(self, region: Region, train_coords_deg: FloatArray) -> Cells:
        return overlay(self.rasters(region))


@dataclass(frozen=True, kw_only=True)
class StaggeredGrid(OverlayGrid):
    """Rasters of one side, with settings as in `SquareGrid`, each moved north-east by 1 / copies of a side."""

    size: int | None = None
    spacing_km: float | None = None
    copies: int = 2

    def check(self) -> None:
        super().check()
        check_raster(self.size, self.spacing_km)
        check_int("grid.copies", self.copies, low=2, high=8)

    def rasters(self, region: Region) -> list[Raster]:
        cells = make_uniform_cells(region, self.size, self.spacing_km)
        return [_make_raster(cells, copy / self.copies) for copy in range(self.copies)]


@dataclass(frozen=True, kw_only=True)
class PyramidGrid(OverlayGrid):
    """Rasters from coarse to fine."""

    sizes: Sequence[int] = (15, 60)
    # It exists because the config group `density` sets it.
    size: None = None

    def check(self) -> None:
        super().check()
        _check_no_size(self.size, "grid.sizes")

        if not isinstance(self.sizes, list | tuple) or len(self.sizes) < 2:
            raise ConfigError.at(
                "grid.sizes", "must be two or more numbers of cells, such as [15,60]", found=self.sizes
            )

        for number, size in enumerate(self.sizes):
            check_int(f"grid.sizes[{number}]", size, low=1)

        if any(fine <= coarse for coarse, fine in pairwise(self.sizes)):
            raise ConfigError.at("grid.sizes", "must ascend, from coarse to fine", found=list(self.sizes))

    def rasters(self, region: Region) -> list[Raster]:
        return [_make_raster(make_cells_by_count(region, size)) for size in self.sizes]


def _check_no_size(size: Any, instead: str) -> None:
    if size is not None:
        rule = f"must be null for this grid, whose number of cells follows from {instead}"
        raise ConfigError.at("grid.size", rule, found=size, remedy="Leave it out, or add grid.size=null.")


def _make_raster(cells: Cells, phase: float = 0.0) -> Raster:
    """Makes a raster of cells with one side, moved by a share of that side."""
    if isinstance(cells, SquareCells):
        return make_square_raster(cells, phase)
    assert isinstance(cells, BandCells)
    return make_band_raster(cells, phase)
