"""Regions: the land that places lie on, and the space in which geometry is computed.

A `PlaneRegion` uses a projected CRS in metres, a `SphereRegion` (the world) unit vectors; `to_space` and
`from_space` serve both. Coordinates are (latitude, longitude) in degrees; polygons have x = longitude, y =
latitude.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import pyproj
import shapely
from scipy.spatial import cKDTree
from shapely.geometry import MultiPolygon

from geoguesser.arrays import BoolArray, FloatArray
from geoguesser.errors import ConfigError, RegionError
from geoguesser.geo import boundaries
from geoguesser.geo.boundaries import cut_segments, extract_ring_segments, find_nearest_on_segments
from geoguesser.geo.crs import check_crs, compute_spherical_centre, make_equal_area_crs, project_polygons
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, haversine_km, to_unit
from geoguesser.geo.score import WORLD_DIAGONAL_KM
from geoguesser.geo.wkb import load_wkb

ON_LAND_TOLERANCE_M = 0.01  # a snapped point may miss its polygon by a rounding error of 3e-10 m
BOUNDARY_STEP_DEG = 0.05  # maximum distance of boundary points on the sphere
RUN_LENGTH = 16  # successive boundary points that are located together: up to 90 km
REACH_KM = 3000.0  # distance from its land up to which a CRS is used; a transverse Mercator fails farther out


class Region(ABC):
    """Named land, with conversions between degrees and the space of its geometry.

    Attributes:
        name: Name for titles and messages.
        land_deg: Boundary, polygons in degrees.
    """

    def __init__(self, name: str, land_deg: MultiPolygon) -> None:
        self.name = name
        self.land_deg = land_deg

    @property
    @abstractmethod
    def diagonal_km(self) -> float:
        """Diagonal of the map in km, D of the game score."""

    @property
    @abstractmethod
    def area_km2(self) -> float:
        """Area of the land."""

    @abstractmethod
    def to_space(self, coords_deg: FloatArray) -> FloatArray:
        """Converts degrees (N, 2) to CRS metres (N, 2) in the plane, or unit vectors (N, 3) on the sphere."""

    @abstractmethod
    def from_space(self, points: FloatArray) -> FloatArray:
        """Inverts `to_space`. On the sphere, vectors may have any length, so that means are allowed."""

    @abstractmethod
    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        """Converts degrees (N, 2) to CRS easting and northing (N, 2) in metres.

        Raises RegionError if there is no plane, or a point lies too far outside it.
        """

    @abstractmethod
    def to_degrees(self, xy_m: FloatArray) -> FloatArray:
        """Converts CRS metres (N, 2) to degrees (N, 2); the inverse of `to_metres`."""

    @abstractmethod
    def contains(self, coords_deg: FloatArray) -> BoolArray:
        """Returns a mask (N,) of points on land, in the plane with a tolerance of 1 cm."""

    @abstractmethod
    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        """Returns the nearest point (N, 2) of the boundary for each point."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns plain values and arrays from which `restore_region` makes the same region."""

    @cached_property
    def centre_deg(self) -> FloatArray:
        """Spherical centre (2,) of the land: the mean of its polygons' centroids by area."""
        return compute_spherical_centre(self.land_deg)

    def snap(self, coords_deg: FloatArray) -> FloatArray:
        """Returns points (N, 2), those off the land moved to its nearest point."""
        snapped = np.array(coords_deg, dtype=np.float64)
        off_land = ~self.contains(snapped)
        if off_land.any():
            snapped[off_land] = self.nearest_boundary(snapped[off_land])

        return snapped

    def distance_to_land_km(self, coords_deg: FloatArray) -> FloatArray:
        """Returns great-circle distances (N,) to the land, 0 on it."""
        return haversine_km(coords_deg, self.snap(coords_deg))


class PlaneRegion(Region):
    """Land with a projected CRS in metres.

    Args:
        crs: Projected CRS in metres, in any form that pyproj accepts. None makes a Lambert azimuthal equal-area
            CRS at the land's spherical centre.
    """

    def __init__(self, name: str, land_deg: MultiPolygon, crs: Any = None) -> None:
        super().__init__(name, land_deg)
        self.crs = make_equal_area_crs(self.centre_deg) if crs is None else check_crs(crs, land_deg)
        self._forward = pyproj.Transformer.from_crs(4326, self.crs, always_xy=True)
        self.land_m = project_polygons(land_deg, self._forward)
        shapely.prepare(self.land_m)

    @property
    def diagonal_km(self) -> float:
        west, south, east, north = self.land_m.bounds
        return float(np.hypot(east - west, north - south)) / 1000.0

    @cached_property
    def parts_bounds_m(self) -> FloatArray:
        """Bounding boxes (P, 4) of the parts of the land, in CRS metres."""
        return shapely.bounds(shapely.get_parts(self.land_m))

    @property
    def area_km2(self) -> float:
        return float(self.land_m.area) / 1e6

    @cached_property
    def _radius_km(self) -> float:
        """Distance from the centre to the farthest vertex."""
        vertices = shapely.get_coordinates(self.land_deg)[:, ::-1]
        return float(haversine_km(vertices, self.centre_deg).max())

    def _is_out_of_reach(self, coords_deg: FloatArray) -> BoolArray:
        """Returns a mask (N,) of points so far from the land that the CRS is not used."""
        return haversine_km(coords_deg, self.centre_deg) > self._radius_km + REACH_KM

    def snap(self, coords_deg: FloatArray) -> FloatArray:
        """Moves points off the land; those out of the CRS's reach go to the nearest vertex of the land."""
        coords = check_degrees(coords_deg).copy()

        # Chords between unit vectors order points as great-circle distances do.
        far = np.flatnonzero(self._is_out_of_reach(coords))
        if len(far):
            vertices = shapely.get_coordinates(self.land_deg)[:, ::-1]
            coords[far] = vertices[cKDTree(to_unit(vertices)).query(to_unit(coords[far]))[1]]

        return super().snap(coords)

    def to_space(self, coords_deg: FloatArray) -> FloatArray:
        return self.to_metres(coords_deg)

    def from_space(self, points: FloatArray) -> FloatArray:
        return self.to_degrees(points)

    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        coords = check_degrees(coords_deg)

        far = self._is_out_of_reach(coords)
        if far.any():
            first = tuple(round(float(value), 4) for value in coords[np.argmax(far)])
            raise RegionError.at(
                f"a point (latitude, longitude) of region {self.name}",
                f"must lie within {REACH_KM:g} km of its land, for its CRS holds only near it "
                f"({int(far.sum())} of {len(coords)} points do not)",
                found=first,
                remedy="Check for swapped latitude and longitude, or choose another region.",
            )

        x, y = self._forward.transform(coords[:, 1], coords[:, 0])
        return np.stack((x, y), axis=-1)

    def to_degrees(self, xy_m: FloatArray) -> FloatArray:
        xy = np.asarray(xy_m, dtype=np.float64)
        lon, lat = self._forward.transform(xy[:, 0], xy[:, 1], direction="INVERSE")
        return np.stack((lat, lon), axis=-1)

    def contains(self, coords_deg: FloatArray) -> BoolArray:
        xy = self.to_metres(coords_deg)
        on_land = shapely.contains_xy(self.land_m, xy[:, 0], xy[:, 1])

        # Points that were snapped to the boundary may miss the polygon by a rounding error.
        rest = np.flatnonzero(~on_land)
        if len(rest):
            nearest = self._find_nearest_boundary_m(xy[rest])
            on_land[rest] = np.hypot(*(nearest - xy[rest]).T) <= ON_LAND_TOLERANCE_M

        return on_land

    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        return self.to_degrees(self._find_nearest_boundary_m(self.to_metres(coords_deg)))

    def _find_nearest_boundary_m(self, xy_m: FloatArray) -> FloatArray:
        tree, starts, ends = self._segments
        nearest = tree.nearest(shapely.points(xy_m))
        return find_nearest_on_segments(xy_m, starts[nearest], ends[nearest])

    @cached_property
    def _segments(self) -> tuple[shapely.STRtree, FloatArray, FloatArray]:
        """Search tree, starts and ends of the boundary's segments in CRS metres."""
        starts, ends = extract_ring_segments(self.land_m)
        lines: Any = shapely.linestrings(np.stack((starts, ends), axis=1))
        return shapely.STRtree(lines), starts, ends

    def state(self) -> dict[str, Any]:
        return {
            "kind": "plane",
            "name": self.name,
            "crs_wkt": self.crs.to_wkt(),
            "land_wkb": np.frombuffer(shapely.to_wkb(self.land_deg), np.uint8),
        }


class SphereRegion(Region):
    """The world: the land of all shipped countries, in unit vectors. It has no plane."""

    def __init__(self) -> None:
        super().__init__("world", boundaries.read_world())

    @property
    def diagonal_km(self) -> float:
        return WORLD_DIAGONAL_KM

    @cached_property
    def area_km2(self) -> float:
        geod = pyproj.Geod(a=EARTH_RADIUS_KM * 1000.0, f=0.0)
        return sum(abs(geod.geometry_area_perimeter(part)[0]) for part in self.land_deg.geoms) / 1e6

    def to_space(self, coords_deg: FloatArray) -> FloatArray:
        return to_unit(check_degrees(coords_deg))

    def from_space(self, points: FloatArray) -> FloatArray:
        return from_unit(np.asarray(points, dtype=np.float64))

    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        raise RegionError("region=world has no plane and no CRS. Use head.space=sphere for regression.")

    def to_degrees(self, xy_m: FloatArray) -> FloatArray:
        return self.to_metres(xy_m)

    def contains(self, coords_deg: FloatArray) -> BoolArray:
        coords = check_degrees(coords_deg)

        # The tree compares bounding boxes only: with a predicate, it would not use the prepared parts.
        points: Any = shapely.points(coords[:, ::-1])
        tree, parts = self._parts
        point, part = tree.query(points)

        on_land = np.zeros(len(coords), dtype=bool)
        on_land[point[shapely.intersects(parts[part], points[point])]] = True
        return on_land

    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        """Returns the nearest point of the boundary, on one of the four segments whose middles are nearest.

        Segments are at most 5 km long, so that the result is within 3 km of the nearest point.
        """
        tree, starts, ends = self._vector_segments
        vectors = to_unit(np.asarray(coords_deg, dtype=np.float64))
        _, segments = tree.query(vectors, k=4)

        repeated = np.repeat(vectors[:, None], segments.shape[1], axis=1)
        nearest = find_nearest_on_segments(repeated, starts[segments], ends[segments])
        best = np.argmin(np.linalg.norm(nearest - repeated, axis=-1), axis=1)
        return from_unit(nearest[np.arange(len(nearest)), best])

    @cached_property
    def _parts(self) -> tuple[shapely.STRtree, Any]:
        """Search tree of the land's polygons, and the polygons prepared for fast tests."""
        parts = shapely.get_parts(self.land_deg)
        shapely.prepare(parts)
        return shapely.STRtree(parts), parts

    @cached_property
    def boundary_runs(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Boundary points, at most BOUNDARY_STEP_DEG apart, and bounding boxes of runs, in the sphere's chart.

        Returns points (N, 2) by longitude, -180 to below 180, and sine of latitude; low and high corners (R, 2)
        each. Run r holds points RUN_LENGTH * r up to RUN_LENGTH * (r + 1).
        """
        longitude, latitude = cut_segments(*extract_ring_segments(self.land_deg), longest=BOUNDARY_STEP_DEG)[0].T
        chart = np.stack(((longitude + 180.0) % 360.0 - 180.0, np.sin(np.radians(latitude))), axis=-1)

        starts = np.arange(0, len(chart), RUN_LENGTH)
        return chart, np.minimum.reduceat(chart, starts), np.maximum.reduceat(chart, starts)

    @cached_property
    def _vector_segments(self) -> tuple[Any, FloatArray, FloatArray]:
        """Search tree of the middles, and starts and ends of the boundary's segments, as vectors."""
        starts, ends = cut_segments(*extract_ring_segments(self.land_deg), longest=BOUNDARY_STEP_DEG)
        start_vectors, end_vectors = to_unit(starts[:, ::-1]), to_unit(ends[:, ::-1])
        return cKDTree((start_vectors + end_vectors) / 2.0), start_vectors, end_vectors

    def state(self) -> dict[str, Any]:
        return {"kind": "world"}


def restore_region(state: dict[str, Any]) -> Region:
    """Restores the region that `Region.state` described."""
    if state["kind"] == "world":
        return SphereRegion()

    land = load_wkb(np.asarray(state["land_wkb"], dtype=np.uint8).tobytes())
    return PlaneRegion(str(state["name"]), land, pyproj.CRS.from_wkt(state["crs_wkt"]))


def country(code: str, crs: Any = None) -> PlaneRegion:
    """Makes the region of a shipped country, `region=country region.code=SVN`, with a CRS as in `PlaneRegion`.

    The code has three letters, as in ISO 3166-1 alpha-3. Unknown codes raise ConfigError.
    """
    shipped_code = boundaries.find_country(code)
    name = boundaries.load_countries()[shipped_code]["name"]
    return PlaneRegion(name, boundaries.read_country(shipped_code), crs)


def custom(boundary: str | None, crs: Any = None, name: str | None = None) -> PlaneRegion:
    """Makes the region of a boundary file, `region=custom region.boundary=FILE`, with a CRS as in `PlaneRegion`.

    The file is a GeoJSON, GeoPackage or Shapefile. A missing or unusable one raises an error. The region's name,
    for titles, is that of the file by default.
    """
    if not boundary:
        raise ConfigError.at("region.boundary", "must name a file", found=boundary)

    land = boundaries.read_boundary_file(boundary)
    return PlaneRegion(str(name) if name else str(boundary).rsplit("/", 1)[-1].split(".")[0], land, crs)


def world() -> SphereRegion:
    """Makes the region of all countries, `region=world`."""
    return SphereRegion()


def check_degrees(coords_deg: FloatArray) -> FloatArray:
    """Returns coordinates (N, 2) in float64, or raises RegionError for any that is not finite or out of range."""
    coords_deg = np.asarray(coords_deg, dtype=np.float64)
    is_valid = np.isfinite(coords_deg).all(axis=-1) & (np.abs(coords_deg) <= (90.0, 180.0)).all(axis=-1)
    if not is_valid.all():
        first = tuple(float(value) for value in coords_deg[np.argmin(is_valid)])
        raise RegionError.at("(latitude, longitude)", "must be finite, within 90 and 180 degrees", found=first)
    return coords_deg
