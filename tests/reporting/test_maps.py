"""Maps and projections: computations against known values, pictures by their size and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from support.pictures import check_same_twice, draw_picture, measure_ink
from support.region_places import sample_land

from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import GridBuilder, SquareGrid
from geoguesser.geo.grid_builders import KMeansGrid
from geoguesser.geo.region import PlaneRegion, country, world
from geoguesser.reporting import maps, projections
from geoguesser.reporting.style import HEADER_IN


def make_splits(count: int) -> np.ndarray:
    return np.array(["train", "train", "train", "val", "test"])[np.arange(count) % 5]


def make_arrows(true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    return {"true_deg": true, "predicted_deg": predicted, "error_km": haversine_km(true, predicted)}


def test_arrows_are_picked_evenly_by_rank() -> None:
    error_km = np.random.default_rng(0).permutation(1001).astype(float)
    picked = error_km[maps.pick_by_rank(error_km, 11)]
    np.testing.assert_array_equal(picked, np.arange(1000, -1, -100))
    assert maps.pick_by_rank(np.array([1.0, 7.0, 3.0]), 1).tolist() == [1]
    assert sorted(maps.pick_by_rank(np.ones(5), 10)) == list(range(5))


def test_line_over_the_date_line_is_cut_there() -> None:
    lasts, firsts, owners = projections.split_at_date_line(
        np.array([[10.0, 170.0], [0.0, 0.0], [0.0, -170.0], [5.0, 180.0]]),
        np.array([[20.0, -170.0], [5.0, 90.0], [8.0, 150.0], [5.0, -180.0]]),
    )
    assert owners.tolist() == [0, 2, 3]
    np.testing.assert_allclose(firsts[0], [[10.0, 170.0], [15.0, 180.0]])
    np.testing.assert_allclose(lasts[0], [[15.0, -180.0], [20.0, -170.0]])
    np.testing.assert_allclose(lasts[1], [[0.0, 0.0], [5.0, 90.0]])
    np.testing.assert_allclose(firsts[1], [[0.0, -170.0], [8.0 / 4.0, -180.0]])
    np.testing.assert_allclose(lasts[2], [[8.0 / 4.0, 180.0], [8.0, 150.0]])
    np.testing.assert_allclose(lasts[3], [[5.0, -180.0], [5.0, -180.0]])


@pytest.mark.parametrize(
    ("most", "length"),
    [(1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (137_000.0, 100_000.0), (9e5, 5e5), (0.07, 0.05)],
)
def test_scale_bar_is_a_round_length(most: float, length: float) -> None:
    assert projections.round_length(most) == pytest.approx(length)


def test_degrees_have_letters() -> None:
    named = [projections.format_degree(degree, "WE") for degree in (-30, 0, 150)]
    assert named == ["30°W", "0°", "150°E"]


def test_a_point_out_of_reach_is_pulled_in_its_own_direction(croatia: PlaneRegion) -> None:
    centre = croatia.centre_deg
    coords = np.array([[45.0, 16.0], [-40.0, 170.0]])
    pulled = projections.clip_to_frame(coords, centre, 3000.0)
    np.testing.assert_array_equal(pulled[0], coords[0])
    assert haversine_km(pulled[1], centre) == pytest.approx(3000.0)
    rest_km = haversine_km(pulled[1], coords[1])
    # On the great circle, the two distances add up.
    assert 3000.0 + rest_km == pytest.approx(float(haversine_km(centre, coords[1])))


def test_a_cell_that_ends_at_the_date_line_stays_on_its_side() -> None:
    projection = projections.make_projection(world())
    east = np.array([[0.0, 170.0], [0.0, -180.0], [10.0, -180.0], [10.0, 170.0], [0.0, 170.0]])
    np.testing.assert_allclose(projection.project_ring(east)[:, 0], [170.0, 180.0, 180.0, 170.0, 170.0])
    west = np.array([[0.0, 180.0], [0.0, -170.0], [10.0, -170.0], [10.0, 180.0], [0.0, 180.0]])
    np.testing.assert_allclose(projection.project_ring(west)[:, 0], [-180.0, -170.0, -170.0, -180.0, -180.0])


def test_a_cell_over_the_date_line_is_drawn_on_both_sides() -> None:
    projection = projections.make_projection(world())
    ring = np.array([[0.0, 170.0], [0.0, -170.0], [10.0, -170.0], [10.0, 170.0], [0.0, 170.0]])
    east, west = sorted(projection.project_rings(ring), key=lambda drawn: -drawn[:, 0].max())
    np.testing.assert_allclose(east[:, 0], [170.0, 190.0, 190.0, 170.0, 170.0])
    np.testing.assert_allclose(west, east - (360.0, 0.0))
    inside = np.array([[0.0, 10.0], [0.0, 20.0], [10.0, 20.0], [0.0, 10.0]])
    (inner,) = projection.project_rings(inside)
    np.testing.assert_array_equal(inner, inside[:, ::-1])


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("latitude", [70.0, -70.0])
def test_a_cell_round_a_pole_is_drawn_to_the_edge_of_the_map(direction: int, latitude: float) -> None:
    longitude = np.array([30.0, 120.0, -150.0, -60.0, 30.0])[::direction]
    (ring,) = projections.make_projection(world()).project_rings(
        np.stack((np.full(5, latitude), longitude), axis=-1)
    )
    shape = shapely.Polygon(ring)
    assert shape.is_valid
    assert shape.equals(shapely.box(-180.0, latitude, 180.0, np.copysign(90.0, latitude)))


@pytest.mark.parametrize("builder", [SquareGrid(size=60), KMeansGrid(size=20)])
def test_grids_are_drawn(tmp_path: Path, croatia: PlaneRegion, builder: GridBuilder) -> None:
    coords = sample_land(croatia, 200)
    grid = builder.fit(croatia, coords)
    places = {"coords_deg": coords, "splits": make_splits(200)}
    check_same_twice(tmp_path, maps.draw_grid, region=croatia, grid=grid, title="a $5_ day", **places)
    assert f"{grid.num_cells} hold training places" in maps.describe_grid(grid, 200)


def test_far_point_widens_the_map_little(croatia: PlaneRegion) -> None:
    projection = projections.make_projection(croatia)
    near = projection.bounds(projection.project(croatia.centre_deg[None]), [])
    far = projection.bounds(projection.project(np.array([[60.0, 16.0]])), [])
    assert (far[2:] - far[:2]).max() < 1.25 * (near[2:] - near[:2]).max()
    assert far[3] > near[3]


def test_map_of_the_world_shows_the_antarctic_only_for_places_there() -> None:
    projection = projections.make_projection(world())
    assert projection.bounds(np.array([[16.0, 45.0]]), []).tolist() == [-180.0, -60.0, 180.0, 84.0]
    assert projection.bounds(np.array([[16.0, -89.0]]), []).tolist() == [-180.0, -90.0, 180.0, 84.0]


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 1.3, 1.4, 2.0, 20.0])
def test_boxes_do_not_overlap(shape: float) -> None:
    sheet = maps.make_sheet(np.array([0.0, 0.0, shape, 1.0]), 1.0)
    map_left, map_bottom, map_width, map_height = sheet.map
    left, bottom, width, height = sheet.side
    assert (left >= map_left + map_width) if sheet.beside else (bottom + height <= map_bottom)
    assert left + width <= 10.0
    assert map_bottom + map_height <= sheet.height - HEADER_IN + 1e-9
    assert min(bottom, map_width, map_height) > 0
    assert sheet.height < 10.0


def test_summaries_state_counts(croatia: PlaneRegion) -> None:
    grid = SquareGrid(size=60).fit(croatia, np.array([[45.8, 16.0], [43.5, 16.4], [43.51, 16.4]]))
    assert maps.describe_grid(grid, 3).startswith("60 cells touch land, 2 hold training places; side of a cell ")
    assert maps.describe_grid(None, 1234) == "1,234 places, no cells"
    assert maps.describe_arrows(np.array([1.0, 3.0, 80.0]), 3) == "3 test places: mean error 28 km, median 3.0 km"
    cut = maps.describe_arrows(np.arange(1000.0), 400)
    assert cut.startswith("400 of 1,000 test places, evenly by rank of error; all 1,000: mean error 500 km")


def test_one_place_without_a_grid(tmp_path: Path, croatia: PlaneRegion) -> None:
    places = {"coords_deg": sample_land(croatia, 1), "splits": make_splits(1)}
    pixels = draw_picture(tmp_path, maps.draw_grid, region=croatia, grid=None, **places)
    assert measure_ink(pixels) > 0.08


def test_a_country_over_the_date_line_is_drawn_whole(tmp_path: Path) -> None:
    region = country("FJI")
    coords = region.to_degrees(np.random.default_rng(0).normal(0, 1e5, (50, 2)))
    grid = SquareGrid(size=20).fit(region, coords)
    places = {"coords_deg": coords, "splits": make_splits(50)}
    draw_picture(tmp_path, maps.draw_grid, region=region, grid=grid, **places)
    draw_picture(tmp_path, maps.draw_arrows, region=region, **make_arrows(coords, coords[::-1]))

    projection = projections.make_projection(region)
    pieces, cut, _ = projection.project_lines(np.array([[-17.0, 179.9]]), np.array([[-17.0, -179.9]]))
    assert len(cut) == 0
    # 21 km, not around the Earth.
    assert np.linalg.norm(pieces[0, 1] - pieces[0, 0]) < 30_000


def test_world(tmp_path: Path) -> None:
    coords = np.array([[45.8, 16.0], [-17.8, 178.0], [40.7, -74.0], [-33.9, 18.4], [35.7, 139.7]])
    grid = SquareGrid(size=200).fit(world(), coords)
    places = {"coords_deg": coords, "splits": make_splits(5)}
    draw_picture(tmp_path, maps.draw_grid, region=world(), grid=grid, **places)
    arrows = make_arrows(coords, np.roll(coords, 1, axis=0))
    draw_picture(tmp_path, maps.draw_arrows, region=world(), **arrows)


def test_arrows_of_a_country_are_drawn_also_without_any_error(tmp_path: Path, croatia: PlaneRegion) -> None:
    true = sample_land(croatia, 100)
    predicted = true + np.random.default_rng(3).normal(0, 0.5, true.shape)
    # A prediction for which the CRS is undefined.
    predicted[0] = (-40.0, 170.0)
    arrows = make_arrows(true, predicted)
    pixels = check_same_twice(tmp_path, maps.draw_arrows, region=croatia, **arrows)
    assert measure_ink(pixels) > 0.08
    draw_picture(tmp_path, maps.draw_arrows, region=croatia, **make_arrows(true[:3], true[:3]))
