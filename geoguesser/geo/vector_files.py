"""Vector files of users: GeoJSON, GeoPackage or Shapefile, recognised by their contents.

GDAL would choose among its drivers by the contents too, and some of these (VRT, and others) open the paths and
fetch the URLs that a file names. Hence GeoJSON is parsed as JSON, a GeoPackage is read with SQLite, of which only
plain tables are read, and a Shapefile is copied into an empty folder, where GDAL finds no other file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry import shape

from geoguesser.geo.crs import names_files
from geoguesser.geo.wkb import load_wkb
from geoguesser.system.received_files import open_regular, parse_json, read_regular

log = logging.getLogger(__name__)
MAX_FILE_BYTES = 2**32
# Objects of Python take up to twenty times the bytes of the JSON.
MAX_GEOJSON_BYTES = 2**27
# Instructions of SQLite for a small file, and between two counts of them.
MIN_STEPS, PROGRESS_STEPS = 10_000_000, 10_000
SIDE_SUFFIXES = (".shx", ".dbf", ".prj")

SQLITE_MAGIC, GEOPACKAGE_IDS = b"SQLite format 3\x00", (b"GPKG", b"GP10", b"GP11")
SHAPEFILE_MAGIC = struct.pack(">i", 9994)

# Coordinate reference systems that a GeoJSON may name: entries of PROJ's own database.
CRS_NAME = re.compile(
    r"(?:urn:ogc:def:crs:|https?://www\.opengis\.net/def/crs/)?(EPSG|ESRI|IGNF|OGC)[:/](?:[\w.]*[:/])?(\w+)",
    re.IGNORECASE,
)

# What SQLite may do while a GeoPackage is read: SELECT of columns, and nothing that calls functions.
READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
LAYERS = """
    SELECT c.table_name, g.column_name, g.srs_id FROM gpkg_contents c
    JOIN gpkg_geometry_columns g ON g.table_name = c.table_name WHERE c.data_type = 'features'
"""
# Length of a geometry's envelope in doubles, by its code in the header.
ENVELOPE_DOUBLES = (0, 4, 6, 6, 8)


class VectorLayer(NamedTuple):
    """Geometries (N,) of a file, without missing ones, in x, y order; and their CRS, None if it is unknown."""

    geometries: npt.NDArray[np.object_]
    crs: pyproj.CRS | None


def read_vector_file(path: Path) -> VectorLayer:
    """Reads the geometries of a GeoJSON, GeoPackage (its first layer) or Shapefile.

    Raises:
        ValueError, OSError: The file has another format, is no regular file, too large, damaged, or refers to
            other files. The message is the rest of a sentence.
    """
    with open_regular(path, MAX_FILE_BYTES) as stream:
        head = stream.read(100)

    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        geometries, crs = _read_geojson(path)
    elif head.startswith(SQLITE_MAGIC) and head[68:72] in GEOPACKAGE_IDS:
        geometries, crs = _read_geopackage(path)
    elif head.startswith(SHAPEFILE_MAGIC):
        geometries, crs = _read_shapefile(path)
    else:
        raise ValueError("its contents are none of these formats")

    if crs is not None and names_files(crs):
        raise ValueError("its CRS refers to other files")
    array = np.empty(len(geometries), dtype=object)
    array[:] = geometries
    return VectorLayer(array[~shapely.is_missing(array)], crs)


def _read_geojson(path: Path) -> tuple[list[Any], pyproj.CRS | None]:
    try:
        document = parse_json(read_regular(path, MAX_GEOJSON_BYTES).decode("utf-8-sig"))
        kind = document.get("type")
        features = document["features"] if kind == "FeatureCollection" else [document]
        nodes = [item["geometry"] if item.get("type") == "Feature" else item for item in features]
        geometries = [shape(node) for node in nodes if node is not None]
        return geometries, _read_geojson_crs(document)
    except json.JSONDecodeError:
        raise
    except (LookupError, TypeError, AttributeError, ArithmeticError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"it is no GeoJSON ({type(error).__name__}: {error})") from error


def _read_geojson_crs(document: dict[str, Any]) -> pyproj.CRS | None:
    # Without the entry, coordinates are degrees; null means that the CRS is unknown.
    entry = document.get("crs", {"type": "name", "properties": {"name": "EPSG:4326"}})
    if entry is None:
        return None
    properties = entry["properties"]
    name = f"EPSG:{properties['code']}" if entry["type"] == "EPSG" else str(properties.get("name"))
    match = CRS_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"its CRS must have a name such as urn:ogc:def:crs:EPSG::4326, got {name[:80]!r}")
    # CRS84 is EPSG:4326 in the order longitude, latitude, which files have in any case.
    authority, code = ("EPSG", "4326") if match[2].upper() == "CRS84" else (match[1].upper(), match[2])
    return _to_crs(pyproj.CRS.from_authority, authority, code)


def _read_geopackage(path: Path) -> tuple[list[Any], pyproj.CRS | None]:
    """Reads the first layer of features. `immutable` keeps SQLite from looking for journals beside the file."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size:
        raise ValueError(f"it is open in another program, which keeps changes in {wal.name}")

    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            db.execute("PRAGMA trusted_schema = OFF")
            # Values are parts of the file, and reading them takes a few steps for each of its bytes.
            size = path.stat().st_size
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size)
            steps = itertools.count()
            db.set_progress_handler(lambda: next(steps) * PROGRESS_STEPS > MIN_STEPS + size, PROGRESS_STEPS)
            db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY)
            layers = _select(db, LAYERS)
            if not layers:
                raise ValueError("it holds no layer of features")
            if len(layers) > 1:
                log.warning("%s: of %d layers, only %s is read", path, len(layers), layers[0][0])
            table, column, srs_id = layers[0]
            _check_table(db, "gpkg_spatial_ref_sys")
            _check_table(db, table)
            crs = _read_geopackage_crs(db, srs_id)
            return list(_read_geopackage_blobs(db, table, column, size)), crs
    except (sqlite3.Error, OverflowError) as error:
        raise ValueError(f"it cannot be read by SQLite ({error})") from error


def _select(db: sqlite3.Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    for name in re.findall(r"(?:FROM|JOIN) (gpkg_\w+)", query):
        _check_table(db, name)
    return db.execute(query, values).fetchall()


def _check_table(db: sqlite3.Connection, name: str) -> None:
    """Refuses views, virtual tables and computed columns, which run code of SQLite or of its extensions."""
    rows = db.execute("SELECT type, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE", (name,)).fetchall()
    if (
        len(rows) != 1
        or rows[0][0] != "table"
        or not re.match(r"\s*CREATE\s+TABLE\b", str(rows[0][1]), re.IGNORECASE)
        or re.search(r"\b(?:AS|GENERATED)\b", str(rows[0][1]), re.IGNORECASE)
    ):
        raise ValueError(f"its layer {str(name)[:80]!r} must be a plain table")


def _read_geopackage_crs(db: sqlite3.Connection, srs_id: object) -> pyproj.CRS | None:
    query = "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?"
    rows = _select(db, query, srs_id)
    if srs_id in (0, -1) or not rows:
        return None
    organization, code, definition = rows[0]
    if str(organization).upper() == "EPSG":
        return _to_crs(pyproj.CRS.from_epsg, code)
    return _to_crs(pyproj.CRS.from_wkt, str(definition))


def _read_geopackage_blobs(db: sqlite3.Connection, table: str, column: str, max_bytes: int) -> Iterator[Any]:
    """Yields the geometries of a table. They are a part of the file, so that they are not longer than it."""
    table_name, column_name = (name.replace('"', '""') for name in (str(table), str(column)))

    total = 0
    for (blob,) in db.execute(f'SELECT "{column_name}" FROM "{table_name}"'):
        if blob is None:
            continue
        if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 8:
            raise ValueError("it holds a geometry that is none of a GeoPackage")
        total += len(blob)
        envelope = blob[3] >> 1 & 7
        if total > max_bytes or envelope >= len(ENVELOPE_DOUBLES):
            raise ValueError("it holds a damaged geometry")
        yield load_wkb(blob[8 + 8 * ENVELOPE_DOUBLES[envelope] :])


def _read_shapefile(path: Path) -> tuple[list[Any], pyproj.CRS | None]:
    """Copies the parts of a Shapefile into an empty folder and reads them with GDAL there."""
    # These imports take a second, and are needed for this format only.
    import pyogrio

    with tempfile.TemporaryDirectory(prefix="geoguesser-") as folder:
        copy = Path(folder) / "layer.shp"
        _copy_regular(path, copy)
        for suffix in SIDE_SUFFIXES:
            for side in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
                if side.is_symlink():
                    raise ValueError(f"its part {side.name} must be a file, and is a link")
                if side.exists() and not copy.with_suffix(suffix).exists():
                    _copy_regular(side, copy.with_suffix(suffix))
        if not copy.with_suffix(".shx").exists():
            raise ValueError("its .shx is missing")
        # Offsets and lengths of records in words of two bytes (ESRI Shapefile Technical Description, page 23).
        index = np.frombuffer(copy.with_suffix(".shx").read_bytes()[100:], dtype=">i4")
        index = index[: len(index) // 2 * 2].reshape(-1, 2).astype(np.int64)
        if (np.diff(index[:, 0]) <= 0).any() or 2 * index[:, 1].sum() > copy.stat().st_size:
            raise ValueError("its .shx names a record twice")

        try:
            driver = pyogrio.read_info(copy)["driver"]
            if driver != "ESRI Shapefile":
                raise ValueError(f"GDAL takes it for {driver}")
            meta, _, blobs, _ = pyogrio.raw.read(copy, columns=[])
        except (
            pyogrio.errors.DataSourceError,
            pyogrio.errors.DataLayerError,
            pyogrio.errors.FeatureError,
        ) as error:
            raise ValueError(str(error).replace(str(copy), path.name)) from error
    crs = None if meta["crs"] is None else _to_crs(pyproj.CRS.from_user_input, meta["crs"])
    return [None if blob is None else load_wkb(bytes(blob)) for blob in blobs], crs


def _copy_regular(path: Path, copy: Path) -> None:
    with open_regular(path, MAX_FILE_BYTES) as source, copy.open("xb") as target:
        shutil.copyfileobj(source, target)


def _to_crs(make: Any, *values: Any) -> pyproj.CRS:
    """Makes a CRS. PROJ's messages repeat the text of the file, so that they are not shown."""
    try:
        return make(*values)
    except (pyproj.exceptions.CRSError, ValueError, OverflowError) as error:
        raise ValueError("its CRS is unknown to PROJ") from error
