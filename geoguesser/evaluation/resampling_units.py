"""Units: what a bootstrap draws. Blocks of the map where test places fill enough of them, else single places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.block_split import name_blocks
from geoguesser.errors import check_number
from geoguesser.geo.region import Region
from geoguesser.system.text import format_count

MIN_BLOCKS = 60  # with fewer, the spread between blocks is known too badly
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
BLOCK_SIDES_KM = tuple(
    step * 10.0**power for power in (-1, 0, 1, 2, 3) for step in STEPS if 0.5 <= step * 10.0**power <= 3000
)


@dataclass(frozen=True)
class ResamplingUnits:
    """What is drawn for one set of places.

    Attributes:
        unit: (N,) the unit of each place, from 0 without gaps.
        block_km: The side of the blocks; None where each place is a unit of its own.
    """

    unit: IntArray
    block_km: float | None

    @property
    def count(self) -> int:
        """How many units there are."""
        return int(self.unit.max()) + 1

    def __str__(self) -> str:
        """For people: `72 blocks of 30 km`, `20 places`."""
        if self.block_km is None:
            return format_count(self.count, "place")
        return f"{format_count(self.count, 'block')} of {self.block_km:g} km"


def check_block_km(value: object) -> float | None:
    """Returns the key's value; null is for the program to choose, 0 for none.

    Raises:
        ConfigError: It is neither null nor a number from 0 to 5000.
    """
    return None if value is None else check_number("bootstrap.block_km", value, low=0.0, high=5000.0)


def make_units(region: Region, coords_deg: FloatArray, block_km: float | None) -> ResamplingUnits:
    """Chooses what is drawn.

    Args:
        region: Its blocks are those of `split=blocks`: squares of the CRS, or cells on the sphere.
        coords_deg: (N, 2) the test places.
        block_km: The side of a block; 0 for single places; None for the largest side of a series
            (.., 10, 15, 20, 30, 50, 70, ..) whose blocks are still 60 or more, for the farther errors go
            together, the larger blocks must be.

    Returns:
        Blocks where there are at least 60 that hold places, else single places.
    """
    places = ResamplingUnits(np.arange(len(coords_deg)), None)
    if block_km == 0.0 or len(coords_deg) < MIN_BLOCKS:
        return places
    for side_km in reversed(BLOCK_SIDES_KM) if block_km is None else (block_km,):
        names, unit = np.unique(name_blocks(region, coords_deg, side_km), return_inverse=True)
        if len(names) >= MIN_BLOCKS:
            return ResamplingUnits(unit.astype(np.int64), side_km)
    return places
