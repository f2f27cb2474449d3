"""Vector layer that planned points must lie near to (roads, settlements), and table of existing places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.collecting.output_tables import read_place_rows
from geoguesser.errors import DataError, MissingFileError, RegionError, first_line
from geoguesser.geo.boundaries import find_nearest_on_segments
from geoguesser.geo.distance import chord_to_km, compute_chord, haversine_km, to_unit
from geoguesser.geo.region import check_degrees
from geoguesser.geo.vector_files import read_vector_file

# Length of the longest piece in the index. It is increased if there would be more pieces than MAX_PIECES.
PIECE_KM = 0.1
MAX_PIECES = 3_000_000

# Nearest pieces to examine per point, in up to three passes.
NEIGHBOUR_COUNTS = (4, 32, 256)

# Largest distance of a projected line's vertices before it is converted to degrees.
MAX_STEP_M = 1000.0

LAYER_REMEDY = "Give a GeoJSON, GeoPackage or Shapefile of lines, points or polygons."


class Layer:
    """Index of lines, points and polygons for distance queries.

    All boundaries are cut into short pieces, whose middles are in a k-d tree of unit vectors. No point of a piece
    is farther than `_half_km` from its middle, so a middle at distance d means that the piece is at least d -
    `_half_km` away. Distances to a piece are those to a straight segment in space: for pieces of 100 m they differ
    from the great circle's by less than a millimetre.

    Args:
        geometries: Geometries with x = longitude and y = latitude in degrees; at least one is not empty.
    """

    def __init__(self, geometries: npt.NDArray[np.object_]) -> None:
        # Collections may hold multi-part geometries, so parts are taken twice.
        self.parts: Any = shapely.get_parts(shapely.get_parts(geometries))
        kinds = shapely.get_type_id(self.parts)

        polygons = self.parts[kinds == shapely.GeometryType.POLYGON]
        self._polygons = shapely.STRtree(polygons) if len(polygons) else None

        line_kinds = (shapely.GeometryType.LINESTRING, shapely.GeometryType.LINEARRING)
        lines = np.concatenate((self.parts[np.isin(kinds, line_kinds)], shapely.get_rings(polygons)))
        vertices, line_numbers = shapely.get_coordinates(lines, return_index=True)
        is_joined = line_numbers[1:] == line_numbers[:-1]

        # A point is a segment of length zero.
        points = shapely.get_coordinates(self.parts[kinds == shapely.GeometryType.POINT])
        starts = np.concatenate((vertices[:-1][is_joined], points))[:, ::-1]
        stops = np.concatenate((vertices[1:][is_joined], points))[:, ::-1]

        piece_km = max(PIECE_KM, float(haversine_km(starts, stops).sum()) / MAX_PIECES)
        self._starts, self._stops = (to_unit(ends) for ends in split_segments(starts, stops, piece_km))
        lengths_km = chord_to_km(np.linalg.norm(self._starts - self._stops, axis=-1))
        self._half_km = 0.51 * float(lengths_km.max())
        self._tree = cKDTree((self._starts + self._stops) / 2.0)

    def within(self, coords_deg: FloatArray, limit_m: float | FloatArray) -> BoolArray:
        """Returns (N,) flags of the (N, 2) points within a distance of the layer in metres, a number or (N,)."""
        if not len(coords_deg):
            return np.zeros(0, dtype=np.bool_)

        vectors = to_unit(coords_deg)
        limits_km = np.broadcast_to(np.asarray(limit_m, dtype=np.float64) / 1000.0, (len(vectors),))
        is_near = np.zeros(len(vectors), dtype=np.bool_)

        # The nearest few pieces decide for most points. The others are examined with more and more pieces.
        rows = np.arange(len(vectors))
        for count in NEIGHBOUR_COUNTS:
            if len(rows):
                rows = self._check_nearest_pieces(rows, vectors, limits_km, is_near, min(count, self._tree.n))

        # Rare: a point with hundreds of pieces just beyond the limit. All pieces in question are examined.
        for row in rows:
            reach = compute_chord(1000.0 * (limits_km[row] + self._half_km))
            pieces = np.array(self._tree.query_ball_point(vectors[row], reach))
            is_near[row] = bool((self._compute_distances_km(vectors[row][None], pieces) <= limits_km[row]).any())

        # Pieces hold boundaries only, so points inside polygons are found separately.
        rows = np.flatnonzero(~is_near)
        if self._polygons is not None and len(rows):
            points: Any = shapely.points(coords_deg[rows, ::-1])
            is_near[rows[self._polygons.query(points, predicate="intersects")[0]]] = True
        return is_near

    def _check_nearest_pieces(
        self, rows: IntArray, vectors: FloatArray, limits_km: FloatArray, is_near: BoolArray, count: int
    ) -> Any:
        """Marks rows within the limit of their `count` nearest middles' pieces in `is_near`.

        Returns the rows that these pieces do not decide, because farther pieces may be within the limit.
        """
        max_chord = compute_chord(1000.0 * (float(limits_km[rows].max()) + self._half_km))
        neighbours: Any = self._tree.query(
            vectors[rows], k=list(range(1, count + 1)), distance_upper_bound=max_chord
        )
        chords, pieces = neighbours

        # The tree reports missing neighbours (beyond the bound) by an infinite distance.
        point, column = np.nonzero(np.isfinite(chords))
        hits = self._compute_distances_km(vectors[rows[point]], pieces[point, column]) <= limits_km[rows[point]]
        is_near[rows[point[hits]]] = True

        farthest_km = np.where(np.isfinite(chords[:, -1]), chord_to_km(chords[:, -1]), np.inf)
        is_open = ~is_near[rows] & (farthest_km <= limits_km[rows] + self._half_km) & (count < self._tree.n)
        return rows[is_open]

    def _compute_distances_km(self, vectors: FloatArray, pieces: Any) -> FloatArray:
        """Computes the distance of each point to its piece, by projection onto the segment in space."""
        nearest = find_nearest_on_segments(vectors, self._starts[pieces], self._stops[pieces])
        return chord_to_km(np.linalg.norm(nearest - vectors, axis=-1))


def split_segments(starts_deg: FloatArray, stops_deg: FloatArray, max_km: float) -> tuple[FloatArray, FloatArray]:
    """Splits (M, 2) segments, straight in degrees, into equal pieces of at most `max_km`."""
    counts = np.maximum(np.ceil(haversine_km(starts_deg, stops_deg) / max_km).astype(np.int64), 1)

    # For each piece: its segment, and its number within the segment.
    segment = np.repeat(np.arange(len(starts_deg)), counts)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)

    step = ((stops_deg - starts_deg) / counts[:, None])[segment]
    return starts_deg[segment] + step * number[:, None], starts_deg[segment] + step * (number + 1)[:, None]


def read_layer(path: str | Path, key: str = "strategy.near") -> Layer:
    """Reads a vector file in any CRS.

    Raises MissingFileError if the file does not exist, and DataError if it cannot be read, has no geometry or no
    CRS, or its coordinates are out of range.
    """
    file = Path(path).expanduser()
    where = f"{key} {file}"
    if not file.exists():
        raise MissingFileError.at(where, "must be a file", remedy=LAYER_REMEDY)

    # Imported here because it takes a second, and most plans have no layer.
    import geopandas

    try:
        geometries, crs = read_vector_file(file)
    except (OSError, ValueError) as error:
        rule = f"cannot be read as a vector layer ({first_line(error)})"
        raise DataError.at(where, rule, remedy=LAYER_REMEDY) from error

    geometries = geometries[~shapely.is_empty(geometries)]
    if not len(geometries):
        rule = "must hold at least one line, point or polygon"
        raise DataError.at(where, rule, found="none", remedy=LAYER_REMEDY)
    if crs is None:
        raise DataError.at(where, "must state the CRS of its coordinates", found="no CRS", remedy="Assign a CRS.")

    # A line that is straight in a projection is curved in degrees, so it gets vertices along its way.
    if crs.is_projected:
        geometries = shapely.segmentize(geometries, MAX_STEP_M / crs.axis_info[0].unit_conversion_factor)
    degrees = geopandas.GeoSeries(geometries, crs=crs).to_crs(4326).to_numpy()

    try:
        check_degrees(shapely.get_coordinates(degrees)[:, ::-1])
    except RegionError as error:
        rule = f"must have coordinates that its CRS converts to degrees ({error})"
        raise DataError.at(where, rule, remedy="Give the file the CRS of its coordinates.") from error
    return Layer(degrees)


def read_existing_places(path: str | Path, key: str = "strategy.existing") -> FloatArray:
    """Reads (M, 2) coordinates in degrees, M at least 1, from a data.csv or a folder that holds one.

    Raises MissingFileError if the file does not exist, and DataError if it has no rows or as `read_place_rows`.
    """
    file = Path(path).expanduser()
    file = file / "data.csv" if file.is_dir() else file
    where = f"{key} {file}"
    if not file.is_file():
        raise MissingFileError.at(where, "must be a data.csv, or a folder that holds one")

    coords = [(latitude, longitude) for latitude, longitude, _ in read_place_rows(file, where)]
    if not coords:
        raise DataError.at(where, "must hold at least one place", found="none")
    return np.array(coords)
