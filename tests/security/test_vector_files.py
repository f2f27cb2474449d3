"""Boundaries and layers from elsewhere open no other file and no address, and end in one clean line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.collecting.planning.layers import read_layer
from geoguesser.errors import GeoguesserError
from geoguesser.geo.boundaries import read_boundary_file
from geoguesser.geo.crs import check_crs
from geoguesser.geo.vector_files import read_vector_file
from geoguesser.geo.wkb import load_wkb

SECRET = shapely.box(15.0, 45.0, 16.0, 46.0)
READERS: list[Callable[[Path], object]] = [read_boundary_file, read_layer]
SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".vrt", ".kml", ".fgb", ".zip")


def write(path: Path, *geometries: shapely.Geometry, crs: object = 4326) -> Path:
    geopandas.GeoDataFrame(geometry=list(geometries), crs=crs).to_file(path)
    return path


def refuse(path: Path) -> str:
    """Checks that both readers refuse a file in one line, and returns it."""
    for read in READERS:
        with pytest.raises(GeoguesserError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    return str(caught.value)


class Listener:
    """Local server that counts connections."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.server.accept()[0].close()
            except OSError:
                return
            self.connections += 1


@pytest.fixture
def listener() -> Any:
    server = Listener()
    yield server
    server.server.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "source", ["secret.gpkg", "/vsicurl/http://127.0.0.1:{port}/x.gpkg", "http://127.0.0.1:{port}/x"]
)
def test_a_vrt_of_any_name_reads_and_fetches_nothing(
    tmp_path: Path, listener: Listener, suffix: str, source: str
) -> None:
    write(tmp_path / "secret.gpkg", SECRET)
    text = source.format(port=listener.port)
    path = tmp_path / f"land{suffix}"
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource relativeToVRT="1">{text}</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    assert "none of these formats" in refuse(path)
    assert listener.connections == 0


@pytest.mark.parametrize(
    "document",
    [
        {"type": "Topology", "objects": {"a": {"type": "Polygon", "arcs": [[0]]}}, "arcs": [[[0, 0], [1, 1]]]},
        {"geometryType": "esriGeometryPolygon", "url": "URL", "features": [{"geometry": {"rings": []}}]},
        {"type": "FeatureCollection", "features": [], "crs": {"type": "link", "properties": {"href": "URL"}}},
        {"type": "FeatureCollection", "features": [], "crs": {"type": "name", "properties": {"name": "URL"}}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"$ref": "URL"}}]},
        {"type": "FeatureCollection", "features": [1, None]},
        {"type": "FeatureCollection", "features": 7},
        {"type": "Feature"},
        {"type": "Polygon", "coordinates": [[[10**400, 0], [1, 1], [2, 2], [0, 0]]]},
        {"type": "Polygon", "coordinates": "/etc/passwd"},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": None}]},
    ],
)
def test_json_of_other_kinds_is_refused_and_fetches_nothing(
    tmp_path: Path, listener: Listener, document: dict[str, Any]
) -> None:
    path = tmp_path / "land.geojson"
    path.write_text(json.dumps(document).replace("URL", f"http://127.0.0.1:{listener.port}/x"))
    refuse(path)
    assert listener.connections == 0


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, '{"type": "Polygon", "coordinates": NaN}'])
def test_deep_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "land.geojson"
    path.write_text('{"x": ' + text)
    refuse(path)


def test_nested_collections_do_not_end_the_process(tmp_path: Path) -> None:
    head = b"\x01" + struct.pack("<II", 7, 1)
    with pytest.raises(ValueError, match="levels"):
        load_wkb(head * 100_000 + b"\x01" + struct.pack("<I2d", 1, 0.0, 0.0))

    path = tmp_path / "land.geojson"
    node = '{"type":"GeometryCollection","geometries":['
    path.write_text(node * 20_000 + "]}" * 20_000)
    refuse(path)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "land.geojson"
    os.mkfifo(pipe)
    assert "regular file" in refuse(pipe)
    refuse(Path("/dev/zero"))
    refuse(tmp_path)


def test_a_zip_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "inner.shp", SECRET)
    import zipfile

    with zipfile.ZipFile(tmp_path / "land.geojson", "w") as archive:
        for part in tmp_path.glob("inner.*"):
            archive.write(part, part.name)
    assert "none of these formats" in refuse(tmp_path / "land.geojson")


def edit(path: Path, script: str) -> Path:
    with sqlite3.connect(path) as db:
        db.executescript(script)
    db.close()
    return path


@pytest.mark.parametrize(
    "script",
    [
        # The layer becomes a view, whose SQL GDAL would run with functions of its own.
        "ALTER TABLE land RENAME TO old; CREATE VIEW land AS SELECT fid, geom FROM old;",
        # A virtual table: modules of SQLite and SpatiaLite read other files.
        "DROP TABLE land; CREATE VIRTUAL TABLE land USING fts4(geom);",
        # Generated columns multiply the bytes of a row.
        "CREATE TABLE big (geom AS (zeroblob(900000000)), x); INSERT INTO big (x) VALUES (1);"
        "UPDATE gpkg_geometry_columns SET table_name = 'big'; UPDATE gpkg_contents SET table_name = 'big';",
        "UPDATE land SET geom = X'47500000';",
        "UPDATE land SET geom = 'GP';",
        "UPDATE gpkg_geometry_columns SET table_name = 'sqlite_master';"
        "UPDATE gpkg_contents SET table_name = 'sqlite_master';",
        "UPDATE gpkg_geometry_columns SET column_name = 'x\" FROM land; --';",
        "UPDATE gpkg_spatial_ref_sys SET organization = 'x', definition = '/etc/passwd';",
        "DROP TABLE gpkg_contents;"
        "CREATE VIEW gpkg_contents AS SELECT 'land' AS table_name, 'features' AS data_type;",
        "DELETE FROM gpkg_contents;",
    ],
)
def test_a_geopackage_with_code_is_refused(tmp_path: Path, script: str) -> None:
    # Triggers and constraints of the file are in the way of its own changes.
    path = write(tmp_path / "land.gpkg", SECRET)
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
    db.close()
    refuse(edit(path, script))


def test_a_geopackage_leaves_no_file_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "land.gpkg", SECRET)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    path.chmod(0o444)
    assert read_boundary_file(path).equals(SECRET)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".shx", ".dbf", ".prj"])
def test_a_linked_part_of_a_shapefile_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "land.shp", SECRET)
    secret = tmp_path / "token.txt"
    secret.write_text("hunter2")
    path.with_suffix(suffix).unlink()
    path.with_suffix(suffix).symlink_to(secret)
    message = refuse(path)
    assert "is a link" in message
    assert "hunter2" not in message


def test_other_files_beside_a_shapefile_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "land.shp", SECRET)
    for suffix in (".cpg", ".qix", ".sbn", ".aux.xml", ".idm"):
        path.with_suffix(suffix).unlink(missing_ok=True)
        os.mkfifo(path.with_suffix(suffix))
    os.mkfifo(tmp_path / "land.shp.aux.xml")
    assert read_boundary_file(path).equals(SECRET)


@pytest.mark.parametrize("count", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_damaged_shapefile_is_refused(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "land.shp", SECRET)
    data = bytearray(path.read_bytes())
    data[144:148] = struct.pack("<I", count)  # number of parts of the first polygon
    path.write_bytes(data)
    if count != 1:
        refuse(path)


GRID = (
    'BOUNDCRS[SOURCECRS[{crs}],TARGETCRS[{target}],ABRIDGEDTRANSFORMATION["x",METHOD["NTv2",ID["EPSG",9615]],'
    'PARAMETERFILE["Latitude and longitude difference file","{file}",ID["EPSG",8656]]]]'
)


def test_a_crs_that_names_files_is_refused(tmp_path: Path) -> None:
    grid = tmp_path / "grid.gsb"
    os.mkfifo(grid)
    wkt = pyproj.CRS.from_proj4(f"+proj=longlat +ellps=bessel +nadgrids={grid} +type=crs").to_wkt()
    path = write(tmp_path / "land.gpkg", SECRET)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE gpkg_spatial_ref_sys SET organization = 'NONE', definition = ?", (wkt,))
    db.close()
    assert "refers to other files" in refuse(path)

    for crs in (f"+init={grid}:x", f"+proj=utm +zone=33 +nadgrids={grid}", {"init": f"{grid}:x"}, wkt):
        with pytest.raises(GeoguesserError, match="must not name files"):
            check_crs(crs, shapely.MultiPolygon([SECRET]))
    assert check_crs("EPSG:3765", shapely.MultiPolygon([SECRET])).is_projected


def test_web_mercator_of_gdal_names_no_file(tmp_path: Path) -> None:
    square = geopandas.GeoSeries([SECRET], crs=4326).to_crs(3857)
    crs = pyproj.CRS.from_wkt(pyproj.CRS(3857).to_wkt("WKT1_GDAL"))
    for name in ("land.gpkg", "land.shp", "land.geojson"):
        geopandas.GeoDataFrame(geometry=square.to_numpy(), crs=crs).to_file(tmp_path / name)
        land = read_boundary_file(tmp_path / name)
        assert shapely.hausdorff_distance(land, SECRET) < 1e-6


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_the_readers_give_what_gdal_gives(tmp_path: Path, suffix: str) -> None:
    hole = shapely.Polygon(SECRET.exterior, [shapely.box(15.4, 45.4, 15.6, 45.6).exterior])
    several = shapely.MultiPolygon([hole, shapely.box(17.0, 43.0, 17.5, 43.2)])
    path = write(tmp_path / f"land{suffix}", hole, several)
    geometries, crs = read_vector_file(path)
    table = geopandas.read_file(path)
    assert shapely.equals(geometries, table.geometry.to_numpy()).all()
    assert crs is not None
    assert crs.equals(table.crs, ignore_axis_order=True)


def test_a_byte_order_mark_bare_geometries_and_an_unknown_crs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "land.geojson"
    geometry = shapely.geometry.mapping(SECRET)
    for document in (geometry, {"type": "Feature", "geometry": geometry, "properties": None}):
        path.write_bytes(b"\xef\xbb\xbf \n" + json.dumps(document).encode())
        assert read_boundary_file(path).equals(SECRET)
    path.write_text(json.dumps(geometry | {"crs": None}))
    assert read_vector_file(path).crs is None


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_of_wkb_are_a_geometry_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        load_wkb(data)
    with contextlib.suppress(ValueError):
        load_wkb(b"\x01" + struct.pack("<II", 6, 1) + b"\x01" + struct.pack("<I", 3) + data)
