"""Grids of squares: kept cells, class points and classes of places, against shapely and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from geoguesser.errors import RegionError
from geoguesser.geo.distance import from_unit, haversine_km
from geoguesser.geo.grid import POINTS, SquareGrid
from geoguesser.geo.region import Region

AT_SEA = np.array([(43.0, 15.0), (42.6, 15.4)])  # the open Adriatic


@pytest.fixture(scope="module")
def training(regions: dict[str, Region]) -> dict[str, np.ndarray]:
    """Places on land and a few off it, in a part of each region: some cells stay empty."""
    random = np.random.default_rng(0)
    croatia = random.uniform((44.5, 14.0), (46.6, 17.5), (400, 2))
    fiji = random.uniform((-18.4, 176.8), (-15.8, 180.4), (400, 2))
    fiji[:, 1] = (fiji[:, 1] + 180) % 360 - 180
    earth = from_unit(random.normal(size=(600, 3)))
    earth = earth[regions["world"].contains(earth) | (np.arange(600) % 50 == 0)]
    return {"croatia": croatia, "fiji": fiji, "world": earth}


@pytest.mark.parametrize("name", ["croatia", "fiji", "world"])
def test_kept_cells_are_those_with_training_places_and_land(
    regions: dict[str, Region], training: dict[str, np.ndarray], name: str
) -> None:
    builder = SquareGrid(spacing_km=2500.0) if name == "world" else SquareGrid(size=60)
    grid = builder.fit(regions[name], training[name])
    occupied = set(grid.cells.locate(grid.region.to_space(training[name])).tolist())
    assert grid.kept.tolist() == sorted(occupied & set(grid.touching.tolist()))
    assert 1 < grid.num_cells == len(grid.kept) < len(grid.touching)


def test_no_places_and_places_far_from_the_region(regions: dict[str, Region]) -> None:
    grid = SquareGrid().fit(regions["croatia"], AT_SEA)
    assert grid.assign(np.zeros((0, 2))).shape == (0,)
    with pytest.raises(RegionError, match=r"region Croatia must lie within 3000 km of its land"):
        grid.assign(np.array([(-45.0, -164.0)]))


def test_a_mean_across_the_date_line_lies_at_the_date_line(regions: dict[str, Region]) -> None:
    places = np.array([(-16.8, 179.9), (-16.8, -179.9)])
    for name in ("fiji", "world"):
        (point,) = SquareGrid(spacing_km=30_000).fit(regions[name], places).class_points_deg
        assert haversine_km(point, np.array((-16.8, 180.0))) < 0.1


def test_training_places_at_sea_keep_no_cell(regions: dict[str, Region], training: dict[str, np.ndarray]) -> None:
    region = regions["croatia"]
    land = training["croatia"][region.contains(training["croatia"])]
    alone = SquareGrid(spacing_km=20.0).fit(region, land)
    with_sea = SquareGrid(spacing_km=20.0).fit(region, np.concatenate((land, AT_SEA)))
    np.testing.assert_array_equal(with_sea.kept, alone.kept)
    assert not np.isin(alone.cells.locate(region.to_metres(AT_SEA)), alone.touching).any()
    # But they count where they go: into the mean of the class that is nearest.
    moved = np.flatnonzero(haversine_km(with_sea.class_points_deg, alone.class_points_deg) > 1e-6)
    assert moved.tolist() == sorted(set(with_sea.assign(AT_SEA).tolist()))


def test_training_places_at_sea_only_make_a_grid(regions: dict[str, Region]) -> None:
    region = regions["croatia"]
    grid = SquareGrid(spacing_km=20.0).fit(region, AT_SEA)
    classes = grid.assign(AT_SEA)
    assert sorted(classes.tolist()) == [0, 1]
    np.testing.assert_allclose(grid.class_points_deg[classes], AT_SEA, atol=1e-9)


@pytest.mark.parametrize("point", POINTS)
def test_training_places_outside_the_raster_make_a_grid(regions: dict[str, Region], point: str) -> None:
    rome = np.array([(41.9, 12.5), (41.8, 12.6)])
    grid = SquareGrid(size=60, point=point).fit(regions["croatia"], rome)
    centres = grid.cells.centres(grid.touching)
    apart = np.linalg.norm(regions["croatia"].to_metres(rome)[:, None] - centres, axis=-1)
    nearest = grid.touching[apart.argmin(axis=1)]  # of the cells with land, those nearest to the places
    assert set(grid.kept) == set(nearest)
    assert grid.kept[grid.assign(rome)].tolist() == nearest.tolist()
    if point == "weighted":
        mine = rome[nearest == nearest[0]]
        assert haversine_km(grid.class_points_deg[grid.assign(rome)[0]], mine.mean(axis=0)) < 0.01


def test_fit_uses_only_the_training_places(regions: dict[str, Region], training: dict[str, np.ndarray]) -> None:
    places = training["croatia"]
    grid = SquareGrid(size=60).fit(regions["croatia"], places)
    dubrovnik = np.array([(42.65, 18.09)])
    assert not grid.inside(dubrovnik)[0]  # no training place there, so no class
    with_it = SquareGrid(size=60).fit(regions["croatia"], np.concatenate((places, dubrovnik)))
    assert with_it.num_cells == grid.num_cells + 1
    np.testing.assert_array_equal(with_it.touching, grid.touching)  # the raster is the land's, not the places'


@pytest.mark.parametrize("spacing_km", [15, 40.0, 333.3])
def test_spacing_is_the_side_of_a_square_and_wins_over_size(
    regions: dict[str, Region], training: dict[str, np.ndarray], spacing_km: float
) -> None:
    for size in (60, None, "not even looked at"):
        grid = SquareGrid(size=size, spacing_km=spacing_km).fit(regions["croatia"], training["croatia"])
        assert grid.cells.side_km == spacing_km
        ring = grid.region.to_metres(grid.outlines_deg(grid.kept)[0])
        np.testing.assert_allclose(np.linalg.norm(np.diff(ring, axis=0), axis=1), 1000 * spacing_km, rtol=1e-6)
