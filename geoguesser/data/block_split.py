"""Split by blocks of the map, so that nearby places never lie in two splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, StringArray
from geoguesser.data.places import get_coords
from geoguesser.data.splits import SPLIT_NAMES, UNUSED, Split, assign_by_share, check_shares, hash_share
from geoguesser.errors import check_int, check_number
from geoguesser.geo.cells.square import BandCells
from geoguesser.geo.distance import compute_chord, to_unit
from geoguesser.geo.region import PlaneRegion, Region

# Blocks are numbered but never listed, so that only the range of their numbers limits them.
MAX_BLOCKS = 2**53


@dataclass(frozen=True, kw_only=True)
class BlockSplit(Split):
    """Split by spatial blocks, with an unused buffer of `buffer_km` between places of different splits.

    The split of a block is drawn by the hash of its number, and blocks depend only on the region, so that a place
    keeps its split when places are added. Shares are those of blocks. Within the buffer, training places become
    `unused` near validation or test places, and validation places near test places.
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
        assert region is not None
        names, number = np.unique(name_blocks(region, get_coords(table), self.block_km), return_inverse=True)
        return assign_by_share(hash_share(names.tolist(), f"block{self.seed}"), self.shares)[number]

    def _clear_buffer(self, table: pd.DataFrame, splits: StringArray, movable: BoolArray) -> None:
        splits[find_buffer_violations(get_coords(table), splits, movable, self.buffer_km)] = UNUSED

    def _suggest_remedy(self, table: pd.DataFrame) -> str:
        return "Choose a smaller split.block_km, or another split.seed."


def name_blocks(region: Region, coords_deg: FloatArray, block_km: float) -> StringArray:
    """Returns the block of each place: a square of the CRS, counted from its origin, or a cell on the sphere.

    From (N, 2) latitude and longitude in degrees, it makes (N,) numbers of blocks, as text.
    """
    if isinstance(region, PlaneRegion):
        column, row = np.floor(region.to_metres(coords_deg).T / (block_km * 1000.0)).astype(np.int64)
        number = column * 2**32 + row
    else:
        number = BandCells.over(region, block_km, max_cells=MAX_BLOCKS).locate(region.to_space(coords_deg))

    # Each number is formatted once, not once per place.
    unique, inverse = np.unique(number, return_inverse=True)
    return unique.astype("U20")[inverse]


def find_buffer_violations(
    coords_deg: FloatArray, splits: StringArray, movable: BoolArray, buffer_km: float
) -> BoolArray:
    """Returns (N,) True for places to leave out, so that used places of different splits are a buffer apart.

    Places that are not movable stay. Among the others, test places stay before validation places, and these before
    training places.
    """
    violates = np.zeros(len(splits), dtype=bool)
    if buffer_km == 0.0:
        return violates

    vectors, max_chord = to_unit(coords_deg), compute_chord(1000.0 * buffer_km)
    settled = ~movable & (splits != UNUSED)
    for name in reversed(SPLIT_NAMES):
        rows = np.flatnonzero(movable & (splits == name))
        others = settled & (splits != name)
        if len(rows) and others.any():
            nearest = cKDTree(vectors[others]).query(vectors[rows], distance_upper_bound=max_chord, workers=-1)[0]
            violates[rows[np.isfinite(nearest)]] = True
        settled[rows] = ~violates[rows]
    return violates
