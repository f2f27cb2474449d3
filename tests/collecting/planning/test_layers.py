"""Vector layers: distances against geodesics of pyproj, and files that are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import Geod
from shapely.geometry import LineString, MultiPoint, Point, box
from support.vector_files import write_layer, write_places_csv

from geoguesser.collecting.planning.layers import Layer, read_existing_places, read_layer
from geoguesser.errors import DataError, MissingFileError
from geoguesser.geo.distance import EARTH_RADIUS_KM, haversine_km

GEOD = Geod(a=EARTH_RADIUS_KM * 1000, f=0)


def steps_along(shape: shapely.Geometry, count: int = 4000) -> np.ndarray:
    """Returns (count, 2) latitude and longitude of points along a line's edges."""
    ends = shapely.get_coordinates(shape)
    legs = [np.linspace(a, b, count) for a, b in itertools.pairwise(ends)]
    return np.concatenate(legs)[:, ::-1]


def draw_coords(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((44.9, 15.8), (46.1, 17.2), (count, 2))


def test_distance_to_lines_is_that_of_their_nearest_point() -> None:
    lines = [LineString([(16, 45), (16.7, 45.4), (17, 46)]), LineString([(16.1, 45.9), (16.1001, 45.9001)])]
    layer, points = Layer(np.array(lines, dtype=object)), draw_coords(300)
    stops = np.concatenate([steps_along(line) for line in lines])
    true_m = np.array([haversine_km(stops, point).min() for point in points]) * 1000
    for limit in (500.0, 5000.0, 30_000.0):
        is_clear = np.abs(true_m - limit) > 15.0  # resolution of the expected distances
        np.testing.assert_array_equal(layer.within(points, limit)[is_clear], (true_m <= limit)[is_clear])
    limits = true_m * np.where(np.arange(300) % 2, 1.01, 0.97)
    np.testing.assert_array_equal(layer.within(points, limits), np.arange(300) % 2 == 1)


@pytest.mark.parametrize("count", [5, 50, 400])
def test_distance_holds_where_many_short_pieces_lie_about(count: int) -> None:
    """The nearest middles belong to short pieces, while a long piece with a farther middle passes nearer."""
    cluster = [LineString([(16.003 + 1e-7 * n, 45.00085), (16.003 + 1e-7 * n, 45.00086)]) for n in range(count)]
    long = LineString([(16.0019, 45.0005), (16.0031, 45.0005)])  # 94 m: one piece; the cluster is 39 m off
    layer = Layer(np.array([*cluster, long], dtype=object))
    at_end = np.array([[45.0005, 16.0031]])
    assert layer.within(at_end, 1.0).all()
    beside = np.array([[45.0003, 16.0030]])
    assert layer.within(beside, 23.0).all()
    assert not layer.within(beside, 21.0).any()


def test_inside_a_polygon_is_near_and_outside_by_the_edge() -> None:
    layer = Layer(np.array([box(16, 45, 17, 46)], dtype=object))
    _, _, off_m = GEOD.inv(17, 45.5, 17.01, 45.5)
    points = np.array([[45.5, 16.5], [45.5, 17.01], [45.5, 17.01]])
    assert layer.within(points, np.array([1.0, off_m + 1, off_m - 1])).tolist() == [True, True, False]


def test_points_and_many_parts_and_the_date_line() -> None:
    layer = Layer(np.array([MultiPoint([(180, 0), (10, 10)]), Point(5, 5)], dtype=object))
    points = np.array([[0.0, -179.999], [10.0, 10.001], [5.001, 5.0], [0.0, 0.0]])
    assert layer.within(points, 112.0).tolist() == [True, True, True, False]
    assert layer.within(np.zeros((0, 2)), 10.0).tolist() == []


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp"])
def test_the_crs_of_a_file_is_honoured(tmp_path: Path, suffix: str) -> None:
    import geopandas

    shape = LineString([(16, 45), (16.2, 45.1)])
    crs = 4326 if suffix == "geojson" else 3765
    drawn = geopandas.GeoSeries([shape], crs=4326).to_crs(crs).tolist()
    layer = read_layer(write_layer(tmp_path / f"roads.{suffix}", drawn, crs))
    assert layer.within(np.array([[45.0, 16.0], [45.1, 16.2], [45.0, 16.2]]), 5.0).tolist() == [True, True, False]


def test_layers_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"^strategy\.near .*none\.gpkg must be a file"):
        read_layer(tmp_path / "none.gpkg")
    (tmp_path / "bad.geojson").write_text("no json")
    with pytest.raises(DataError, match=r"bad\.geojson cannot be read as a vector layer \("):
        read_layer(tmp_path / "bad.geojson")
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError, match=r"empty\.geojson must hold at least one line, point or polygon"):
        read_layer(tmp_path / "empty.geojson")
    with pytest.warns(UserWarning, match="crs"):
        path = write_layer(tmp_path / "nocrs.shp", [Point(16, 45)], None)
    with pytest.raises(DataError, match=r"nocrs\.shp must state the CRS of its coordinates, got 'no CRS'"):
        read_layer(path)
    far = write_layer(tmp_path / "far.gpkg", [Point(500_000, 5_000_000)])
    with pytest.raises(DataError, match=r"far\.gpkg must have coordinates that its CRS converts to degrees"):
        read_layer(far)


def test_existing_places_are_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    coords = draw_coords(5)
    with pytest.raises(MissingFileError, match=r"must be a data\.csv, or a folder that holds one"):
        read_existing_places(tmp_path)
    path = write_places_csv(tmp_path / "data.csv", coords)
    np.testing.assert_array_equal(read_existing_places(path), coords)
    np.testing.assert_array_equal(read_existing_places(tmp_path), coords)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid,lat,lon\na,1,2\n", r"must have the columns latitude and longitude, got \['uuid', 'lat', 'lon'\]"),
        ("uuid,latitude,longitude\n", r"must hold at least one place"),
        ("uuid,latitude,longitude\na,45,16\nb,x,16\nc,99,0\n", r"row 3 must have .* got \('x', '16'\)"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(DataError, match=rf"^strategy\.existing .*data\.csv {message}"):
        read_existing_places(tmp_path)
