"""Boundaries: the shipped countries (Natural Earth 1:10m), boundary files of users, and segments of rings.

Geometries are shapely polygons with x = longitude, y = latitude in degrees, WGS 84. `boundaries.zip` and its
`index.json` are made by scripts/make_boundaries.py.
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

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, MissingFileError, RegionError, first_line
from geoguesser.geo.vector_files import read_vector_file

ARCHIVE = Path(__file__).parent / "boundaries.zip"
# Maximum length of an edge: the straight lines of two CRSs between its ends then differ by less than a metre.
MAX_EDGE_DEG, MAX_EDGE_M = 0.05, 5000.0
MAX_PIECES = 100_000  # coordinates in another unit than degrees would make millions
GIVE_CRS = "Give the file the CRS of its numbers, or store it in degrees (EPSG:4326), split at the date line."


@cache
def load_countries() -> dict[str, dict[str, str]]:
    """Reads the index of the shipped countries: Natural Earth's code -> {"name", "iso"}."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        index: dict[str, dict[str, str]] = json.loads(archive.read("index.json"))["countries"]
    return index


def find_country(code: object) -> str:
    """Converts a three-letter code (Natural Earth's, or ISO 3166 where they differ) to Natural Earth's.

    Raises ConfigError for an unknown code; the message suggests similar countries.
    """
    index = load_countries()
    text = str(code).strip().upper()
    if text in index:
        return text

    by_iso = [known for known, entry in index.items() if entry["iso"] == text]
    if len(by_iso) == 1:
        return by_iso[0]

    # Suggest countries whose names start so (SLO: Slovakia, Slovenia), then similar names and codes.
    by_name = {entry["name"].upper(): known for known, entry in index.items()}
    starts = [name for name in by_name if text and name.startswith(text)]
    similar = difflib.get_close_matches(text, [*by_name, *index], n=4, cutoff=0.5)
    codes = list(dict.fromkeys(by_name.get(word, word) for word in (*starts, *similar)))[:4]
    hint = ", ".join(f"{known} ({index[known]['name']})" for known in codes)
    remedy = f"Near ones: {hint}." if hint else "Codes are those of ISO 3166-1 alpha-3."
    raise ConfigError.at("region.code", "must be the three-letter code of a country", found=code, remedy=remedy)


def read_country(code: str) -> MultiPolygon:
    """Reads a shipped country by Natural Earth's code; countries across the date line are split there."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return _decode(archive.read(f"{code}.bin"))


def read_world() -> MultiPolygon:
    """Reads all countries as one collection of polygons, in about 1 s. Neighbours share their borders."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        parts = [_decode(archive.read(f"{code}.bin")) for code in load_countries()]
    return MultiPolygon([polygon for part in parts for polygon in part.geoms])


def _decode(blob: bytes) -> MultiPolygon:
    """Decodes delta-coded microdegrees in byte planes: the inverse of `encode` in scripts/make_boundaries.py."""
    # The header holds the number of points of each ring, per polygon.
    header_size = int.from_bytes(blob[:4], "little")
    counts: list[list[int]] = json.loads(blob[4 : 4 + header_size])

    # Plane i holds byte i of all int32 differences, first those of longitude, then those of latitude.
    planes = np.frombuffer(blob, np.uint8, offset=4 + header_size).reshape(4, -1)
    deltas = planes.T.copy().view("<i4").reshape(2, -1)
    coords = np.cumsum(deltas, axis=1, dtype=np.int64).T / 1e6

    flat = [count for polygon in counts for count in polygon]
    ends = np.cumsum([0, *flat])
    rings = [coords[start:stop] for start, stop in itertools.pairwise(ends)]

    # The first ring of a polygon is its outline, the others are holes.
    remaining = iter(rings)
    return MultiPolygon([(next(remaining), [next(remaining) for _ in polygon[1:]]) for polygon in counts])


def read_boundary_file(path: str | Path) -> MultiPolygon:
    """Reads a GeoJSON, GeoPackage or Shapefile as polygons in degrees.

    A file without a CRS is read as WGS 84 if its numbers are degrees. Raises MissingFileError or RegionError.
    """
    file = Path(path).expanduser()
    where = f"region.boundary {file}"
    if not file.exists():
        raise MissingFileError.at(where, "must be a file", remedy="Name a GeoJSON, GeoPackage or Shapefile.")

    # This import takes a second, and is needed for files of users only.
    import geopandas

    try:
        geometries, crs = read_vector_file(file)
    except (OSError, ValueError) as error:
        raise RegionError.at(
            where,
            f"cannot be read as GeoJSON, GeoPackage or Shapefile ({first_line(error)})",
            remedy="Check that it opens in a GIS program; a Shapefile needs its .shx and .dbf beside it.",
        ) from error
    if not len(geometries):
        raise RegionError.at(where, "holds no geometry", remedy="Export the boundary as polygons.")

    # Features are united before their edges are cut: cuts of a common edge would differ by rounding.
    if np.isfinite(shapely.get_coordinates(geometries)).all():
        geometries = np.array([_cut_long_edges(shapely.union_all(shapely.make_valid(geometries)), crs)])

    if crs is not None:
        geometries = geopandas.GeoSeries(geometries, crs=crs).to_crs(4326).to_numpy()

    if not np.isfinite(shapely.get_coordinates(geometries)).all():
        name = "none" if crs is None else crs.name
        raise RegionError.at(where, f"must have numbers that its CRS ({name}) turns into degrees", remedy=GIVE_CRS)

    if crs is not None and crs.is_projected and _crosses_date_line(geometries):
        remedy = "Store it in degrees (EPSG:4326), split at the date line."
        raise RegionError.at(where, f"must not cross the date line in a projected CRS ({crs.name})", remedy=remedy)

    return check_polygons(shapely.union_all(shapely.make_valid(geometries)), where)


def _cut_long_edges(geometry: shapely.Geometry, crs: Any) -> shapely.Geometry:
    """Cuts long edges, which are straight in the file's CRS, so that they follow the same line in another.

    Without cuts, a box of 6 by 4 degrees would be off by kilometres.
    """
    is_projected = crs is not None and crs.is_projected
    max_edge = MAX_EDGE_M / crs.axis_info[0].unit_conversion_factor if is_projected else MAX_EDGE_DEG
    return shapely.segmentize(geometry, max(max_edge, shapely.length(geometry) / MAX_PIECES))


def _crosses_date_line(geometries: npt.NDArray[np.object_]) -> bool:
    """Returns True if a ring in degrees jumps from one side of the world to the other."""
    rings = shapely.get_rings(shapely.get_parts(geometries))
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    is_jump = np.abs(np.diff(coords[:, 0])) > 180
    return bool((is_jump & (ring[1:] == ring[:-1])).any())


def check_polygons(geometry: shapely.Geometry, where: str) -> MultiPolygon:
    """Returns the polygons of a geometry in degrees, made valid.

    Raises RegionError if there are none, or if coordinates are out of range (swapped axes are recognised).
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


def extract_ring_segments(land: MultiPolygon) -> tuple[FloatArray, FloatArray]:
    """Returns (M, 2) starts and (M, 2) ends of all boundary segments."""
    rings = shapely.get_rings(shapely.get_parts(land))
    coords, ring = shapely.get_coordinates(rings, return_index=True)

    # Successive points of different rings are no segment.
    is_segment = ring[1:] == ring[:-1]
    return coords[:-1][is_segment], coords[1:][is_segment]


def cut_segments(starts: FloatArray, ends: FloatArray, *, longest: float) -> tuple[FloatArray, FloatArray]:
    """Cuts segments into equal pieces no longer than `longest` (shapely.segmentize takes 17 s for the world)."""
    pieces = np.maximum(np.ceil(np.linalg.norm(ends - starts, axis=-1) / longest).astype(np.int64), 1)

    # The segment of each piece, and the number of the piece within it.
    segment = np.repeat(np.arange(len(starts)), pieces)
    piece = np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces)

    step = ((ends - starts) / pieces[:, None])[segment]
    return starts[segment] + step * piece[:, None], starts[segment] + step * (piece + 1)[:, None]


def find_nearest_on_segments(points: FloatArray, starts: FloatArray, ends: FloatArray) -> FloatArray:
    """Finds the nearest point (..., d) of each segment to its point.

    On the line a + s (b - a), the nearest point to p has s = (p - a) . (b - a) / |b - a|^2; on the segment, s is
    limited to 0 to 1.
    """
    along = ends - starts
    squared = np.maximum(np.sum(along * along, axis=-1), 1e-300)
    share = np.clip(np.sum((points - starts) * along, axis=-1) / squared, 0.0, 1.0)
    return starts + share[..., None] * along
