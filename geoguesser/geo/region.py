"""Region: the land that places lie on, and the space in which its geometry is done.

A `PlaneRegion` works in a projected CRS in metres, a `SphereRegion` (the world) in unit vectors.
Both offer `to_space` and `from_space`, so that code above needs to know of neither. Coordinates
are (latitude, longitude) in degrees; polygons have x = longitude, y = latitude.
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

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, RegionError
from geoguesser.geo import boundaries
from geoguesser.geo.crs import check_crs, compute_spherical_centre, make_equal_area_crs, project_polygons
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, haversine_km, to_unit
from geoguesser.geo.score import WORLD_DIAGONAL_KM
from geoguesser.geo.segments import cut_segments, nearest_on_segments, ring_segments

ON_LAND_TOLERANCE_M = 0.01  # a snapped point can miss its polygon by 3e-10 m; 1 cm is still nowhere
RUN = 16  # boundary points in a row that are looked at together: up to 90 km
REACH_KM = 3000.0  # how far beyond its land a CRS is used; a transverse Mercator breaks down later


class Region(ABC):
    """A named piece of land.

    Attributes:
        name: For titles and messages.
        land_deg: The boundary, polygons in degrees.
    """

    def __init__(self, name: str, land_deg: MultiPolygon) -> None:
        self.name = name
        self.land_deg = land_deg

    @property
    @abstractmethod
    def diagonal_km(self) -> float:
        """The diagonal of the map in km, D of the game score."""

    @property
    @abstractmethod
    def area_km2(self) -> float:
        """The area of the land."""

    @abstractmethod
    def to_space(self, coords_deg: FloatArray) -> FloatArray:
        """(N, 2) degrees -> (N, 2) CRS metres in the plane, (N, 3) unit vectors on the sphere."""

    @abstractmethod
    def from_space(self, points: FloatArray) -> FloatArray:
        """The inverse of `to_space`; means of points of the space are allowed."""

    @abstractmethod
    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        """(N, 2) degrees -> (N, 2) CRS easting and northing in metres.

        Raises:
            RegionError: There is no plane, or a point lies too far outside it.
        """

    @abstractmethod
    def to_degrees(self, xy_m: FloatArray) -> FloatArray:
        """(N, 2) CRS metres -> (N, 2) degrees; the inverse of `to_metres`."""

    @abstractmethod
    def contains(self, coords_deg: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(N,) whether each point lies on land (in the plane with a tolerance of 1 cm)."""

    @abstractmethod
    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        """(N, 2) the point of the boundary that is nearest to each point."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain values and arrays from which `region_from_state` makes the same region."""

    @cached_property
    def centre_deg(self) -> FloatArray:
        """(2,) the spherical centre of the land: the mean of its polygons' centroids by area."""
        return compute_spherical_centre(self.land_deg)

    def snap(self, coords_deg: FloatArray) -> FloatArray:
        """(N, 2) each point itself where it lies on land, else the nearest point of the land."""
        snapped = np.array(coords_deg, dtype=np.float64)
        off = ~self.contains(snapped)
        if off.any():
            snapped[off] = self.nearest_boundary(snapped[off])
        return snapped

    def distance_to_land_km(self, coords_deg: FloatArray) -> FloatArray:
        """(N,) great-circle distance to the land, 0 on it."""
        return haversine_km(coords_deg, self.snap(coords_deg))


class PlaneRegion(Region):
    """Land with a projected CRS in metres.

    Args:
        name: For titles and messages.
        land_deg: The boundary in degrees.
        crs: Anything that pyproj takes; it must be projected and in metres. None makes a Lambert
            azimuthal equal-area CRS at the land's spherical centre.

    Raises:
        RegionError: The CRS is none, not projected, not in metres, or the land does not lie in its
            area of use.
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
        """(P, 4) the bounding box of each part of the land, in CRS metres."""
        return shapely.bounds(shapely.get_parts(self.land_m))

    @property
    def area_km2(self) -> float:
        return float(self.land_m.area) / 1e6

    @cached_property
    def _radius_km(self) -> float:
        vertices = shapely.get_coordinates(self.land_deg)[:, ::-1]
        return float(haversine_km(vertices, self.centre_deg).max())

    def _out_of_reach(self, coords_deg: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return haversine_km(coords_deg, self.centre_deg) > self._radius_km + REACH_KM

    def snap(self, coords_deg: FloatArray) -> FloatArray:
        """As in Region; points out of the CRS's reach go to the vertex of the land that is nearest."""
        coords = np.array(coords_deg, dtype=np.float64)
        check_degrees(coords)
        far = np.flatnonzero(self._out_of_reach(coords))
        if len(far):
            vertices = shapely.get_coordinates(self.land_deg)[:, ::-1]
            coords[far] = vertices[cKDTree(to_unit(vertices)).query(to_unit(coords[far]))[1]]
        return super().snap(coords)

    def to_space(self, coords_deg: FloatArray) -> FloatArray:
        return self.to_metres(coords_deg)

    def from_space(self, points: FloatArray) -> FloatArray:
        return self.to_degrees(points)

    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        coords = np.asarray(coords_deg, dtype=np.float64)
        check_degrees(coords)
        far = self._out_of_reach(coords)
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

    def contains(self, coords_deg: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        xy = self.to_metres(coords_deg)
        inside = shapely.contains_xy(self.land_m, xy[:, 0], xy[:, 1])
        out = np.flatnonzero(~inside)
        if len(out):
            near = self._nearest_boundary_m(xy[out])
            inside[out] = np.hypot(*(near - xy[out]).T) <= ON_LAND_TOLERANCE_M
        return inside

    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        return self.to_degrees(self._nearest_boundary_m(self.to_metres(coords_deg)))

    def _nearest_boundary_m(self, xy_m: FloatArray) -> FloatArray:
        tree, starts, ends = self._segments
        chosen = tree.nearest(shapely.points(xy_m))
        return nearest_on_segments(xy_m, starts[chosen], ends[chosen])

    @cached_property
    def _segments(self) -> tuple[shapely.STRtree, FloatArray, FloatArray]:
        starts, ends = ring_segments(self.land_m)
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
    """The world: all shipped countries, and no plane at all."""

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
        coords = np.asarray(coords_deg, dtype=np.float64)
        check_degrees(coords)
        return to_unit(coords)

    def from_space(self, points: FloatArray) -> FloatArray:
        return from_unit(np.asarray(points, dtype=np.float64))

    def to_metres(self, coords_deg: FloatArray) -> FloatArray:
        raise RegionError("region=world has no plane and no CRS. Use head.space=sphere for regression.")

    def to_degrees(self, xy_m: FloatArray) -> FloatArray:
        return self.to_metres(xy_m)

    def contains(self, coords_deg: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        coords = np.asarray(coords_deg, dtype=np.float64)
        check_degrees(coords)
        inside = np.zeros(len(coords), dtype=bool)
        points: Any = shapely.points(coords[:, ::-1])
        tree, parts = self._parts
        point, part = tree.query(points)  # by boxes alone; a predicate here would not use prepared parts
        inside[point[shapely.intersects(parts[part], points[point])]] = True
        return inside

    def nearest_boundary(self, coords_deg: FloatArray) -> FloatArray:
        """The nearest of the boundary's points, which stand at most 5 km apart (so within 3 km)."""
        tree, starts, ends = self._vertices
        vectors = to_unit(np.asarray(coords_deg, dtype=np.float64))
        _, found = tree.query(vectors, k=4)
        repeated = np.repeat(vectors[:, None], found.shape[1], axis=1)
        near = nearest_on_segments(repeated, starts[found], ends[found])
        best = np.argmin(np.linalg.norm(near - repeated, axis=-1), axis=1)
        return from_unit(near[np.arange(len(near)), best])

    @cached_property
    def _parts(self) -> tuple[shapely.STRtree, Any]:
        parts = shapely.get_parts(self.land_deg)
        shapely.prepare(parts)
        return shapely.STRtree(parts), parts

    @cached_property
    def boundary_deg(self) -> FloatArray:
        """(N, 2) points on all boundaries, at most 0.05 degrees apart."""
        return cut_segments(*ring_segments(self.land_deg), longest=0.05)[0][:, ::-1].copy()

    @cached_property
    def boundary_runs(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Boundary points in order, and the boxes of runs of RUN of them, by longitude and sine of latitude.

        Returns:
            (N, 2) points, longitude from -180 to below 180; (R, 2) low and (R, 2) high corners. Run r holds
            points RUN * r up to RUN * (r + 1).
        """
        latitude, longitude = self.boundary_deg.T
        chart = np.stack(((longitude + 180.0) % 360.0 - 180.0, np.sin(np.radians(latitude))), axis=-1)
        starts = np.arange(0, len(chart), RUN)
        return chart, np.minimum.reduceat(chart, starts), np.maximum.reduceat(chart, starts)

    @cached_property
    def _vertices(self) -> tuple[Any, FloatArray, FloatArray]:
        starts, ends = cut_segments(*ring_segments(self.land_deg), longest=0.05)
        a, b = to_unit(starts[:, ::-1]), to_unit(ends[:, ::-1])
        return cKDTree((a + b) / 2.0), a, b

    def state(self) -> dict[str, Any]:
        return {"kind": "world"}


def region_from_state(state: dict[str, Any]) -> Region:
    """Makes the region again that `Region.state` described."""
    if state["kind"] == "world":
        return SphereRegion()
    land: Any = shapely.from_wkb(np.asarray(state["land_wkb"], dtype=np.uint8).tobytes())
    return PlaneRegion(state["name"], land, pyproj.CRS.from_wkt(state["crs_wkt"]))


def country(code: str, crs: Any = None) -> PlaneRegion:
    """A shipped country, `region=country region.code=SVN`.

    Args:
        code: Three letters, ISO 3166-1 alpha-3.
        crs: Its projected CRS; None for Lambert azimuthal equal-area at its spherical centre.

    Raises:
        ConfigError: No such country.
        RegionError: The CRS does not fit.
    """
    own = boundaries.find_country(code)
    name = boundaries.load_countries()[own]["name"]
    return PlaneRegion(name, boundaries.read_country(own), crs)


def custom(boundary: str | None, crs: Any = None, name: str | None = None) -> PlaneRegion:
    """Land of the user's own, `region=custom region.boundary=FILE`.

    Args:
        boundary: A GeoJSON, GeoPackage or Shapefile.
        crs: Its projected CRS; None for Lambert azimuthal equal-area at its spherical centre.
        name: For titles; None for the file's name.

    Raises:
        ConfigError: No file is named.
        MissingFileError: There is no such file.
        RegionError: The boundary or the CRS does not fit.
    """
    if not boundary:
        raise ConfigError.at("region.boundary", "must name a file", found=boundary)
    land = boundaries.read_boundary_file(boundary)
    return PlaneRegion(str(name) if name else str(boundary).rsplit("/", 1)[-1].split(".")[0], land, crs)


def world() -> SphereRegion:
    """All countries, `region=world`: cells and heads work on the sphere."""
    return SphereRegion()


def check_degrees(coords_deg: FloatArray) -> None:
    """Raises RegionError unless all are finite, latitude within 90 and longitude within 180 degrees."""
    good = np.isfinite(coords_deg).all(axis=-1) & (np.abs(coords_deg) <= (90.0, 180.0)).all(axis=-1)
    if not good.all():
        first = tuple(float(value) for value in coords_deg[np.argmin(good)])
        raise RegionError.at("(latitude, longitude)", "must be finite, within 90 and 180 degrees", found=first)
