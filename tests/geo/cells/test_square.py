"""Squares and bands against their definitions, and numbers of touching cells against shapely."""

from __future__ import annotations

import itertools
import math
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from geoguesser.geo import boundaries
from geoguesser.geo.cells.base import Cells
from geoguesser.geo.cells.factory import make_cells_by_count, make_cells_of_side, restore_cells
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion, country

PROPERTY = settings(max_examples=50, deadline=None)
sides_m = st.floats(100, 500_000)
corners_m = st.floats(-5e6, 5e6)
counts = st.integers(1, 12)
squares = st.builds(SquareCells, corners_m, corners_m, sides_m, counts, counts)
sphere_sides_km = st.floats(250, 20_000)


@pytest.fixture(scope="module")
def plane() -> dict[str, PlaneRegion]:
    return {
        "HRV": country("HRV", "EPSG:3765"),
        "SVN": country("SVN"),
        "FJI": country("FJI"),
        "MDV": country("MDV"),
    }


def bands(side_km: float) -> BandCells:
    return BandCells.over(None, side_km)  # type: ignore[arg-type]  # it covers the sphere, whatever the land


def all_ids(cells: Cells) -> np.ndarray:
    return np.arange(cells.count)


def edges_deg(cells: BandCells) -> np.ndarray:
    """(count, 4) south, west, north, east, worked out anew from the definition of the partition."""
    edges, below = [], 0
    for number in cells.cells_per_band:
        south, north = (math.degrees(math.asin(-1 + 2 * k / cells.count)) for k in (below, below + number))
        below += number
        edges += [(south, -180 + 360 * i / number, north, -180 + 360 * (i + 1) / number) for i in range(number)]
    return np.array(edges)


@PROPERTY
@given(cells=squares | sphere_sides_km.map(bands))
def test_each_cells_centre_lies_in_the_cell(cells: Cells) -> None:
    np.testing.assert_array_equal(cells.locate(cells.centres(all_ids(cells))), all_ids(cells))


@PROPERTY
@given(cells=squares)
def test_squares_are_true_squares(cells: SquareCells) -> None:
    rings = cells.outlines(all_ids(cells))
    assert rings.shape == (cells.count, 5, 2)
    np.testing.assert_array_equal(rings[:, 0], rings[:, -1])
    sides = np.diff(rings, axis=1)
    np.testing.assert_allclose(np.linalg.norm(sides, axis=-1), cells.side_m, atol=1e-6)
    right_angles = np.sum(sides * np.roll(sides, 1, axis=1), axis=-1)
    np.testing.assert_allclose(right_angles / cells.side_m**2, 0.0, atol=1e-9)
    polygons = shapely.polygons(rings)
    np.testing.assert_allclose(shapely.area(polygons) / cells.side_m**2, 1.0, rtol=1e-6)
    np.testing.assert_allclose(shapely.get_coordinates(shapely.centroid(polygons)), cells.centres(all_ids(cells)))
    assert cells.side_km == cells.side_m / 1000


def test_squares_are_numbered_by_row_from_the_south_west() -> None:
    cells = SquareCells(west_m=1000.0, south_m=-500.0, side_m=100.0, columns=3, rows=2)
    points = np.array([(1050, -450), (1250, -450), (1050, -350), (1299, -301)], dtype=float)
    assert cells.locate(points).tolist() == [0, 2, 3, 5]
    assert cells.count == 6
    np.testing.assert_array_equal(cells.centres(np.array([0, 5])), [(1050, -450), (1250, -350)])


def test_a_square_includes_only_its_western_and_southern_edges() -> None:
    cells = SquareCells(west_m=0.0, south_m=0.0, side_m=128.0, columns=4, rows=4)
    points = np.array([(0, 0), (128, 64), (64, 128), (128, 128), (127.999, 127.999)])
    assert cells.locate(points).tolist() == [0, 1, 4, 5, 0]
    outside = np.array([(512, 64), (64, 512), (-0.001, 64), (64, -0.001), (1e7, 1e7), (-1e7, 64)])
    assert (cells.locate(outside) == -1).all()


@PROPERTY
@given(cells=squares, share=st.floats(0, 1), data=st.data())
def test_a_point_on_a_shared_edge_falls_in_exactly_one_of_the_two_cells(
    cells: SquareCells, share: float, data: st.DataObject
) -> None:
    column, row = (data.draw(st.integers(0, most - 1)) for most in (cells.columns, cells.rows))
    west, south = cells.west_m + column * cells.side_m, cells.south_m + row * cells.side_m
    on_western_edge = (west, south + share * cells.side_m)
    on_southern_edge = (west + share * cells.side_m, south)
    located = cells.locate(np.array([on_western_edge, on_southern_edge, (west, south)]))
    assert located.shape == (3,)  # one cell each
    rings = shapely.polygons(cells.outlines(all_ids(cells)))
    points = shapely.points(np.array([on_western_edge, on_southern_edge, (west, south)]))
    for number, point in zip(located, points, strict=True):
        if number >= 0:
            assert shapely.distance(rings[number], point) < 1e-6
        else:  # only on the raster's own edge may a point be left out
            assert shapely.distance(shapely.box(*shapely.total_bounds(rings)).boundary, point) < 1e-6


@PROPERTY
@given(side_km=sphere_sides_km)
def test_band_cells_all_have_exactly_the_same_area(side_km: float) -> None:
    cells = bands(side_km)
    lat_lon = from_unit(cells.outlines(all_ids(cells)))
    lat_lon = lat_lon[:, :, 0]
    south, north = lat_lon.min(axis=1), lat_lon.max(axis=1)
    widths = np.concatenate([np.full(number, 2 * np.pi / number) for number in cells.cells_per_band])
    areas = EARTH_RADIUS_KM**2 * widths * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
    np.testing.assert_allclose(areas, 4 * np.pi * EARTH_RADIUS_KM**2 / cells.count, rtol=1e-6)
    assert cells.side_km**2 == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2 / cells.count)
    assert cells.count == sum(cells.cells_per_band)


@pytest.mark.parametrize("side_km", [50, 100, 250, 500, 1000])
def test_band_cells_are_near_squares_of_about_the_side_away_from_the_poles(side_km: float) -> None:
    cells = bands(side_km)
    assert cells.side_km == pytest.approx(side_km, rel=0.01)
    south, west, north, east = edges_deg(cells).T
    middle = (south + north) / 2
    away = np.abs(middle) < 75
    high = np.radians(north - south) * EARTH_RADIUS_KM
    wide = np.radians(east - west) * EARTH_RADIUS_KM * np.cos(np.radians(middle))
    np.testing.assert_allclose((wide / high)[away], 1.0, atol=0.2 if side_km > 300 else 0.1)
    np.testing.assert_allclose(high[away], side_km, rtol=0.15)


@pytest.mark.parametrize("side_km", [300, 2000, 20_000])
def test_outlines_and_centres_of_band_cells_are_those_of_the_definition(side_km: float) -> None:
    cells = bands(side_km)
    south, west, north, east = edges_deg(cells).T
    np.testing.assert_allclose(
        cells.centres(all_ids(cells)), to_unit(np.stack(((south + north) / 2, (west + east) / 2), -1)), atol=1e-9
    )
    rings = cells.outlines(all_ids(cells))
    np.testing.assert_allclose(np.linalg.norm(rings, axis=-1), 1.0)
    np.testing.assert_allclose(rings[:, 0], rings[:, -1], atol=1e-12)
    for corner in itertools.product((south, north), (west, east)):
        gaps = np.linalg.norm(rings - to_unit(np.stack(corner, axis=-1))[:, None], axis=-1)
        assert gaps.min(axis=1).max() < 1e-9


@PROPERTY
@given(side_km=sphere_sides_km, lat=st.floats(-90, 90), lon=st.floats(-180, 180))
def test_a_point_lies_in_the_band_cell_that_covers_it(side_km: float, lat: float, lon: float) -> None:
    cells = bands(side_km)
    located = cells.locate(to_unit(np.array([(lat, lon)])))[0]
    assert 0 <= located < cells.count
    south, west, north, east = edges_deg(cells)[located]
    assert south - 1e-6 <= lat <= north + 1e-6  # an arcsine near a pole is good to 1e-6 degrees
    at_pole = abs(lat) > 90 - 1e-6  # all longitudes meet there
    assert (
        at_pole or min((lon - west) % 360, (west - lon) % 360) < 1e-9 or (lon - west) % 360 <= east - west + 1e-9
    )


def test_the_date_line_and_the_poles_belong_to_one_band_cell_each() -> None:
    cells = bands(500)
    twice = cells.locate(to_unit(np.array([(10.0, 180.0), (10.0, -180.0), (90.0, 0.0), (-90.0, 0.0)])))
    assert twice[0] == twice[1]
    assert twice[2] >= cells.count - cells.cells_per_band[-1]
    assert twice[3] < cells.cells_per_band[0]


def touching_by_shapely(cells: Cells, region: Region) -> np.ndarray:
    """The ids of the cells whose shape meets the land, located by way of a spatial join."""
    if isinstance(cells, SquareCells):
        column, row = np.meshgrid(np.arange(cells.columns), np.arange(cells.rows))
        west = cells.west_m + column.ravel() * cells.side_m
        south = cells.south_m + row.ravel() * cells.side_m
        shapes = shapely.box(west, south, west + cells.side_m, south + cells.side_m)
        assert isinstance(region, PlaneRegion)
        land = shapely.get_parts(region.land_m)
    else:
        assert isinstance(cells, BandCells)
        south, west, north, east = edges_deg(cells).T
        shapes = shapely.box(west, south, east, north)
        land = shapely.get_parts(region.land_deg)
    touching = shapely.STRtree(shapes).query(land, predicate="intersects")[1]
    return np.unique(touching)


@pytest.mark.parametrize(
    ("code", "size"),
    [*itertools.product(("HRV", "SVN", "FJI", "MDV"), (60, 120, 240)), ("world", 60), ("world", 200)],
)
def test_the_requested_number_of_cells_touches_land(
    plane: dict[str, PlaneRegion], earth: SphereRegion, code: str, size: int
) -> None:
    region = earth if code == "world" else plane[code]
    cells = make_cells_by_count(region, size)
    touching = cells.touching(region)
    assert abs(len(touching) - size) <= 0.02 * size
    np.testing.assert_array_equal(touching, touching_by_shapely(cells, region))


def test_touching_agrees_with_another_projection(plane: dict[str, PlaneRegion]) -> None:
    cells = make_cells_by_count(plane["HRV"], 120)
    land = geopandas.GeoSeries([boundaries.read_country("HRV")], crs=4326).to_crs(3765).iloc[0]
    rings = shapely.polygons(cells.outlines(all_ids(cells)))
    np.testing.assert_array_equal(cells.touching(plane["HRV"]), np.flatnonzero(shapely.intersects(rings, land)))


@pytest.mark.parametrize("code", ["HRV", "FJI"])
def test_one_cell_holds_all_land(plane: dict[str, PlaneRegion], code: str) -> None:
    region = plane[code]
    cells = make_cells_by_count(region, 1)
    assert len(cells.touching(region)) == 1
    vertices = shapely.get_coordinates(region.land_deg)[:, ::-1]
    assert np.unique(cells.locate(region.to_space(vertices))).tolist() == cells.touching(region).tolist()


@pytest.mark.parametrize("size", [2, 3, 7, 20])
def test_few_cells_are_found_as_well(plane: dict[str, PlaneRegion], size: int) -> None:
    for region in plane.values():
        assert len(make_cells_by_count(region, size).touching(region)) == size


@pytest.mark.parametrize("phase", [(0.0, 0.0), (0.25, 0.0), (0.5, 0.75), (1.0, 1.0)])
@pytest.mark.parametrize("side_km", [17.0, 90.0, 2000.0])
def test_the_raster_covers_all_land_wherever_it_is_moved(
    plane: dict[str, PlaneRegion], side_km: float, phase: tuple[float, float]
) -> None:
    for region in plane.values():
        cells = make_cells_of_side(region, side_km, phase)
        assert isinstance(cells, SquareCells)
        assert cells.side_km == side_km
        raster = box(
            cells.west_m,
            cells.south_m,
            cells.west_m + cells.columns * cells.side_m,
            cells.south_m + cells.rows * cells.side_m,
        )
        assert raster.buffer(1e-6).contains(region.land_m)


def test_the_raster_is_centred_on_the_land_and_moved_by_the_phase(plane: dict[str, PlaneRegion]) -> None:
    region = plane["HRV"]
    west, south, east, north = region.land_m.bounds
    still, moved = (SquareCells.over(region, 50.0, phase) for phase in ((0.0, 0.0), (0.25, 0.5)))
    assert still.west_m + still.columns * 25_000 == pytest.approx((west + east) / 2)
    assert still.south_m + still.rows * 25_000 == pytest.approx((south + north) / 2)
    assert (moved.west_m - still.west_m) / 50_000 % 1 == pytest.approx(0.25)
    assert (moved.south_m - still.south_m) / 50_000 % 1 == pytest.approx(0.5)


def test_land_that_fills_its_raster_exactly_is_covered() -> None:
    crs = "+proj=laea +lat_0=0 +lon_0=0 +datum=WGS84 +units=m"
    region = PlaneRegion("square", MultiPolygon([box(-1, -1, 1, 1)]), crs)
    side_km = (region.land_m.bounds[2] - region.land_m.bounds[0]) / 4000
    cells = SquareCells.over(region, side_km)
    assert cells.columns == 4
    assert len(cells.touching(region)) == cells.count


@pytest.mark.parametrize("make", [lambda: SquareCells(1.5, -2.5, 3.25, 7, 9), lambda: bands(700)])
def test_cells_are_restored_from_their_state(make: Any) -> None:
    cells = make()
    again = restore_cells(cells.state())
    assert type(again) is type(cells)
    assert (again.count, again.side_km) == (cells.count, cells.side_km)
    np.testing.assert_array_equal(again.centres(all_ids(again)), cells.centres(all_ids(cells)))


def test_a_state_holds_plain_numbers(plane: dict[str, PlaneRegion], earth: SphereRegion) -> None:
    fitted = [make_cells_by_count(plane[code], size) for code, size in (("HRV", 60), ("SVN", 1), ("FJI", 7))]
    for cells in (*fitted, make_cells_of_side(earth, 3000.0)):
        state = cells.state()
        numbers = [n for value in state.values() for n in (value if isinstance(value, list) else [value])]
        assert {type(number) for number in numbers} <= {int, float, str}, state
