"""Map projections: a plane region in the metres of its CRS, the world by longitude and latitude."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, haversine_km, to_unit
from geoguesser.geo.region import REACH_KM, PlaneRegion, Region
from geoguesser.reporting.style import FAINT, INK, MUTED

# Limits of the world's map, unless a place lies beyond them.
NORTH_LIMIT_DEG, SOUTH_LIMIT_DEG = 84.0, -60.0


class MapProjection(ABC):
    """Projection of a region onto a map. Drawing units are CRS metres, or degrees for the world.

    Attributes:
        land: Land in drawing units.
        stretch: Drawn length of a unit to the north, relative to a unit to the east.
        shore_pt: Width of the line around the land in points.
    """

    land: shapely.MultiPolygon
    stretch: float = 1.0
    shore_pt: float = 0.6

    @abstractmethod
    def project(self, coords_deg: FloatArray) -> FloatArray:
        """Projects points, (N, 2) degrees, to (N, 2) x and y in drawing units."""

    def project_ring(self, ring_deg: FloatArray) -> FloatArray:
        """Projects the outline of a cell, (V, 2) degrees, to (V, 2) drawing units."""
        return self.project(ring_deg)

    def project_rings(self, ring_deg: FloatArray) -> list[FloatArray]:
        """Projects an outline to all rings that must be drawn: two if it crosses the date line."""
        return [self.project_ring(ring_deg)]

    @abstractmethod
    def project_lines(
        self, starts_deg: FloatArray, ends_deg: FloatArray
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Projects lines, given and returned as in `split_at_date_line`, to drawing units."""

    @abstractmethod
    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """Returns (4,) west, south, east, north of a map of the land, (N, 2) points and (V, 2) outlines."""

    @abstractmethod
    def add_scale(self, axes: Axes) -> None:
        """Adds a scale bar or a graticule."""


class PlaneProjection(MapProjection):
    """Projection of a region to its CRS in metres, with the CRS's y axis upwards."""

    def __init__(self, region: PlaneRegion) -> None:
        self.region, self.land = region, region.land_m
        vertices = shapely.get_coordinates(region.land_deg)[:, ::-1]
        # Some CRS are undefined far from the region, so that points beyond this distance are pulled nearer.
        self._reach_km = float(haversine_km(vertices, region.centre_deg).max()) + 0.99 * REACH_KM

    def project(self, coords_deg: FloatArray) -> FloatArray:
        return self.region.to_metres(clip_to_frame(coords_deg, self.region.centre_deg, self._reach_km))

    def project_lines(
        self, starts_deg: FloatArray, ends_deg: FloatArray
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        lasts = np.stack((self.project(starts_deg), self.project(ends_deg)), axis=1)
        return lasts, np.zeros((0, 2, 2)), np.zeros(0, dtype=np.int64)

    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """Returns limits around all land and cells; a distant point extends a side by at most an eighth."""
        corners = np.concatenate((np.array(self.land.bounds).reshape(2, 2), *rings))
        low, high = corners.min(axis=0), corners.max(axis=0)

        reach = (high - low).max() / 8
        low = np.maximum(np.minimum(low, points.min(axis=0)), low - reach)
        high = np.minimum(np.maximum(high, points.max(axis=0)), high + reach)

        pad = 0.02 * (high - low).max()
        return np.concatenate((low - pad, high + pad))

    def add_scale(self, axes: Axes) -> None:
        """Adds a scale bar below the lower left corner of the map."""
        west, east = axes.get_xlim()
        length_m = round_length(0.25 * (east - west))

        # Horizontally the bar is in metres, vertically at a fixed distance below the map.
        transform = blended_transform_factory(axes.transData, axes.transAxes)
        height_pt = axes.get_window_extent().height / axes.figure.dpi * 72
        ends, y = np.array((west, west + length_m)), -14 / height_pt

        look: dict[str, Any] = {"color": INK, "lw": 2.5, "solid_capstyle": "butt", "clip_on": False}
        axes.plot(ends, (y, y), transform=transform, **look)
        label = f"{length_m / 1000:,g} km"
        axes.text(west, y - 5 / height_pt, label, transform=transform, va="top", fontsize=9)


class WorldProjection(MapProjection):
    """Projection of the world by longitude and latitude, with true proportions at 35 degrees north and south."""

    stretch = float(1.0 / np.cos(np.radians(35.0)))
    shore_pt = 0.3

    def __init__(self, region: Region) -> None:
        self.land = region.land_deg

    def project(self, coords_deg: FloatArray) -> FloatArray:
        return np.asarray(coords_deg, dtype=np.float64)[:, ::-1]

    def project_ring(self, ring_deg: FloatArray) -> FloatArray:
        """Projects an outline; an outline that ends at the date line stays on one side of the map."""
        lon = np.unwrap(ring_deg[:, 1], period=360.0)
        return np.stack((lon - 360.0 * np.round(lon.mean() / 360.0), ring_deg[:, 0]), axis=-1)

    def project_rings(self, ring_deg: FloatArray) -> list[FloatArray]:
        """Projects an outline: to both sides if it crosses the date line, closed along the edge around a pole."""
        ring = self.project_ring(ring_deg)
        # The unwrapped longitudes of a ring around a pole do not return to their start.
        if abs(ring[-1, 0] - ring[0, 0]) > 180.0:
            return [_close_around_pole(ring)]

        rings = [ring]
        if ring[:, 0].min() < -180.0 - 1e-6:
            rings.append(ring + np.array((360.0, 0.0)))
        if ring[:, 0].max() > 180.0 + 1e-6:
            rings.append(ring - np.array((360.0, 0.0)))
        return rings

    def project_lines(
        self, starts_deg: FloatArray, ends_deg: FloatArray
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        lasts, firsts, owners = split_at_date_line(starts_deg, ends_deg)
        return lasts[..., ::-1], firsts[..., ::-1], owners

    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """Returns limits without Antarctica, unless a point lies there; cells may be cut."""
        south = np.clip(points[:, 1].min() - 3.0, -90.0, SOUTH_LIMIT_DEG)
        north = np.clip(points[:, 1].max() + 3.0, NORTH_LIMIT_DEG, 90.0)
        return np.array((-180.0, south, 180.0, north))

    def add_scale(self, axes: Axes) -> None:
        """Adds meridians and parallels every 30 degrees (closer on a map of a part), labelled outside the map."""
        axes.set_axis_on()
        axes.spines[:].set_visible(False)
        axes.grid(True, color=FAINT, lw=0.5)
        axes.tick_params(length=0, labelsize=7.5, labelcolor=MUTED, pad=3)

        # On a map narrower than 6 inches, labels every 30 degrees would touch.
        narrow = axes.get_window_extent().width / axes.figure.dpi < 6.0
        for axis, letters, last in ((axes.xaxis, "WE", 179.0), (axes.yaxis, "SN", 89.0)):
            low, high = sorted(axis.get_view_interval())
            step = min(60.0 if narrow else 30.0, round_length((high - low) / 2))
            ticks = step * np.arange(np.ceil(max(low, -last) / step), np.floor(min(high, last) / step) + 1)
            axis.set_ticks(ticks, [format_degree(tick, letters) for tick in ticks])


def make_projection(region: Region) -> MapProjection:
    """Returns the projection of a region."""
    return PlaneProjection(region) if isinstance(region, PlaneRegion) else WorldProjection(region)


def _close_around_pole(ring: FloatArray) -> FloatArray:
    """Closes an outline around a pole, (V, 2), along the date line and the edge of the map."""
    # From west to east, starting at the date line.
    points = ring[:-1].copy()
    points[:, 0] = (points[:, 0] + 180.0) % 360.0 - 180.0
    if ring[-1, 0] < ring[0, 0]:
        points = points[::-1]
    points = np.roll(points, -int(np.argmin(points[:, 0])), axis=0)

    latitude = float(np.interp(180.0, points[:, 0], points[:, 1], period=360.0))
    pole = float(np.copysign(90.0, latitude))
    start, corners = (-180.0, latitude), [(180.0, latitude), (180.0, pole), (-180.0, pole), (-180.0, latitude)]
    return np.concatenate(([start], points, corners))


def format_degree(degree: float, letters: str) -> str:
    """Returns `30°W` for -30 and the letters `WE`; no letter for 0."""
    letter = "" if degree == 0 else letters[int(degree > 0)]
    return f"{abs(degree):g}°{letter}"


def round_length(length: float) -> float:
    """Rounds a positive length down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length))


def split_at_date_line(starts_deg: FloatArray, ends_deg: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Splits lines, (N, 2) starts and ends in degrees, where they cross 180 degrees by the shorter way around.

    Returns:
        (N, 2, 2) start and end of the last (or only) piece of each line, (M, 2, 2) first pieces of the M lines
        that are split, and (M,) indices of those lines.
    """
    lasts = np.stack((starts_deg, ends_deg), axis=1).astype(np.float64)
    eastwards = lasts[:, 1, 1] - lasts[:, 0, 1]
    owners = np.flatnonzero(np.abs(eastwards) > 180.0)
    firsts = lasts[owners].copy()

    # Side of the map where a line leaves it: +1 in the east, -1 in the west. With `way`, the signed length of the
    # shorter way, the line start + t * way reaches 180 * side at t = (180 * side - start) / way.
    side = -np.sign(eastwards[owners])
    way = eastwards[owners] + 360.0 * side
    share = np.divide(180.0 * side - firsts[:, 0, 1], way, out=np.zeros(len(owners)), where=way != 0)
    latitude = firsts[:, 0, 0] + share * (firsts[:, 1, 0] - firsts[:, 0, 0])

    firsts[:, 1] = np.stack((latitude, 180.0 * side), axis=-1)
    lasts[owners, 0] = np.stack((latitude, -180.0 * side), axis=-1)
    return lasts, firsts, owners


def clip_to_frame(coords_deg: FloatArray, centre_deg: FloatArray, reach_km: float) -> FloatArray:
    """Pulls (N, 2) points beyond `reach_km` from a centre back to it, along the great circle to the centre."""
    coords = np.array(coords_deg, dtype=np.float64)
    far = haversine_km(coords, centre_deg) > reach_km
    if not far.any():
        return coords

    # With c the centre and t the unit tangent at c towards a point, the great circle is cos(a) c + sin(a) t.
    centre, points = to_unit(centre_deg), to_unit(coords[far])
    tangent = points - (points @ centre)[:, None] * centre
    tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-12)
    angle = reach_km / EARTH_RADIUS_KM
    coords[far] = from_unit(np.cos(angle) * centre + np.sin(angle) * tangent)
    return coords
