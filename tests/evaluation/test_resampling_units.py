"""Units of the bootstrap: blocks that hold enough places, or single places."""

from __future__ import annotations

import numpy as np
import pytest

from geoguesser.data.block_split import name_blocks
from geoguesser.evaluation.resampling_units import BLOCK_SIDES_KM, MIN_BLOCKS, make_units


def draw_places(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform((44.5, 15.0), (46.0, 18.5), (count, 2))


def test_few_places_and_places_in_one_village_are_single_units(croatia):
    units = make_units(croatia, draw_places(59), None)
    assert units.block_km is None
    np.testing.assert_array_equal(units.unit, np.arange(59))
    assert str(units) == "59 places"

    village = np.random.default_rng(0).normal((45.8, 16.0), 1e-4, (200, 2))
    assert make_units(croatia, village, None).block_km is None


@pytest.mark.parametrize("count", [80, 300, 2000])
def test_blocks_are_the_largest_with_60_that_hold_places(croatia, count: int):
    coords = draw_places(count)
    units = make_units(croatia, coords, None)
    assert (units.unit.max() + 1) >= MIN_BLOCKS
    assert str(units) == f"{(units.unit.max() + 1)} blocks of {units.block_km:g} km"
    larger = BLOCK_SIDES_KM[BLOCK_SIDES_KM.index(units.block_km) + 1]
    assert len(np.unique(name_blocks(croatia, coords, larger))) < MIN_BLOCKS
    names = name_blocks(croatia, coords, units.block_km)

    together = names[:, None] == names[None]
    np.testing.assert_array_equal(together, units.unit[:, None] == units.unit[None])


def test_a_given_side_is_used_if_60_blocks_hold_places(croatia):
    coords = draw_places(500)
    assert make_units(croatia, coords, 10.0).block_km == 10.0
    assert make_units(croatia, coords, 200.0).block_km is None
    assert make_units(croatia, coords, 0.0).block_km is None


def test_blocks_of_the_world(earth):
    coords = np.random.default_rng(0).uniform((-60, -180), (70, 180), (1000, 2))
    units = make_units(earth, coords, None)
    assert units.block_km > 500
