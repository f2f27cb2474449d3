"""Squares and bands against their definitions, and numbers of touching cells against shapely."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box
from support.cell_boxes import check_tiling, list_ids

from geoguesser.geo.cells.base import Cells
from geoguesser.geo.cells.factory import make_cells_by_count, make_cells_of_side
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion, country

PROPERTY = settings(max_examples=50, deadline=None)


@pytest.fixture(scope="module")
def plane() -> dict[str, PlaneRegion]:
    return {"HRV": country("HRV", "EPSG:3765"), **{code: country(code) for code in ("SVN", "FJI", "MDV")}}


def bands(side_km: float) -> BandCells:
    return BandCells.over(None, side_km)  # type: ignore[arg-type]  # it covers the sphere, whatever the land


def edges_deg(cells: BandCells) -> np.ndarray:
    """Returns south, west, north, east (count, 4) from the definition: cells of equal area in each band."""
    edges, below = [], 0
    for number in cells.cells_per_band:
        south, north = (math.degrees(math.asin(-1 + 2 * k / cells.count)) for k in (below, below + number))
        below += number
        edges += [(south, -180 + 360 * i / number, north, -180 + 360 * (i + 1) / number) for i in range(number)]
    return np.array(edges)


def test_squares_are_numbered_by_row_and_include_their_western_and_southern_edges() -> None:
    cells = SquareCells(west_m=0.0, south_m=-128.0, side_m=128.0, columns=4, rows=4)
    points = np.array([(0, -128), (128, -64), (64, 0), (128, 0), (127.999, -0.001), (511, 383)])
    assert cells.locate(points).tolist() == [0, 1, 4, 5, 0, 15]
    assert cells.centres(np.array([0, 5])).tolist() == [[64, -64], [192, 64]]
    outside = np.array([(512, 64), (64, 384), (-0.001, 64), (64, -128.001), (1e7, 1e7), (-1e7, 64)])
    assert (cells.locate(outside) == -1).all()


@pytest.mark.parametrize("side_km", [50, 100, 250, 500, 1000])
def test_band_cells_are_near_squares_of_about_the_side_away_from_the_poles(side_km: float) -> None:
    cells = bands(side_km)
    assert cells.side_km == pytest.approx(side_km, rel=0.01)
    assert cells.side_km**2 == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2 / cells.count)
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
        cells.centres(list_ids(cells)), to_unit(np.stack(((south + north) / 2, (west + east) / 2), -1)), atol=1e-9
    )
    rings = cells.outlines(list_ids(cells))
    np.testing.assert_allclose(np.linalg.norm(rings, axis=-1), 1.0)
    np.testing.assert_allclose(rings[:, 0], rings[:, -1], atol=1e-12)
    for corner in itertools.product((south, north), (west, east)):
        gaps = np.linalg.norm(rings - to_unit(np.stack(corner, axis=-1))[:, None], axis=-1)
        assert gaps.min(axis=1).max() < 1e-9


@PROPERTY
@given(side_km=st.floats(250, 20_000), seed=st.integers(0, 100))
def test_bands_tile_the_sphere_and_are_boxes_of_the_definition(side_km: float, seed: int) -> None:
    cells = bands(side_km)
    random = np.random.default_rng(seed).normal(size=(200, 3))
    poles_and_date_line = [(90.0, 3.0), (-90.0, 3.0), (10.0, 180.0), (10.0, -180.0)]
    check_tiling(cells, to_unit(np.concatenate((from_unit(random), poles_and_date_line))))
    south, west, north, east = edges_deg(cells).T
    expected = (west, np.sin(np.radians(south)), east, np.sin(np.radians(north)))
    np.testing.assert_allclose(cells.boxes(list_ids(cells)), np.stack(expected, axis=-1), atol=1e-9)


def find_touching_by_shapely(cells: Cells, region: Region) -> np.ndarray:
    """Returns the ids of the cells whose shape meets the land, by way of a spatial join."""
    if isinstance(cells, BandCells):
        south, west, north, east = edges_deg(cells).T
        shapes, land = shapely.box(west, south, east, north), region.land_deg
    else:
        assert isinstance(region, PlaneRegion)
        shapes, land = shapely.polygons(cells.outlines(list_ids(cells))), region.land_m
    return np.unique(shapely.STRtree(shapes).query(shapely.get_parts(land), predicate="intersects")[1])


@pytest.mark.parametrize(
    ("code", "size"),
    [*itertools.product(("HRV", "SVN", "FJI", "MDV"), (1, 2, 3, 20, 60, 240)), ("world", 60), ("world", 200)],
)
def test_the_requested_number_of_cells_touches_land(
    plane: dict[str, PlaneRegion], earth: SphereRegion, code: str, size: int
) -> None:
    region = earth if code == "world" else plane[code]
    cells = make_cells_by_count(region, size)
    touching = cells.touching(region)
    assert abs(len(touching) - size) <= 0.02 * size
    np.testing.assert_array_equal(touching, find_touching_by_shapely(cells, region))


@pytest.mark.parametrize("phase", [(0.0, 0.0), (0.25, 0.0), (0.5, 0.75), (1.0, 1.0)])
@pytest.mark.parametrize("side_km", [17.0, 90.0, 2000.0])
def test_the_raster_covers_all_land_wherever_it_is_moved(
    plane: dict[str, PlaneRegion], side_km: float, phase: tuple[float, float]
) -> None:
    for region in plane.values():
        cells = make_cells_of_side(region, side_km, phase)
        assert isinstance(cells, SquareCells)
        assert cells.side_km == side_km
        raster = box(*shapely.total_bounds(shapely.polygons(cells.outlines(list_ids(cells)))))
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
