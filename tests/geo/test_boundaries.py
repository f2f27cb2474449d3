"""Boundaries: shipped countries against known cities and areas, and valid and invalid files of users."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from support.vector_files import write_layer

from geoguesser.errors import ConfigError, MissingFileError, RegionError
from geoguesser.geo.boundaries import (
    check_polygons,
    extract_ring_segments,
    find_country,
    find_nearest_on_segments,
    load_countries,
    read_boundary_file,
    read_country,
    read_world,
)

SQUARE = box(15.0, 45.0, 16.0, 46.0)


def to_crs(shape: shapely.Geometry, crs: int) -> shapely.Geometry:
    return geopandas.GeoSeries([shape], crs=4326).to_crs(crs).iloc[0]


def message_of(path: Path) -> str:
    with pytest.raises(RegionError) as caught:
        read_boundary_file(path)
    assert str(caught.value).startswith(f"region.boundary {path} ")
    return str(caught.value)


def test_the_archive_holds_250_countries_with_a_name_and_unique_codes() -> None:
    index = load_countries()
    assert len(index) == 250
    assert all(re.fullmatch("[A-Z0-9]{3}", code) and entry["name"] for code, entry in index.items())
    assert {code: index[code]["name"] for code in ("HRV", "SVN", "USA")} == {
        "HRV": "Croatia",
        "SVN": "Slovenia",
        "USA": "United States of America",
    }


@pytest.mark.parametrize(
    ("code", "lat", "lon"),
    [
        ("SVN", 46.056, 14.506),  # Ljubljana
        ("FJI", -17.80, 178.00),  # inland of Viti Levu
        ("RUS", 66.50, -173.00),  # Chukotka, beyond the date line
        ("LSO", -29.50, 28.50),  # Lesotho
        ("PSE", 31.904, 35.204),  # Ramallah
    ],
)
def test_a_city_lies_in_its_country(code: str, lat: float, lon: float) -> None:
    assert read_country(find_country(code)).contains(Point(lon, lat))


def test_an_enclave_is_a_hole() -> None:
    assert not read_country("ZAF").contains(Point(28.5, -29.5))  # Lesotho
    assert not read_country("ITA").contains(Point(12.453, 41.903))  # the Vatican


def test_the_world_is_all_countries_together() -> None:
    world = read_world()
    corners = {part.bounds for part in world.geoms}
    for code in ("HRV", "SVN", "FJI", "ZWE"):
        assert {part.bounds for part in read_country(code).geoms} <= corners
    west, south, east, north = world.bounds
    assert (west, south, east) == (-180.0, -90.0, 180.0)
    assert 83 < north < 84  # Greenland


def test_every_iso_code_leads_to_its_country() -> None:
    index = load_countries()
    for code, entry in index.items():
        if entry["iso"]:
            assert index[find_country(entry["iso"])]["iso"] == entry["iso"]
        assert find_country(code) == code
    assert find_country(" Svn ") == "SVN"
    assert find_country("FRA") == "FRA"  # France, not Clipperton Island, which has its ISO code too


@pytest.mark.parametrize(
    ("wrong", "suggested"),
    [
        ("SLO", ["SVN (Slovenia)", "SVK (Slovakia)"]),
        ("Grmany", ["DEU (Germany)"]),
        ("HRC", ["HRV (Croatia)"]),
    ],
)
def test_a_wrong_code_suggests_near_ones(wrong: str, suggested: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"^region\.code must be .*, got {wrong!r}\. Near ones: ") as caught:
        find_country(wrong)
    assert all(country in str(caught.value) for country in suggested)
    assert str(caught.value).count("(") <= 4


@pytest.mark.parametrize("wrong", ["", "Q9Q", 12])
def test_a_code_without_near_ones_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match=rf"^region\.code must be .*, got {wrong!r}"):
        find_country(wrong)


@pytest.mark.parametrize("name", ["land.geojson", "land.gpkg", "land.shp"])
def test_each_kind_of_file_gives_its_polygons(tmp_path: Path, name: str) -> None:
    island = box(17.0, 43.0, 17.5, 43.2)
    hole = Polygon(SQUARE.exterior, [box(15.4, 45.4, 15.6, 45.6).exterior])
    land = read_boundary_file(write_layer(tmp_path / name, [hole, island]))
    assert isinstance(land, MultiPolygon)
    assert land.equals(shapely.union(hole, island))


# EPSG:2193 is defined as northing, easting; files hold easting, northing all the same.
@pytest.mark.parametrize(
    ("name", "crs", "square"),
    [("land.gpkg", 3765, SQUARE), ("land.shp", 3765, SQUARE), ("nz.gpkg", 2193, box(174, -42, 175, -41))],
)
def test_a_file_in_another_crs_is_turned_into_degrees(
    tmp_path: Path, name: str, crs: int, square: Polygon
) -> None:
    drawn = to_crs(shapely.segmentize(square, 0.01), crs)
    land = read_boundary_file(write_layer(tmp_path / name, [drawn], crs=crs))
    assert shapely.hausdorff_distance(land, square) < 1e-8  # a millimetre


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_without_a_crs_is_taken_for_degrees(tmp_path: Path) -> None:
    assert read_boundary_file(write_layer(tmp_path / "land.shp", [SQUARE], crs=None)).equals(SQUARE)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize(
    ("bounds", "crs", "rule"),
    [
        # Metres without a CRS, swapped axes, and longitudes beyond 180.
        ((4e5, 5e6, 4.5e5, 5.05e6), None, r"within 180 .* got \(400000\.0, .*\)\. Give the file the CRS"),
        ((-43.6, 144.6, -40.6, 148.4), 4326, r"got \(-43\.6, .* look swapped: x must be longitude"),
        ((177.0, -19.0, 182.0, -16.0), 4326, r"got \(177\.0, .* split at the date line"),
        ((1e12, 1e12, 2e12, 2e12), 3765, r"its CRS \(HTRS96 / Croatia TM\) turns into degrees\. Give the file"),
    ],
)
def test_coordinates_that_are_no_degrees_are_refused(
    tmp_path: Path, bounds: tuple, crs: object, rule: str
) -> None:
    assert re.search(rule, message_of(write_layer(tmp_path / "land.shp", [box(*bounds)], crs=crs)))


def test_a_polygon_across_the_date_line_in_a_projected_crs_is_refused(tmp_path: Path) -> None:
    # Its ring would leap from 179.9 to -179.9 and cover the world.
    across = to_crs(Point(180.0, -17.0), 3832).buffer(50_000)
    message = message_of(write_layer(tmp_path / "fiji.gpkg", [across], crs=3832))
    assert "must not cross the date line in a projected CRS (WGS 84 / PDC Mercator)" in message


def test_polygons_on_both_sides_of_the_date_line_are_taken(tmp_path: Path) -> None:
    west, east = (to_crs(Point(lon, -17.0), 3832).buffer(50_000) for lon in (179.0, -179.0))
    land = read_boundary_file(write_layer(tmp_path / "fiji.gpkg", [MultiPolygon([west, east])], crs=3832))
    assert [part.bounds[2] - part.bounds[0] < 1 for part in land.geoms] == [True, True]


def test_a_bow_tie_is_made_valid(tmp_path: Path) -> None:
    bow_tie = Polygon([(15, 45), (16, 46), (16, 45), (15, 46)])
    assert not bow_tie.is_valid
    land = read_boundary_file(write_layer(tmp_path / "land.gpkg", [bow_tie]))
    assert land.is_valid
    assert land.area == pytest.approx(0.5)  # two triangles of a quarter each
    assert land.contains(Point(15.1, 45.5))
    assert not land.contains(Point(15.5, 45.1))


def test_overlapping_polygons_are_joined(tmp_path: Path) -> None:
    land = read_boundary_file(write_layer(tmp_path / "land.gpkg", [SQUARE, box(15.5, 45.0, 16.5, 46.0)]))
    assert land.area == pytest.approx(1.5)


def test_lines_and_points_beside_polygons_are_left_out(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "land.geojson", [SQUARE, LineString([(0, 0), (1, 1)]), Point(3, 3), None])
    assert read_boundary_file(path).equals(SQUARE)


@pytest.mark.parametrize(
    ("geometries", "what"),
    [
        ([], "holds no geometry"),
        ([None], "holds no geometry"),
        ([Polygon()], "must hold polygons with an area, holds nothing"),
        ([Point(5, 5), LineString([(0, 0), (1, 1)])], "must hold polygons with an area, holds LineString, Point"),
    ],
)
def test_a_file_without_polygons_is_refused(tmp_path: Path, geometries: list, what: str) -> None:
    assert what in message_of(write_layer(tmp_path / "land.geojson", geometries))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.geojson"
    with pytest.raises(MissingFileError, match=rf"^region\.boundary {path} must be a file"):
        read_boundary_file(path)


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("land.geojson", "hello", "cannot be read as GeoJSON, GeoPackage or Shapefile"),
        ("land.geojson", '{"type": "FeatureCollection", "features": [', "cannot be read as GeoJSON"),
        ("places.csv", "id,latitude\na,45\n", "(its contents are none of these formats)"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, content: str, rule: str) -> None:
    (tmp_path / name).write_text(content)
    assert rule in message_of(tmp_path / name)


def test_a_shapefile_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "land.shp", [SQUARE])
    (tmp_path / "land.shx").unlink()
    assert "a Shapefile needs its .shx and .dbf beside it." in message_of(path)


def test_checked_polygons_drops_slivers_without_area() -> None:
    spike = Polygon([(15, 45), (16, 45), (16, 46), (15, 46), (15, 45.5), (14, 45.5), (15, 45.5)])
    land = check_polygons(spike, "here")
    assert land.equals(SQUARE)


def test_segments_do_not_connect_rings() -> None:
    hole = [(2, 2), (4, 2), (4, 5)]
    land = MultiPolygon(
        [Polygon([(0, 0), (10, 0), (10, 8), (0, 8)], [hole]), Polygon([(20, 0), (23, 0), (20, 4)])]
    )
    starts, ends = extract_ring_segments(land)
    assert len(starts) == 4 + 3 + 3
    united = shapely.union_all(shapely.linestrings(np.stack((starts, ends), axis=1)))
    assert united.equals(land.boundary)


def test_a_segment_of_no_length_is_a_point() -> None:
    nearest = find_nearest_on_segments(np.array([[3.0, 4.0]]), np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]]))
    np.testing.assert_array_equal(nearest, [[1.0, 1.0]])
