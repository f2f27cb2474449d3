"""Boundaries: the shipped countries (Natural Earth 1:10m) and files of the user's own.

All geometries here are shapely polygons with x = longitude, y = latitude in degrees, WGS 84.
Provenance: `boundaries.zip` holds an `index.json`; scripts/make_boundaries.py made both.
"""

from __future__ import annotations

import difflib
import itertools
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon

from geoguesser.errors import ConfigError, MissingFileError, RegionError, first_line

ARCHIVE = Path(__file__).parent / "boundaries.zip"
LONGEST_DEG, LONGEST_M = 0.05, 5000.0  # of an edge; another way between its ends is off by less than a metre
MAX_PIECES = 100_000  # numbers that are no degrees would make millions
GIVE_CRS = "Give the file the CRS of its numbers, or store it in degrees (EPSG:4326), split at the date line."


@cache
def load_countries() -> dict[str, dict[str, str]]:
    """The shipped countries: code -> {"name", "iso"}; the code is Natural Earth's unique `ADM0_A3`."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        index: dict[str, dict[str, str]] = json.loads(archive.read("index.json"))["countries"]
    return index


def find_country(code: object) -> str:
    """Turns a three-letter code (Natural Earth's, or ISO 3166 where those differ) into Natural Earth's.

    Raises:
        ConfigError: No such country; the message suggests near ones.
    """
    index = load_countries()
    wanted = str(code).strip().upper()
    if wanted in index:
        return wanted
    by_iso = [own for own, entry in index.items() if entry["iso"] == wanted]
    if len(by_iso) == 1:
        return by_iso[0]
    by_name = {entry["name"].upper(): own for own, entry in index.items()}
    starts = [name for name in by_name if wanted and name.startswith(wanted)]  # SLO: Slovakia, Slovenia
    near = difflib.get_close_matches(wanted, [*by_name, *index], n=4, cutoff=0.5)
    codes = list(dict.fromkeys(by_name.get(word, word) for word in (*starts, *near)))[:4]
    hint = ", ".join(f"{own} ({index[own]['name']})" for own in codes)
    remedy = f"Near ones: {hint}." if hint else "Codes are those of ISO 3166-1 alpha-3."
    raise ConfigError.at("region.code", "must be the three-letter code of a country", found=code, remedy=remedy)


def read_country(code: str) -> MultiPolygon:
    """Reads one shipped country by its own code; countries across the date line come split there."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return _decode(archive.read(f"{code}.bin"))


def read_world() -> MultiPolygon:
    """Reads all countries as one collection of polygons (neighbours share their borders; about 1 s)."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        parts = [_decode(archive.read(f"{code}.bin")) for code in load_countries()]
    return MultiPolygon([polygon for part in parts for polygon in part.geoms])


def _decode(blob: bytes) -> MultiPolygon:
    """The inverse of `encode` in scripts/make_boundaries.py: delta-coded microdegrees in byte planes."""
    header_size = int.from_bytes(blob[:4], "little")
    counts: list[list[int]] = json.loads(blob[4 : 4 + header_size])
    planes = np.frombuffer(blob, np.uint8, offset=4 + header_size).reshape(4, -1)
    deltas = planes.T.copy().view("<i4").reshape(2, -1)
    coords = np.cumsum(deltas, axis=1, dtype=np.int64).T / 1e6
    flat = [count for polygon in counts for count in polygon]
    ends = np.cumsum([0, *flat])
    rings = [coords[start:stop] for start, stop in itertools.pairwise(ends)]
    polygons, at = [], 0
    for polygon in counts:
        polygons.append((rings[at], rings[at + 1 : at + len(polygon)]))
        at += len(polygon)
    return MultiPolygon(polygons)


def read_boundary_file(path: str | Path) -> MultiPolygon:
    """Reads a GeoJSON, GeoPackage or Shapefile as polygons in degrees.

    A file without a CRS is taken for WGS 84 if its numbers are degrees.

    Raises:
        MissingFileError: There is no such file.
        RegionError: It cannot be read, holds no polygon, or its coordinates are no degrees.
    """
    file = Path(path).expanduser()
    where = f"region.boundary {file}"
    if not file.exists():
        raise MissingFileError.at(where, "must be a file", remedy="Name a GeoJSON, GeoPackage or Shapefile.")
    import geopandas  # an import of a second that only this path pays

    try:
        table = geopandas.read_file(file)
    except Exception as error:
        reason = first_line(error)
        raise RegionError.at(
            where,
            f"cannot be read as GeoJSON, GeoPackage or Shapefile ({reason})",
            remedy="Check that it opens in a GIS program; a Shapefile needs its .shx and .dbf beside it.",
        ) from error
    if not isinstance(table, geopandas.GeoDataFrame) or table.geometry.isna().all():
        raise RegionError.at(where, "holds no geometry", remedy="Export the boundary as polygons.")
    crs = table.crs
    geometries = table.geometry.dropna().to_numpy()
    if np.isfinite(shapely.get_coordinates(geometries)).all():
        geometries = np.array([_followed(shapely.union_all(shapely.make_valid(geometries)), crs)])
    if crs is not None:
        geometries = geopandas.GeoSeries(geometries, crs=crs).to_crs(4326).to_numpy()
    if not np.isfinite(shapely.get_coordinates(geometries)).all():
        name = "none" if crs is None else crs.name
        raise RegionError.at(where, f"must have numbers that its CRS ({name}) turns into degrees", remedy=GIVE_CRS)
    if crs is not None and crs.is_projected and _leaps_over_date_line(geometries):
        remedy = "Store it in degrees (EPSG:4326), split at the date line."
        raise RegionError.at(where, f"must not cross the date line in a projected CRS ({crs.name})", remedy=remedy)
    return check_polygons(shapely.union_all(shapely.make_valid(geometries)), where)


def _followed(geometry: shapely.Geometry, crs: Any) -> shapely.Geometry:
    """Cuts long edges, which are straight in the file's CRS, so that they go the same way in another.

    A box of 6 by 4 degrees would be off by kilometres. Features were united before: the cuts of an edge that two
    of them share would differ by a rounding.
    """
    projected = crs is not None and crs.is_projected
    longest = LONGEST_M / crs.axis_info[0].unit_conversion_factor if projected else LONGEST_DEG
    return shapely.segmentize(geometry, max(longest, shapely.length(geometry) / MAX_PIECES))


def _leaps_over_date_line(geometries: npt.NDArray[np.object_]) -> bool:
    """Whether a ring in degrees leaps from one side of the world to the other."""
    rings = shapely.get_rings(shapely.get_parts(geometries))
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    leaps = np.abs(np.diff(coords[:, 0])) > 180
    return bool((leaps & (ring[1:] == ring[:-1])).any())


def check_polygons(geometry: shapely.Geometry, where: str) -> MultiPolygon:
    """Returns the polygons of a geometry in degrees, made valid.

    Raises:
        RegionError: There are none, or coordinates are out of range (swapped axes are recognised).
    """
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = [part for part in shapely.get_parts(valid) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        kinds = sorted({part.geom_type for part in shapely.get_parts(geometry)}) or ["nothing"]
        rule = f"must hold polygons with an area, holds {', '.join(kinds)}"
        raise RegionError.at(where, rule, remedy="Export the boundary as polygons.")
    land = MultiPolygon(parts)
    west, south, east, north = land.bounds
    if not np.isfinite(land.bounds).all() or west < -180 or east > 180 or south < -90 or north > 90:
        swapped = south >= -180 and north <= 180 and west >= -90 and east <= 90
        remedy = "Latitude and longitude look swapped: x must be longitude." if swapped else GIVE_CRS
        box = tuple(round(float(value), 3) for value in land.bounds)
        raise RegionError.at(where, "must lie within 180 degrees W/E and 90 degrees S/N", found=box, remedy=remedy)
    return land
