"""Quadtrees: leaves tile the roots and hold a limited number of places, as in a plain recursion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cell_boxes import check_tiling, list_ids

from geoguesser.geo.cells.quadtree import DEPTH, QuadtreeCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion

PROPERTY = settings(max_examples=40, deadline=None)


def split(region: Region, coords: np.ndarray, max_places: int = 5, min_side_km: float = 1.0) -> QuadtreeCells:
    return QuadtreeCells.over(region, coords, max_places=max_places, min_side_km=min_side_km)


def near_zagreb(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    spread = 10.0 ** random.uniform(-3, 0.3)
    return np.array((45.8, 16.0)) + random.normal(scale=spread, size=(count, 2))


@PROPERTY
@given(count=st.integers(1, 300), seed=st.integers(0, 1000), most=st.integers(1, 20))
def test_leaves_tile_the_sphere_with_areas_halved_twice_per_level(
    earth: SphereRegion, count: int, seed: int, most: int
) -> None:
    random = np.random.default_rng(seed)
    coords = from_unit(random.normal(size=(count, 3)) + 3 * random.normal(size=3))
    coords[0] = random.choice([(90.0, 0.0), (-90.0, 7.0), (12.0, 180.0), (12.0, -180.0), (0.0, 0.0)])
    cells = split(earth, coords, most, 50.0)
    points = np.concatenate((to_unit(coords), to_unit(from_unit(random.normal(size=(300, 3))))))
    areas = check_tiling(cells, points)
    assert areas.sum() == pytest.approx(720.0)
    np.testing.assert_allclose(areas, 90.0 / 4.0**cells.levels)
    sides_km = np.sqrt(np.pi / 2) * EARTH_RADIUS_KM / 2.0**cells.levels
    np.testing.assert_allclose(cells.sides_km(list_ids(cells)), sides_km, rtol=1e-12)

    held = np.bincount(cells.locate(to_unit(coords)), minlength=cells.count)
    assert ((held <= most) | (sides_km < 100.0)).all()


@pytest.mark.parametrize(("most", "floor_km"), [(1, 2.0), (7, 0.1), (40, 30.0), (1, 1e5)])
def test_leaves_are_those_of_a_plain_recursion(croatia: PlaneRegion, most: int, floor_km: float) -> None:
    coords = near_zagreb(500, 3)
    cells = split(croatia, coords, most, floor_km)
    places = croatia.to_metres(coords)
    check_tiling(cells, places)
    boxes = cells.boxes(list_ids(cells))

    def leaves(west: float, south: float, side: float, inside: np.ndarray) -> list[tuple[float, float, float]]:
        if len(inside) <= most or side / 2 < 1000 * floor_km:
            return [(west, south, side)]
        half, parts = side / 2, []
        for row in (0, 1):
            for column in (0, 1):
                east_of, north_of = inside[:, 0] >= west + half, inside[:, 1] >= south + half
                part = inside[(east_of == bool(column)) & (north_of == bool(row))]
                parts += leaves(west + column * half, south + row * half, half, part)
        return parts

    corner, side = boxes[:, :2].min(axis=0), np.ptp(boxes[:, [0, 2]])
    expected = leaves(*corner, side, places)
    assert cells.count == len(expected)
    actual = np.stack((boxes[:, 0], boxes[:, 1], boxes[:, 2] - boxes[:, 0]), axis=-1)
    assert {tuple(row) for row in actual.round().tolist()} == {tuple(row) for row in np.round(expected).tolist()}
    assert cells.side_km == np.median(cells.sides_km(list_ids(cells)))


def test_ids_by_hand() -> None:
    root = {"sphere": False, "corner": [0.0, 0.0], "root": [8.0, 8.0], "columns": 1, "rows": 1}
    cells = QuadtreeCells(levels=np.array([1, 2, 2, 2, 2, 1, 1]), **root)  # the south-eastern quarter is split
    points = np.array([(0, 0), (3, 3), (4, 0), (6, 0), (7, 3), (4, 4), (1, 7), (8, 1), (-0.1, 1), (1, 8)])
    assert cells.locate(points).tolist() == [0, 0, 1, 2, 4, 6, 5, -1, -1, -1]


@pytest.mark.parametrize("land", ["croatia", "earth"])
def test_identical_places_stop_at_the_floor(land: str, request: pytest.FixtureRequest) -> None:
    region: Region = request.getfixturevalue(land)
    cells = split(region, np.repeat([(45.8, 16.0)], 1000, axis=0), 5, 1.0)
    assert 1.0 <= cells.sides_km(list_ids(cells)).min() < 2.0
    finest = split(region, np.repeat([(45.8, 16.0)], 1000, axis=0), 5, 1e-9)
    assert finest.levels.max() == DEPTH
    assert finest.levels[finest.locate(region.to_space(np.array([(45.8, 16.0)])))].tolist() == [DEPTH]
