"""Regions: areas, distances and nearest land against pyproj.Geod, shapely and geopandas."""

from __future__ import annotations

import math
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box
from support.geodesics import compute_geod_km
from support.vector_files import write_layer

from geoguesser.errors import ConfigError, RegionError
from geoguesser.geo import boundaries
from geoguesser.geo.distance import from_unit
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion, country, custom, restore_region

ELLIPSOID = pyproj.Geod(ellps="WGS84")
PROPERTY = settings(max_examples=50, deadline=None)
REAL = Path(__file__).parents[2] / ".." / "shared" / "real_coordinates.csv"


@pytest.fixture(scope="module")
def croatia_m() -> shapely.Geometry:
    """Croatia's land in metres by another way than the region's own."""
    return geopandas.GeoSeries([boundaries.read_country("HRV")], crs=4326).to_crs(3765).iloc[0]


def metres(coords: np.ndarray) -> np.ndarray:
    transformer = pyproj.Transformer.from_crs(4326, 3765, always_xy=True)
    return np.stack(transformer.transform(coords[:, 1], coords[:, 0]), -1)


def around_croatia(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((41.5, 12.5), (47.5, 20.5), (count, 2))


def over_the_world(count: int, seed: int = 0) -> np.ndarray:
    return from_unit(np.random.default_rng(seed).normal(size=(count, 3)))


def ellipsoidal_area_km2(land: MultiPolygon) -> float:
    parts = shapely.orient_polygons(shapely.get_parts(land))
    return sum(ELLIPSOID.geometry_area_perimeter(part)[0] for part in parts) / 1e6


def test_croatias_area_and_diagonal(croatia: PlaneRegion) -> None:
    assert ellipsoidal_area_km2(croatia.land_deg) == pytest.approx(55_023, abs=5)
    assert croatia.area_km2 == pytest.approx(55_023, abs=5)  # its CRS is conformal: true to 0.01 % here
    assert 600 < croatia.diagonal_km < 680  # some 460 km by 465 km
    west, south, east, north = boundaries.read_country("HRV").bounds
    corner_to_corner = ELLIPSOID.inv(west, south, east, north)[2] / 1000
    assert croatia.diagonal_km == pytest.approx(corner_to_corner, rel=0.02)


@PROPERTY
@given(lat=st.floats(30, 60), lon=st.floats(0, 35))
def test_metres_and_degrees_are_inverse(croatia: PlaneRegion, lat: float, lon: float) -> None:
    coords = np.array([(lat, lon)])
    back = croatia.to_degrees(croatia.to_metres(coords))
    assert ELLIPSOID.inv(lon, lat, back[0, 1], back[0, 0])[2] < 1e-3
    np.testing.assert_array_equal(croatia.to_space(coords), croatia.to_metres(coords))
    np.testing.assert_array_equal(croatia.from_space(croatia.to_space(coords)), back)


def test_snapping_moves_no_land_point_and_brings_all_others_to_the_nearest_land(
    croatia: PlaneRegion, croatia_m: shapely.Geometry
) -> None:
    coords = around_croatia(2000)
    before = coords.copy()
    snapped = croatia.snap(coords)
    np.testing.assert_array_equal(coords, before)
    inside = shapely.contains_xy(croatia_m, *metres(coords).T)
    assert 200 < inside.sum() < 1500
    np.testing.assert_array_equal(croatia.contains(coords), inside)
    np.testing.assert_array_equal(snapped[inside], coords[inside])
    assert croatia.contains(snapped).all()
    moved = np.hypot(*(metres(snapped) - metres(coords)).T)
    nearest = shapely.distance(croatia_m, shapely.points(metres(coords)))
    np.testing.assert_allclose(moved, nearest, atol=1e-3)
    np.testing.assert_allclose(croatia.distance_to_land_km(coords), compute_geod_km(coords, snapped), atol=1e-6)


def test_no_points(croatia: PlaneRegion, earth: SphereRegion) -> None:
    for region in (croatia, earth):
        assert region.contains(np.zeros((0, 2))).shape == (0,)
        assert region.snap(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.skipif(not REAL.exists(), reason="the real coordinates are not here")
def test_real_street_view_positions_lie_in_croatia(croatia: PlaneRegion) -> None:
    coords = pd.read_csv(REAL)[["latitude", "longitude"]].to_numpy()
    assert len(coords) == 33_022
    assert croatia.contains(coords).mean() == pytest.approx(0.971, abs=0.0005)
    assert (croatia.distance_to_land_km(coords) <= 1.0).mean() == pytest.approx(0.993, abs=0.0005)


@pytest.mark.parametrize("name", ["contains", "to_metres", "to_space", "distance_to_land_km", "snap"])
@pytest.mark.parametrize(
    "point", [(90.5, 16.0), (45.0, 180.5), (1000.0, 16.0), (math.nan, 16.0), (45.0, math.inf)]
)
def test_coordinates_other_than_degrees_are_refused(
    croatia: PlaneRegion, name: str, point: tuple[float, float]
) -> None:
    with pytest.raises(RegionError, match=r"^\(latitude, longitude\) must be finite, within 90 and 180 degrees"):
        getattr(croatia, name)(np.array([(45.0, 16.0), point]))


def test_far_points_are_refused_with_the_first_of_them(croatia: PlaneRegion) -> None:
    points = np.array([(45.0, 16.0), (-45.0, -164.0), (40.0, -75.0)])
    for method in (croatia.to_metres, croatia.to_space, croatia.contains):
        with pytest.raises(RegionError, match=r"Croatia must lie within 3000 km .*2 of 3.* got \(-45\.0, -164"):
            method(points)
    croatia.to_metres(np.array([(60.0, -5.0), (30.0, 40.0)]))  # 2,000 km away: allowed


def test_far_points_snap_to_the_nearest_vertex(croatia: PlaneRegion) -> None:
    points = np.array([(-45.0, -164.0), (40.0, -75.0), (-90.0, 0.0), (0.0, 180.0), (45.8, 16.0)])
    snapped = croatia.snap(points)
    assert croatia.contains(snapped).all()
    np.testing.assert_array_equal(snapped[-1], points[-1])
    vertices = shapely.get_coordinates(croatia.land_deg)[:, ::-1]
    least_km = compute_geod_km(points[:-1, None], vertices).min(axis=1)
    np.testing.assert_allclose(compute_geod_km(points[:-1], snapped[:-1]), least_km, atol=1e-3)


@pytest.mark.parametrize("code", ["RUS", "FJI"])
def test_a_country_across_the_date_line_is_compact(code: str) -> None:
    region = country(code)
    coords = shapely.get_coordinates(region.land_deg)
    lat, lon = np.broadcast_to(region.centre_deg, (len(coords), 2)).T
    radius_m = max(ELLIPSOID.inv(lon, lat, coords[:, 0], coords[:, 1])[2])
    bounds = shapely.bounds(shapely.get_parts(region.land_m))
    assert (bounds[:, 2:] - bounds[:, :2]).max() < 1.01 * 2 * radius_m
    assert region.diagonal_km * 1000 < 1.01 * math.sqrt(8) * radius_m
    assert np.abs(region.land_m.bounds).max() < 1.01 * radius_m  # around the centre of its own CRS


@pytest.mark.parametrize(("code", "lat"), [("RUS", 67.5), ("FJI", -16.8)])
def test_land_split_at_the_date_line_grows_together_again(code: str, lat: float) -> None:
    region = country(code)
    at = region.to_metres(np.array([(lat, 180.0), (lat, -180.0)]))
    np.testing.assert_allclose(at[0], at[1], atol=1e-3)
    middle = shapely.Point(at[0])
    assert region.land_m.contains(middle)
    assert region.land_m.boundary.distance(middle) > 500  # no seam there
    assert len(region.land_m.geoms) < len(region.land_deg.geoms)


def test_every_shipped_country_is_a_region() -> None:
    for code, entry in boundaries.load_countries().items():
        region = country(code)
        assert region.name == entry["name"]
        assert region.land_m.is_valid
        assert region.area_km2 == pytest.approx(ellipsoidal_area_km2(region.land_deg), rel=0.005), code
        # A box around it has at least its area, and no box has more area than half its diagonal's square.
        assert region.diagonal_km**2 >= 2 * region.area_km2 * (1 - 1e-9), code


def test_without_a_crs_a_country_gets_an_equal_area_one_at_its_centre() -> None:
    slovenia = country("SVN")
    np.testing.assert_allclose(slovenia.centre_deg, (46.12, 14.82), atol=0.1)  # the centre of Slovenia
    np.testing.assert_allclose(slovenia.to_metres(slovenia.centre_deg[None]), 0.0, atol=10)
    plane = slovenia.to_metres(np.array([(46.05, 14.51), (46.55, 15.65)]))  # Ljubljana, Maribor
    true = ELLIPSOID.inv(14.51, 46.05, 15.65, 46.55)[2]
    assert np.hypot(*(plane[1] - plane[0])) == pytest.approx(true, rel=1e-3)


def test_the_centre_of_land_weighs_its_parts_by_their_true_area() -> None:
    # Two small squares in degrees, on the equator and at 60 north, where a degree of longitude is half as
    # long: the mean direction is (1, 0) + (cos 60, sin 60) / 2.
    land = MultiPolygon([box(9.9, -0.1, 10.1, 0.1), box(9.9, 59.9, 10.1, 60.1)])
    expected = math.degrees(math.atan2(math.sin(math.radians(60)) / 2, 1 + 0.25))
    np.testing.assert_allclose(PlaneRegion("two squares", land).centre_deg, (expected, 10.0), atol=1e-3)


def test_the_centre_of_land_on_both_sides_of_the_date_line() -> None:
    land = MultiPolygon([box(179, -17, 180, -16), box(-180, -17, -179, -16)])
    lat, lon = PlaneRegion("two squares", land).centre_deg
    assert lat == pytest.approx(-16.5, abs=0.01)
    assert abs(lon) == pytest.approx(180.0, abs=1e-6)


@pytest.fixture
def square_file(tmp_path: Path) -> Path:
    return write_layer(tmp_path / "my square.gpkg", [box(15, 45, 16, 46)])


def test_the_edges_of_a_box_in_degrees_are_parallels_and_meridians(tmp_path: Path) -> None:
    """On the plane of such a region they are curves: straight ones leave out 70.1 and take in 85.5 north."""
    region = custom(str(write_layer(tmp_path / "box.geojson", [box(-30, 70, 0, 85), box(0, 70, 30, 85)])))
    points = np.array([(70.01, 0.0), (69.99, 0.0), (84.99, 0.0), (85.01, 0.0), (75.0, 29.99), (75.0, 30.01)])
    assert region.contains(points).tolist() == [True, False] * 3
    by_hand = (math.sin(math.radians(85)) - math.sin(math.radians(70))) * math.radians(60) * 6371.0**2
    assert region.area_km2 == pytest.approx(by_hand, rel=0.01)
    assert len(shapely.get_rings(shapely.get_parts(region.land_m))) == 1  # nothing was torn where the two touch


def test_the_edges_of_a_box_in_metres_are_straight_in_metres(tmp_path: Path) -> None:
    drawn = box(300_000, 4_700_000, 700_000, 5_100_000)
    path = write_layer(tmp_path / "box.gpkg", [drawn], crs=3765)
    assert shapely.hausdorff_distance(custom(str(path), crs=3765).land_m, drawn) < 2.0


def test_a_custom_region_is_named_after_its_file(square_file: Path) -> None:
    region = custom(str(square_file))
    assert region.name == "my square"
    assert custom(str(square_file), name="Lika").name == "Lika"
    assert region.contains(np.array([(45.5, 15.5), (45.5, 16.5)])).tolist() == [True, False]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_custom_region_needs_a_file(nothing: str | None) -> None:
    with pytest.raises(ConfigError, match=rf"^region\.boundary must name a file, got {nothing!r}"):
        custom(nothing)


@pytest.mark.parametrize(
    ("crs", "rule"),
    [
        ("EPSG:4326", r"projected and in metres, got 'WGS 84 \(degree\)'\. Leave it out"),
        ("EPSG:2263", r"projected and in metres, .* \(US survey foot\)'"),
        ("EPSG:nope", "be a CRS that pyproj knows, got 'EPSG:nope'"),
        ("EPSG:2154", r"be made for the land: .*Lambert-93 is for France.* got \(13\.5, 42\.42"),
        ("EPSG:3857", r"keep areas within 10 % .*Mercator.* multiplies them by 2\.0\d"),
    ],
)
def test_a_crs_that_does_not_fit_the_land_is_refused(crs: str, rule: str) -> None:
    with pytest.raises(RegionError, match=rf"^region\.crs must .*{rule}"):
        country("HRV", crs)


def test_a_boundary_with_swapped_axes_is_recognised_by_the_crs(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "swapped.gpkg", [box(45, 15, 46, 16)])
    with pytest.raises(RegionError, match="look swapped"):
        custom(str(path), crs=3765)


def test_a_crs_may_be_a_number_or_a_definition(square_file: Path) -> None:
    zagreb = np.array([(45.8, 15.9)])
    expected = metres(zagreb)
    for crs in (3765, "EPSG:3765", pyproj.CRS.from_epsg(3765).to_wkt()):
        np.testing.assert_allclose(custom(str(square_file), crs=crs).to_metres(zagreb), expected, atol=1e-6)


def test_the_world_holds_the_points_that_a_spatial_join_finds(earth: SphereRegion) -> None:
    coords = over_the_world(2000)
    land = geopandas.GeoDataFrame(
        geometry=[boundaries.read_country(code) for code in boundaries.load_countries()], crs=4326
    )
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(coords[:, 1], coords[:, 0]), crs=4326)
    expected = np.isin(np.arange(2000), points.sjoin(land, predicate="intersects").index)
    inside = earth.contains(coords)
    np.testing.assert_array_equal(inside, expected)
    assert inside.mean() == pytest.approx(0.29, abs=0.04)  # the land's share of the Earth


def test_the_worlds_points_at_the_date_line_and_the_poles(earth: SphereRegion) -> None:
    points = np.array([(67.5, 180.0), (67.5, -180.0), (-90.0, 0.0), (90.0, 0.0), (0.0, 180.0)])
    assert earth.contains(points).tolist() == [True, True, True, False, False]


def test_the_worlds_snap_moves_sea_points_to_land_and_no_others(earth: SphereRegion) -> None:
    coords = over_the_world(1000, seed=1)
    inside, snapped = earth.contains(coords), earth.snap(coords)
    np.testing.assert_array_equal(snapped[inside], coords[inside])
    assert inside.any()
    assert not inside.all()
    tree = shapely.STRtree(shapely.get_parts(earth.land_deg))
    miss_deg = tree.query_nearest(shapely.points(snapped[:, ::-1]), return_distance=True, all_matches=False)[1]
    assert miss_deg.max() < 1e-4  # the chord of a boundary's piece leaves it by a metre or so


@pytest.mark.parametrize(
    ("point", "neighbours"),
    [
        ((43.5, 14.8), ("HRV", "ITA")),
        ((-17.5, -179.5), ("FJI", "TON")),  # land on both sides of the date line
    ],
)
def test_the_worlds_nearest_land_is_nearest(
    earth: SphereRegion, point: tuple[float, float], neighbours: tuple[str, ...]
) -> None:
    boundaries_deg = shapely.segmentize([boundaries.read_country(code) for code in neighbours], 0.01)
    least_km = compute_geod_km(np.array(point), shapely.get_coordinates(boundaries_deg)[:, ::-1]).min()
    assert least_km > 5
    assert earth.distance_to_land_km(np.array([point]))[0] == pytest.approx(least_km, abs=0.1)


def test_the_world_has_no_plane(earth: SphereRegion) -> None:
    for method in (earth.to_metres, earth.to_degrees):
        with pytest.raises(RegionError, match=r"^region=world has no plane and no CRS\. Use head\.space=sphere"):
            method(np.zeros((1, 2)))


def test_the_worlds_size_and_space(earth: SphereRegion) -> None:
    assert earth.diagonal_km == 14_927
    assert earth.area_km2 == pytest.approx(147e6, rel=0.01)  # the Earth's land with its inland ice
    coords = over_the_world(100)
    np.testing.assert_allclose(np.linalg.norm(earth.to_space(coords), axis=1), 1.0)
    np.testing.assert_allclose(earth.from_space(earth.to_space(coords)), coords, atol=1e-9)
    for method in (earth.to_space, earth.contains, earth.snap):
        with pytest.raises(RegionError, match=r"must be finite, within 90 and 180 degrees, got \(91\.0, 0\.0\)"):
            method(np.array([(91.0, 0.0)]))


@pytest.mark.parametrize("name", ["croatia", "fiji", "world"])
def test_a_region_is_restored_from_its_state(regions: dict[str, Region], name: str) -> None:
    region = regions[name]
    again = restore_region(region.state())
    assert type(again) is type(region)
    assert again.name == region.name
    assert again.land_deg.equals_exact(region.land_deg)
    assert (again.diagonal_km, again.area_km2) == (region.diagonal_km, region.area_km2)

    coords = shapely.get_coordinates(region.land_deg)[:50, ::-1] + 0.2 * np.array((0.5, -0.5))
    np.testing.assert_array_equal(again.to_space(coords), region.to_space(coords))
    np.testing.assert_array_equal(again.snap(coords), region.snap(coords))
