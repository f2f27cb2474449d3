"""Blocks: no two splits come near each other, and nobody changes sides when others come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.place_roots import LAND

from geoguesser.data.block_split import BlockSplit, find_buffer_violations, name_blocks
from geoguesser.data.splits import SPLIT_NAMES, UNUSED, RandomSplit, SplitConstraints
from geoguesser.errors import ConfigError, DataError
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import SphereRegion

SHARES = [0.6, 0.2, 0.2]


def make_table(coords: np.ndarray) -> pd.DataFrame:
    ids = [f"p{at}" for at in range(len(coords))]
    return pd.DataFrame({"uuid": ids, "latitude": coords[:, 0], "longitude": coords[:, 1]})


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Places in towns, as they really lie; some within metres of each other."""
    random = np.random.default_rng(seed)
    towns = random.uniform((44.1, 14.1), (45.9, 17.9), (40, 2))
    return towns[random.integers(0, 40, count)] + random.normal(0, 0.05, (count, 2))


def nearest_of_other_splits_km(coords: np.ndarray, splits: np.ndarray) -> float:
    used = splits != UNUSED
    here, own = coords[used], splits[used]
    apart = haversine_km(here[:, None], here[None])
    return float(apart[own[:, None] != own[None]].min())


@pytest.mark.parametrize(("block_km", "buffer_km"), [(20, 1), (5, 2.5), (40, 2)])
def test_splits_stay_apart(block_km: float, buffer_km: float) -> None:
    coords = clustered(800)
    split = BlockSplit(block_km=block_km, buffer_km=buffer_km, shares=SHARES)
    splits = split.assign(make_table(coords), LAND)
    assert nearest_of_other_splits_km(coords, splits) >= buffer_km * (1 - 1e-6)
    assert set(splits) <= {*SPLIT_NAMES, UNUSED}
    without = BlockSplit(block_km=block_km, buffer_km=0, shares=SHARES).assign(make_table(coords), LAND)
    assert UNUSED not in without
    assert ((splits == without) | (splits == UNUSED)).all()
    assert nearest_of_other_splits_km(coords, without) < buffer_km  # so the buffer did something
    assert (splits[without == "test"] == "test").all()  # the test set is what makes others give way


def test_a_block_is_whole() -> None:
    coords = clustered(500)
    splits = BlockSplit(block_km=10, buffer_km=0, shares=SHARES).assign(make_table(coords), LAND)
    squares = np.floor(LAND.to_metres(coords) / 10_000)
    for square in np.unique(squares, axis=0):
        assert len(set(splits[(squares == square).all(axis=1)])) == 1
    names = name_blocks(LAND, coords, 10.0)
    assert len(set(names)) == len(np.unique(squares, axis=0))


def test_on_the_sphere_blocks_are_about_so_large() -> None:
    region = SphereRegion()
    random = np.random.default_rng(0)
    north = np.array([[60.0, 20.0]]) + random.uniform(-5, 5, (2000, 2))
    names = name_blocks(region, north, 200.0)
    for name in np.unique(names):
        own = north[names == name]
        assert haversine_km(own[:, None], own[None]).max() < 330  # the diagonal of 200 km, and a little
    area = 10 * 10 * 111.2**2 * np.cos(np.radians(60))
    assert area / 200**2 <= len(np.unique(names)) <= 2.5 * area / 200**2
    splits = BlockSplit(block_km=200, buffer_km=20, shares=SHARES).assign(make_table(north), region)
    assert nearest_of_other_splits_km(north, splits) >= 20 * (1 - 1e-6)


def test_across_the_date_line_neighbours_are_neighbours() -> None:
    coords = np.array([[10.0, 179.9995], [10.0, -179.9995]] * 200)
    coords[:, 0] += np.random.default_rng(0).uniform(-8, 8, 400)
    splits = BlockSplit(block_km=100, buffer_km=5, shares=SHARES).assign(make_table(coords), SphereRegion())
    assert nearest_of_other_splits_km(coords, splits) >= 5 * (1 - 1e-6)


def test_blocks_do_not_move_when_places_come() -> None:
    few, many = clustered(300), np.concatenate((clustered(300), clustered(300, seed=1)))
    split = BlockSplit(block_km=15, buffer_km=0, shares=SHARES)
    first, then = split.assign(make_table(few), LAND), split.assign(make_table(many), LAND)
    np.testing.assert_array_equal(first, then[:300])
    other = BlockSplit(block_km=15, buffer_km=0, shares=SHARES, seed=1).assign(make_table(few), LAND)
    assert (first != other).any()


def test_shares_are_those_of_blocks() -> None:
    random = np.random.default_rng(0)
    coords = random.uniform((44, 14), (46, 18), (20_000, 2))
    splits = BlockSplit(block_km=5, buffer_km=0, shares=[0.7, 0.1, 0.2]).assign(make_table(coords), LAND)
    for name, share in zip(SPLIT_NAMES, (0.7, 0.1, 0.2), strict=True):
        assert (splits == name).mean() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("block_km", 0, "a number from 0.1 to 5000"),
        ("buffer_km", 11, "a number from 0 to 10"),
        ("shares", [0.8, 0.2], "three numbers that sum to 1"),
    ],
)
def test_values_that_are_none(key: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"^split\.{key} must be {rule}, got"):
        BlockSplit(**{"block_km": 20, "buffer_km": 1, "shares": SHARES, key: value}).check()


def test_too_few_blocks_are_refused() -> None:
    coords = np.array([[45.0, 16.0]] * 30)
    with pytest.raises(DataError, match=r"split must leave no split empty.*Choose a smaller split\.block_km"):
        BlockSplit(block_km=20, buffer_km=0, shares=SHARES).assign(make_table(coords), LAND)


# Who makes way


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("buffer_km", [0.0, 1.5, 4.5])
def test_no_place_makes_way_without_need(buffer_km: float, seed: int) -> None:
    """On a line of kilometres: as little as the rules ask for, by a walk through all pairs."""
    random = np.random.default_rng(seed)
    line_km = random.integers(0, 61, 20)
    splits, movable = random.choice([*SPLIT_NAMES, UNUSED], 20), random.random(20) < 0.5
    coords = np.column_stack((np.degrees(line_km / 6371.0088), np.zeros(20)))
    out = find_buffer_violations(coords, splits, movable, buffer_km)

    stays = np.flatnonzero(~movable & (splits != UNUSED)).tolist()
    for name in ("test", "val", "train"):
        others_km = [line_km[at] for at in stays if splits[at] != name]
        own = np.flatnonzero(movable & (splits == name)).tolist()
        stays += [at for at in own if all(abs(line_km[at] - km) >= buffer_km for km in others_km)]
    assert sorted(stays) == np.flatnonzero(~out & (splits != UNUSED)).tolist()


# Ties: recorded places and places that are the same


def assign_constrained(groups: list[int], recorded: list[str]) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Splits places by their hash; those after `recorded` are new, and those after `groups` have no likes."""
    count = 40
    constraints = SplitConstraints(
        np.array([*groups, *range(len(groups), count)]),
        np.array(recorded + [""] * (count - len(recorded)), dtype="U6"),
    )
    return RandomSplit(shares=SHARES).assign_constrained(make_table(np.zeros((count, 2))), None, constraints)


def test_recorded_places_stay_and_their_likes_join_them() -> None:
    unconstrained, _ = assign_constrained([], [])
    recorded = ["test"] * 3 + ["val"] * 3 + ["train"] * 3
    result, conflicts = assign_constrained([*range(9), 0, 4, 8], recorded)
    assert conflicts == []
    assert result[:12].tolist() == [*recorded, "test", "val", "train"]
    np.testing.assert_array_equal(result[12:], unconstrained[12:])


def test_new_places_that_are_the_same_stay_together() -> None:
    unconstrained, _ = assign_constrained([], [])
    result, _ = assign_constrained([at // 2 * 2 for at in range(40)], [])
    np.testing.assert_array_equal(result[::2], result[1::2])
    np.testing.assert_array_equal(result[::2], unconstrained[::2])


def test_a_new_place_between_two_splits_is_not_used() -> None:
    result, conflicts = assign_constrained([0, 0, 2, 0, 0], ["train", "test", "train"])
    assert result[:5].tolist() == ["train", "test", "train", UNUSED, UNUSED]
    reason = "is the same as places in test and train"
    assert conflicts == [(1, reason), (3, f"{reason}; it is not used"), (4, f"{reason}; it is not used")]


def test_unused_places_make_no_bridge() -> None:
    result, conflicts = assign_constrained([0, 0, 0], ["train", UNUSED])
    assert conflicts == []
    assert result[:3].tolist() == ["train", UNUSED, "train"]


def test_new_places_make_way_for_recorded_ones() -> None:
    """A new place beside a recorded one of another split is not used; the recorded one never moves."""
    old = clustered(200)
    split = BlockSplit(block_km=10, buffer_km=1, shares=SHARES)
    first = split.assign(make_table(old), LAND)
    # The recorded sides are turned round, so that new places meet neighbours of every split.
    turned = np.array([{"train": "test", "test": "train"}.get(one, one) for one in first])
    new = old + np.random.default_rng(1).normal(0, 0.003, old.shape)
    coords = np.concatenate((old, new))
    recorded = np.concatenate((turned, np.full(200, "")))
    result = split.assign(make_table(coords), LAND, SplitConstraints(np.arange(400), recorded))
    np.testing.assert_array_equal(result[:200], turned)
    fresh = np.flatnonzero(result[200:] != UNUSED) + 200
    others = np.flatnonzero(result != UNUSED)
    apart = haversine_km(coords[fresh][:, None], coords[others][None])
    assert apart[result[fresh][:, None] != result[others][None]].min() >= 1 - 1e-6
    assert (result[200:] == UNUSED).any()
