"""Layers and tables that a plan is given: roads or settlements to stay near to, and places that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy.spatial import cKDTree

from geoguesser.errors import DataError, MissingFileError, RegionError, first_line
from geoguesser.geo.distance import EARTH_RADIUS_KM, FloatArray, haversine_km, to_unit
from geoguesser.geo.region import check_degrees

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

PIECE_KM = 0.1  # the longest piece of a line that is one entry of the index, ...
MAX_PIECES = 3_000_000  # ... unless there would be more of them than this
NEIGHBOURS = (4, 32, 256)  # pieces that are looked at, more where the nearest ones do not tell
STRAIGHT_M = 1000.0  # a line of a projected file is followed in steps of this when it is turned into degrees
GOES_ON = "Give a GeoJSON, GeoPackage or Shapefile of lines, points or polygons."


class Layer:
    """Lines, points and polygons of which the distance is asked.

    Args:
        geometries: Their shapes, x = longitude, y = latitude in degrees; at least one that is not empty.
    """

    def __init__(self, geometries: npt.NDArray[np.object_]) -> None:
        self.parts: Any = shapely.get_parts(shapely.get_parts(geometries))
        kinds = shapely.get_type_id(self.parts)
        areas = self.parts[kinds == shapely.GeometryType.POLYGON]
        self._areas = shapely.STRtree(areas) if len(areas) else None
        lines = np.concatenate((self.parts[np.isin(kinds, (1, 2))], shapely.get_rings(areas)))
        ends, line = shapely.get_coordinates(lines, return_index=True)
        joined = line[1:] == line[:-1]
        points = shapely.get_coordinates(self.parts[kinds == shapely.GeometryType.POINT])
        starts = np.concatenate((ends[:-1][joined], points))[:, ::-1]
        stops = np.concatenate((ends[1:][joined], points))[:, ::-1]
        longest_km = max(PIECE_KM, float(haversine_km(starts, stops).sum()) / MAX_PIECES)
        self._starts, self._stops = (to_unit(side) for side in cut_pieces(starts, stops, longest_km))
        lengths_km = _arc_km(np.linalg.norm(self._starts - self._stops, axis=-1))
        self._half_km = 0.51 * float(lengths_km.max())  # from a piece's middle to its ends
        self._tree = cKDTree((self._starts + self._stops) / 2.0)

    def within(self, coords_deg: FloatArray, limit_m: float | FloatArray) -> BoolArray:
        """(N,) whether each point lies no farther than `limit_m` (one number or (N,)) from the layer."""
        if not len(coords_deg):
            return np.zeros(0, dtype=np.bool_)
        vectors = to_unit(coords_deg)
        limit_km = np.broadcast_to(np.asarray(limit_m, dtype=np.float64) / 1000.0, (len(vectors),))
        near = np.zeros(len(vectors), dtype=np.bool_)
        rows = np.arange(len(vectors))
        for count in NEIGHBOURS:
            if len(rows):
                rows = self._settle(rows, vectors, limit_km, near, min(count, self._tree.n))
        for row in rows:  # hardly ever: hundreds of pieces are about, and all of them a little too far
            about = np.array(self._tree.query_ball_point(vectors[row], _chord(limit_km[row] + self._half_km)))
            near[row] = bool((self._distance_km(vectors[row][None], about) <= limit_km[row]).any())
        return near | self._inside(coords_deg, ~near)

    def _settle(
        self, rows: IntArray, vectors: FloatArray, limit_km: FloatArray, near: BoolArray, count: int
    ) -> Any:
        """Looks at the `count` pieces with the nearest middles; gives the rows of which they do not tell."""
        bound = _chord(float(limit_km[rows].max()) + self._half_km)
        found: Any = self._tree.query(vectors[rows], k=list(range(1, count + 1)), distance_upper_bound=bound)
        middle, piece = found
        at, column = np.nonzero(np.isfinite(middle))
        hit = self._distance_km(vectors[rows[at]], piece[at, column]) <= limit_km[rows[at]]
        near[rows[at[hit]]] = True
        farthest_km = np.where(np.isfinite(middle[:, -1]), _arc_km(middle[:, -1]), np.inf)
        return rows[~near[rows] & (farthest_km <= limit_km[rows] + self._half_km) & (count < self._tree.n)]

    def _distance_km(self, vectors: FloatArray, pieces: Any) -> FloatArray:
        starts, along = self._starts[pieces], self._stops[pieces] - self._starts[pieces]
        squared = np.maximum(np.sum(along * along, axis=-1), 1e-300)
        share = np.clip(np.sum((vectors - starts) * along, axis=-1) / squared, 0.0, 1.0)
        return _arc_km(np.linalg.norm(starts + share[:, None] * along - vectors, axis=-1))

    def _inside(self, coords_deg: FloatArray, asked: BoolArray) -> BoolArray:
        inside = np.zeros(len(coords_deg), dtype=np.bool_)
        rows = np.flatnonzero(asked)
        if self._areas is not None and len(rows):
            points: Any = shapely.points(coords_deg[rows, ::-1])
            inside[rows[self._areas.query(points, predicate="intersects")[0]]] = True
        return inside


def _chord(distance_km: float) -> float:
    return float(2.0 * np.sin(min(distance_km / (2.0 * EARTH_RADIUS_KM), np.pi / 2)))


def _arc_km(chord: FloatArray) -> FloatArray:
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2.0, 1.0))


def cut_pieces(starts_deg: FloatArray, stops_deg: FloatArray, longest_km: float) -> tuple[FloatArray, FloatArray]:
    """Cuts (M, 2) segments, straight in degrees, into equal pieces no longer than `longest_km`."""
    pieces = np.maximum(np.ceil(haversine_km(starts_deg, stops_deg) / longest_km).astype(np.int64), 1)
    segment = np.repeat(np.arange(len(starts_deg)), pieces)
    piece = np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    step = ((stops_deg - starts_deg) / pieces[:, None])[segment]
    return starts_deg[segment] + step * piece[:, None], starts_deg[segment] + step * (piece + 1)[:, None]


def read_layer(path: str | Path, key: str = "strategy.near") -> Layer:
    """Reads a vector file; its CRS is honoured.

    Raises:
        MissingFileError: There is no such file.
        DataError: It cannot be read, has no geometry or no CRS, or its numbers are no degrees in the end.
    """
    file = Path(path).expanduser()
    where = f"{key} {file}"
    if not file.exists():
        raise MissingFileError.at(where, "must be a file", remedy=GOES_ON)
    import geopandas  # an import of a second that only this path pays

    try:
        table = geopandas.read_file(file)
    except Exception as error:
        raise DataError.at(
            where, f"cannot be read as a vector layer ({first_line(error)})", remedy=GOES_ON
        ) from error
    geometries = table.geometry.dropna().to_numpy() if isinstance(table, geopandas.GeoDataFrame) else np.array([])
    geometries = geometries[~shapely.is_empty(geometries)]
    if not len(geometries):
        raise DataError.at(where, "must hold at least one line, point or polygon", found="none", remedy=GOES_ON)
    if table.crs is None:
        raise DataError.at(where, "must say in which CRS its numbers are", found="no CRS", remedy="Assign it one.")
    if table.crs.is_projected:
        geometries = shapely.segmentize(geometries, STRAIGHT_M / table.crs.axis_info[0].unit_conversion_factor)
    degrees = geopandas.GeoSeries(geometries, crs=table.crs).to_crs(4326).to_numpy()
    coords = shapely.get_coordinates(degrees)[:, ::-1]
    try:
        check_degrees(coords)
    except RegionError as error:
        remedy = "Give the file the CRS of its numbers."
        raise DataError.at(
            where, f"must have numbers that its CRS turns into degrees ({error})", remedy=remedy
        ) from error
    return Layer(degrees)


def read_existing(path: str | Path, key: str = "strategy.existing") -> FloatArray:
    """Reads the places of a data.csv, or of a folder that holds one.

    Returns:
        (M, 2) latitude and longitude in degrees, M at least 1.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is no CSV file with latitude and longitude in degrees in each row, or has no row.
    """
    file = Path(path).expanduser()
    file = file / "data.csv" if file.is_dir() else file
    where = f"{key} {file}"
    if not file.is_file():
        raise MissingFileError.at(where, "must be a data.csv, or a folder that holds one")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError.at(where, f"must be a CSV file in UTF-8 ({first_line(error)})") from error
    names = ["latitude", "longitude"]
    if not set(names) <= set(table.columns):
        raise DataError.at(where, "must have the columns latitude and longitude", found=list(table.columns))
    if table.empty:
        raise DataError.at(where, "must hold at least one place", found="none")
    coords = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    good = np.isfinite(coords).all(axis=1) & (np.abs(coords) <= (90.0, 180.0)).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        found = tuple(table[names].iloc[row])
        rule = f"row {row + 2} must have a latitude within 90 and a longitude within 180 degrees"
        raise DataError.at(where, rule, found=found, remedy=f"{np.count_nonzero(~good)} such rows; mend them.")
    return coords
