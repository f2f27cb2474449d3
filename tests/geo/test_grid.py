"""Grid: which cells are kept, where class points lie and where places go, against pandas and brute force."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.errors import ConfigError, DataError, RegionError
from geoguesser.geo.cells.square import SquareCells
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.grid import POINTS, Grid, SquareGrid, restore_grid
from geoguesser.geo.region import PlaneRegion, Region, country, world

PROPERTY = settings(max_examples=50, deadline=None)
AT_SEA = np.array([(43.0, 15.0), (42.6, 15.4)])  # the open Adriatic


@pytest.fixture(scope="module")
def regions() -> dict[str, Region]:
    return {"croatia": country("HRV", "EPSG:3765"), "fiji": country("FJI"), "world": world()}


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


@pytest.fixture(scope="module")
def grids(regions: dict[str, Region], training: dict[str, np.ndarray]) -> dict[str, Grid]:
    wishes = {"croatia": SquareGrid(size=60), "fiji": SquareGrid(size=60), "world": SquareGrid(spacing_km=2500.0)}
    return {name: wish.fit(regions[name], training[name]) for name, wish in wishes.items()}


NAMES = ("croatia", "fiji", "world")


def elsewhere(name: str, seed: int = 5) -> np.ndarray:
    """Places in and around a region, of which the grid has seen none."""
    random = np.random.default_rng(seed)
    if name == "world":
        return from_unit(random.normal(size=(1000, 3)))
    corners = {"croatia": ((40.0, 11.0), (49.0, 22.0)), "fiji": ((-23.0, 174.0), (-11.0, 180.0))}[name]
    return random.uniform(*corners, (1000, 2))


@pytest.mark.parametrize("name", NAMES)
def test_kept_cells_are_those_with_training_places_and_land(
    grids: dict[str, Grid], training: dict[str, np.ndarray], name: str
) -> None:
    grid = grids[name]
    held = set(grid.cells.locate(grid.region.to_space(training[name])).tolist())
    assert grid.kept.tolist() == sorted(held & set(grid.touching.tolist()))
    assert 1 < grid.num_cells == len(grid.kept) < len(grid.touching)


def test_kept_squares_are_those_that_a_spatial_join_finds(
    grids: dict[str, Grid], training: dict[str, np.ndarray]
) -> None:
    grid = grids["croatia"]
    squares = shapely.polygons(grid.cells.outlines(np.arange(grid.cells.count)))
    points = shapely.points(grid.region.to_metres(training["croatia"]))
    held = np.unique(shapely.STRtree(squares).query(points, predicate="within")[1])
    on_land = [k for k in held if shapely.intersects(squares[k], grid.region.land_m)]
    assert grid.kept.tolist() == on_land


@pytest.mark.parametrize("name", ["croatia", "fiji"])
def test_the_number_of_touching_cells_is_the_size(grids: dict[str, Grid], name: str) -> None:
    assert abs(len(grids[name].touching) - 60) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_place_in_a_kept_cell_has_that_class(grids: dict[str, Grid], name: str) -> None:
    grid = grids[name]
    np.testing.assert_array_equal(grid.assign_points(grid.cells.centres(grid.kept)), np.arange(grid.num_cells))
    coords = elsewhere(name)
    ids, classes = grid.cells.locate(grid.region.to_space(coords)), grid.assign(coords)
    inside = np.isin(ids, grid.kept)
    assert inside.any()
    np.testing.assert_array_equal(grid.kept[classes[inside]], ids[inside])
    np.testing.assert_array_equal(grid.inside(coords), inside)


@pytest.mark.parametrize("name", NAMES)
def test_a_place_outside_all_kept_cells_goes_to_the_nearest_centre(grids: dict[str, Grid], name: str) -> None:
    grid = grids[name]
    coords = elsewhere(name)
    coords = coords[~grid.inside(coords)]
    assert len(coords) > 50
    centres_deg = grid.region.from_space(grid.cells.centres(grid.kept))
    if name == "world":  # brute force over great circles, else in the plane
        away = haversine_km(coords[:, None], centres_deg[None])
    else:
        away = np.linalg.norm(
            grid.region.to_metres(coords)[:, None] - grid.region.to_metres(centres_deg)[None], axis=-1
        )
    got = away[np.arange(len(coords)), grid.assign(coords)]
    np.testing.assert_allclose(got, away.min(axis=1), rtol=1e-9)


@PROPERTY
@given(lat=st.floats(25, 65), lon=st.floats(-10, 45))
def test_no_place_is_ever_dropped(grids: dict[str, Grid], lat: float, lon: float) -> None:
    for grid in (grids["croatia"], grids["world"]):
        (found,) = grid.assign(np.array([(lat, lon)]))
        assert 0 <= found < grid.num_cells


def test_places_of_no_number_are_no_trouble(grids: dict[str, Grid]) -> None:
    assert grids["croatia"].assign(np.zeros((0, 2))).shape == (0,)


def test_places_far_from_the_region_are_refused(grids: dict[str, Grid]) -> None:
    with pytest.raises(RegionError, match=r"region Croatia must lie within 3000 km of its land"):
        grids["croatia"].assign(np.array([(-45.0, -164.0)]))


@pytest.mark.parametrize("name", NAMES)
def test_weighted_points_are_the_means_of_the_training_places(
    grids: dict[str, Grid], training: dict[str, np.ndarray], name: str
) -> None:
    grid = grids[name]
    table = pd.DataFrame(grid.region.to_space(training[name])).groupby(grid.assign(training[name])).mean()
    assert table.index.tolist() == list(range(grid.num_cells))
    expected = grid.region.from_space(table.to_numpy())
    np.testing.assert_allclose(haversine_km(grid.class_points_deg, expected), 0.0, atol=1e-6)


def test_a_mean_across_the_date_line_lies_at_the_date_line(regions: dict[str, Region]) -> None:
    places = np.array([(-16.8, 179.9), (-16.8, -179.9)])
    for name in ("fiji", "world"):
        (point,) = SquareGrid(spacing_km=30_000).fit(regions[name], places).class_points_deg
        assert haversine_km(point, np.array((-16.8, 180.0))) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_centroid_points_are_the_cells_centres(
    regions: dict[str, Region], training: dict[str, np.ndarray], grids: dict[str, Grid], name: str
) -> None:
    grid = SquareGrid(spacing_km=grids[name].cells.side_km, point="centroid").fit(regions[name], training[name])
    rings = np.stack(grid.outlines_deg(grid.kept))
    flat = grid.region.to_space(rings.reshape(-1, 2)).reshape(*rings.shape[:2], -1)
    if isinstance(grid.cells, SquareCells):
        middle = grid.region.from_space(flat[:, :4].mean(axis=1))
    else:  # the middle of the edges in degrees; a cell never reaches over the date line
        lat, lon = rings[..., 0], np.degrees(np.unwrap(np.radians(rings[..., 1])))
        middle = np.stack(((lat.min(1) + lat.max(1)) / 2, (lon.min(1) + lon.max(1)) / 2), axis=-1)
    np.testing.assert_allclose(haversine_km(grid.class_points_deg, middle), 0.0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_clipped_points_are_the_centres_moved_to_the_nearest_land(
    regions: dict[str, Region], training: dict[str, np.ndarray], grids: dict[str, Grid], name: str
) -> None:
    region, side_km = regions[name], grids[name].cells.side_km
    clipped, centres = (
        SquareGrid(spacing_km=side_km, point=point).fit(region, training[name]).class_points_deg
        for point in ("clipped", "centroid")
    )
    on_land = region.contains(centres)
    assert 0 < on_land.sum() < len(on_land)
    np.testing.assert_array_equal(clipped[on_land], centres[on_land])
    assert region.distance_to_land_km(clipped).max() < 0.01
    moved = haversine_km(clipped, centres)
    assert (moved[~on_land] > 0).all()
    if isinstance(region, PlaneRegion):
        points = shapely.points(region.to_metres(centres))
        nearest_m = shapely.distance(region.land_m, points)
        plane_m = np.linalg.norm(region.to_metres(clipped) - region.to_metres(centres), axis=1)
        np.testing.assert_allclose(plane_m, nearest_m, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_outlines_go_round_their_class(grids: dict[str, Grid], name: str) -> None:
    grid = grids[name]
    rings = grid.outlines_deg(grid.kept)
    assert len(rings) == grid.num_cells
    centres = grid.region.from_space(grid.cells.centres(grid.kept))
    for ring, centre in zip(rings, centres, strict=True):
        np.testing.assert_allclose(to_unit(ring[0]), to_unit(ring[-1]), atol=1e-9)
        away = haversine_km(ring, centre)
        # Half a side to the middle of an edge, half a diagonal to a corner; cells at a pole are long.
        assert away.max() < (0.85 if abs(centre[0]) < 65 else 3.0) * grid.cells.side_km


def test_training_places_at_sea_keep_no_cell_of_their_own(
    regions: dict[str, Region], training: dict[str, np.ndarray]
) -> None:
    region = regions["croatia"]
    land = training["croatia"][region.contains(training["croatia"])]
    alone = SquareGrid(spacing_km=20.0).fit(region, land)
    with_sea = SquareGrid(spacing_km=20.0).fit(region, np.concatenate((land, AT_SEA)))
    np.testing.assert_array_equal(with_sea.kept, alone.kept)
    assert not np.isin(alone.cells.locate(region.to_metres(AT_SEA)), alone.touching).any()
    # But they count where they go: into the mean of the class that is nearest.
    moved = np.flatnonzero(haversine_km(with_sea.class_points_deg, alone.class_points_deg) > 1e-6)
    assert moved.tolist() == sorted(set(with_sea.assign(AT_SEA).tolist()))


def test_training_places_all_at_sea_make_a_grid_all_the_same(regions: dict[str, Region]) -> None:
    region = regions["croatia"]
    grid = SquareGrid(spacing_km=20.0).fit(region, AT_SEA)
    classes = grid.assign(AT_SEA)
    assert sorted(classes.tolist()) == [0, 1]
    np.testing.assert_allclose(grid.class_points_deg[classes], AT_SEA, atol=1e-9)


@pytest.mark.parametrize("point", POINTS)
def test_training_places_outside_the_raster_make_a_grid_all_the_same(
    regions: dict[str, Region], point: str
) -> None:
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


def test_fit_uses_the_training_places_alone(regions: dict[str, Region], training: dict[str, np.ndarray]) -> None:
    places = training["croatia"].copy()
    grid = SquareGrid(size=60).fit(regions["croatia"], places)
    before = (grid.kept.copy(), grid.class_points_deg.copy())
    np.testing.assert_array_equal(places, training["croatia"])
    dubrovnik = np.array([(42.65, 18.09)])
    assert not grid.inside(dubrovnik)[0]  # no training place there, so no class
    grid.assign(np.concatenate((dubrovnik, elsewhere("croatia"))))
    np.testing.assert_array_equal(grid.kept, before[0])
    np.testing.assert_array_equal(grid.class_points_deg, before[1])
    with_it = SquareGrid(size=60).fit(regions["croatia"], np.concatenate((places, dubrovnik)))
    assert with_it.num_cells == grid.num_cells + 1
    np.testing.assert_array_equal(with_it.touching, grid.touching)  # the raster is the land's, not the places'


def test_order_and_repetition_of_places_do_not_change_the_cells(
    regions: dict[str, Region], training: dict[str, np.ndarray]
) -> None:
    places = training["croatia"]
    grid = SquareGrid(size=60).fit(regions["croatia"], places)
    again = SquareGrid(size=60).fit(regions["croatia"], np.concatenate((places[::-1], places)))
    np.testing.assert_array_equal(again.kept, grid.kept)
    np.testing.assert_allclose(again.class_points_deg, grid.class_points_deg, atol=1e-9)


def test_one_place_makes_one_class(regions: dict[str, Region]) -> None:
    zagreb = np.array([(45.815, 15.982)])
    for grid in (
        SquareGrid().fit(regions["croatia"], zagreb),
        SquareGrid(spacing_km=3000).fit(regions["world"], zagreb),
    ):
        assert grid.num_cells == 1
        np.testing.assert_allclose(grid.class_points_deg, zagreb, atol=1e-9)


@pytest.mark.parametrize("name", ["croatia", "fiji"])
def test_size_one_is_one_class(regions: dict[str, Region], training: dict[str, np.ndarray], name: str) -> None:
    grid = SquareGrid(size=1).fit(regions[name], training[name])
    assert (grid.num_cells, len(grid.touching)) == (1, 1)
    assert set(grid.assign(elsewhere(name)).tolist()) == {0}


@pytest.mark.parametrize("spacing_km", [15, 40.0, 333.3])
def test_spacing_is_the_side_of_a_square_and_wins_over_size(
    regions: dict[str, Region], training: dict[str, np.ndarray], spacing_km: float
) -> None:
    for size in (60, None, "not even looked at"):
        grid = SquareGrid(size=size, spacing_km=spacing_km).fit(regions["croatia"], training["croatia"])
        assert grid.cells.side_km == spacing_km
        ring = grid.region.to_metres(grid.outlines_deg(grid.kept)[0])
        np.testing.assert_allclose(np.linalg.norm(np.diff(ring, axis=0), axis=1), 1000 * spacing_km, rtol=1e-6)


def test_spacing_is_about_the_side_of_the_worlds_cells(
    regions: dict[str, Region], training: dict[str, np.ndarray]
) -> None:
    grid = SquareGrid(spacing_km=500.0).fit(regions["world"], training["world"])
    assert grid.cells.side_km == pytest.approx(500.0, rel=0.01)


@pytest.mark.parametrize("size", ["abc", "60", 0, -1, True, 2.5])
def test_a_wrong_size_is_refused(regions: dict[str, Region], size: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SquareGrid(size=size).fit(regions["croatia"], np.array([(45.8, 16.0)]))
    assert str(caught.value) == f"grid.size must be a positive integer, got {size!r}."


@pytest.mark.parametrize("spacing_km", [0, -5, "40", True, float("nan"), float("inf")])
def test_a_wrong_spacing_is_refused(regions: dict[str, Region], spacing_km: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SquareGrid(spacing_km=spacing_km).fit(regions["croatia"], np.array([(45.8, 16.0)]))
    assert str(caught.value) == f"grid.spacing_km must be a number above 0, got {spacing_km!r}."


@pytest.mark.parametrize("point", ["middle", None, 1])
def test_a_wrong_point_is_refused(regions: dict[str, Region], point: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SquareGrid(point=point).fit(regions["croatia"], np.array([(45.8, 16.0)]))
    assert str(caught.value) == f"grid.point must be one of centroid, clipped, weighted, got {point!r}."


def test_no_training_place_is_refused(regions: dict[str, Region]) -> None:
    with pytest.raises(DataError, match=r"^The training split holds no place, so no cell can be kept\.$"):
        SquareGrid().fit(regions["croatia"], np.zeros((0, 2)))


@pytest.mark.parametrize("wish", [{"spacing_km": 0.05}, {"size": 10**9}])
def test_too_many_cells_are_refused(regions: dict[str, Region], wish: dict[str, Any]) -> None:
    rule = re.escape("grid must not lay more than 4,000,000 cells over the region, got '")
    remedy = re.escape("Choose a smaller grid.size or a larger grid.spacing_km.")
    for name in ("croatia", "world"):
        with pytest.raises(ConfigError, match=f"^{rule}.*{remedy}$"):
            SquareGrid(**wish).fit(regions[name], np.array([(45.8, 16.0)]))


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_comes_back_from_its_state(grids: dict[str, Grid], name: str) -> None:
    grid = grids[name]
    again = restore_grid(grid.region, grid.state())
    for field in ("kept", "class_points_deg", "touching"):
        np.testing.assert_array_equal(getattr(again, field), getattr(grid, field))
    coords = elsewhere(name)
    np.testing.assert_array_equal(again.assign(coords), grid.assign(coords))
    np.testing.assert_array_equal(again.inside(coords), grid.inside(coords))
    assert again.cells.side_km == grid.cells.side_km
