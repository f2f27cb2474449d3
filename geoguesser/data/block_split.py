"""Blocks: a split by areas of the map, so that near neighbours never lie on both sides of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, StringArray
from geoguesser.data.splits import NAMES, UNUSED, Split, assign_by_share, check_shares, hash_share
from geoguesser.errors import check_int, check_number
from geoguesser.geo.cells.square import BandCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.geo.region import PlaneRegion, Region

MAX_BLOCKS = 2**53  # they are only numbered, never listed


@dataclass(frozen=True, kw_only=True)
class BlockSplit(Split):
    """Spatial blocks, each as a whole in one split, with a strip between them that nobody uses.

    A block's split is drawn by hash of its number, and blocks lie by the region's space alone, so a place
    keeps its side when others come. Near the border of blocks in two splits the training place makes way
    for the validation place, and both for the test place: they become `unused`.

    Attributes:
        block_km: The side of a block.
        buffer_km: No place that is used lies nearer than this to one of another split.
        shares: Shares of the blocks for train, val and test; they must sum to 1. Those of places follow
            roughly, for blocks differ in how many they hold.
        seed: Draws the split.
    """

    kind: ClassVar[str] = "blocks"
    block_km: float
    buffer_km: float
    shares: list[float]
    seed: int = 0

    def check(self) -> None:
        check_shares(self.shares)
        check_int("split.seed", self.seed, low=0)
        check_number("split.block_km", self.block_km, low=0.1, high=5000.0)
        check_number("split.buffer_km", self.buffer_km, low=0.0, high=self.block_km / 2.0)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        self.check()
        return self._with_seed(self._blocks(table, region), self.seed)

    def _blocks(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        assert region is not None
        return name_blocks(region, table[["latitude", "longitude"]].to_numpy(dtype=np.float64), self.block_km)

    def _with_seed(self, blocks: StringArray, seed: int) -> StringArray:
        names, number = np.unique(blocks, return_inverse=True)
        return assign_by_share(hash_share(names.tolist(), f"block{seed}"), self.shares)[number]

    def _clear(self, table: pd.DataFrame, region: Region | None, splits: StringArray, movable: BoolArray) -> None:
        coords = table[["latitude", "longitude"]].to_numpy(dtype=np.float64)
        splits[find_too_near(coords, splits, movable, self.buffer_km)] = UNUSED

    def _remedy(self, table: pd.DataFrame) -> str:
        return "Choose a smaller split.block_km, or another split.seed."


def name_blocks(region: Region, coords_deg: FloatArray, block_km: float) -> StringArray:
    """(N,) each place's block: a square of the CRS, counted from its origin, or a cell on the sphere."""
    if isinstance(region, PlaneRegion):
        column, row = np.floor(region.to_metres(coords_deg).T / (block_km * 1000.0)).astype(np.int64)
        number = column * 2**32 + row
    else:
        number = BandCells.over(region, block_km, max_cells=MAX_BLOCKS).locate(region.to_space(coords_deg))
    unique, inverse = np.unique(number, return_inverse=True)
    return unique.astype("U20")[inverse]


def find_too_near(coords_deg: FloatArray, splits: StringArray, movable: BoolArray, buffer_km: float) -> BoolArray:
    """(N,) which places have to make way, so that no two splits come nearer to each other than the buffer.

    Those that may not move stay, whatever is near. Of the others a test place stays before a validation
    place, and that before a training place.
    """
    vectors = to_unit(coords_deg)
    reach = 2.0 * np.sin(min(buffer_km / EARTH_RADIUS_KM, np.pi) / 2.0)  # a chord
    out = np.zeros(len(splits), dtype=bool)
    if buffer_km == 0.0:
        return out
    settled = ~movable & (splits != UNUSED)
    for name in reversed(NAMES):
        own = np.flatnonzero(movable & (splits == name))
        others = settled & (splits != name)
        if len(own) and others.any():
            nearest = cKDTree(vectors[others]).query(vectors[own], distance_upper_bound=reach, workers=-1)[0]
            out[own[np.isfinite(nearest)]] = True
        settled[own] = ~out[own]
    return out
