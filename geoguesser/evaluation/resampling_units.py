"""Units of the bootstrap: blocks of the map if test places fill enough of them, else single places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.block_split import name_blocks
from geoguesser.geo.region import Region
from geoguesser.system.text import format_count

# With fewer blocks, the spread between them is estimated too poorly.
MIN_BLOCKS = 60

# Ascending: 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, .. 3000.
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
BLOCK_SIDES_KM = tuple(
    step * 10.0**power for power in (-1, 0, 1, 2, 3) for step in STEPS if 0.5 <= step * 10.0**power <= 3000
)


@dataclass(frozen=True)
class ResamplingUnits:
    """(N,) unit of each place, numbered from 0 without gaps, and side of the blocks; None for single places."""

    unit: IntArray
    block_km: float | None

    def __str__(self) -> str:
        """Returns a description such as `72 blocks of 30 km` or `20 places`."""
        count = int(self.unit.max()) + 1
        if self.block_km is None:
            return format_count(count, "place")
        return f"{format_count(count, 'block')} of {self.block_km:g} km"


def make_units(region: Region, coords_deg: FloatArray, block_km: float | None) -> ResamplingUnits:
    """Returns blocks of the region if at least 60 hold one of (N, 2) test places, else single places.

    Blocks are those of `split=blocks`: squares of the CRS, or cells on the sphere. `block_km` is their side. 0
    stands for single places, and None for the largest of `BLOCK_SIDES_KM` with which 60 blocks hold places: large
    blocks account for correlation over larger distances.
    """
    places = ResamplingUnits(np.arange(len(coords_deg)), None)
    if block_km == 0.0 or len(coords_deg) < MIN_BLOCKS:
        return places

    for side_km in reversed(BLOCK_SIDES_KM) if block_km is None else (block_km,):
        names, unit = np.unique(name_blocks(region, coords_deg, side_km), return_inverse=True)
        if len(names) >= MIN_BLOCKS:
            return ResamplingUnits(unit.astype(np.int64), side_km)
    return places
