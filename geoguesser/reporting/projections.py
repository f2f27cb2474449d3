"""Frames: how a region lies on paper. A plane region in its CRS, so that squares are squares; the world by degree.

Nothing here draws places or cells: that is reporting/maps.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from geoguesser.geo.cells.square import IntArray
from geoguesser.geo.distance import EARTH_RADIUS_KM, FloatArray, from_unit, haversine_km, to_unit
from geoguesser.geo.region import REACH_KM, PlaneRegion, Region
from geoguesser.reporting.style import FAINT, INK, MUTED

MAX_NORTH_DEG, MAX_SOUTH_DEG = 84.0, -60.0  # of the world's map, unless a place lies beyond


class MapProjection(ABC):
    """How a region is laid on paper. Drawing units are CRS metres, or degrees for the world.

    Attributes:
        land: The land in drawing units.
        stretch: How many times longer a unit is drawn northwards than eastwards.
        shore_pt: Width of the line around the land.
    """

    land: shapely.MultiPolygon
    stretch: float = 1.0
    shore_pt: float = 0.6

    @abstractmethod
    def project(self, coords_deg: FloatArray) -> FloatArray:
        """(N, 2) degrees -> (N, 2) x and y in drawing units."""

    def ring(self, ring_deg: FloatArray) -> FloatArray:
        """(V, 2) a cell's outline in degrees -> (V, 2) in drawing units."""
        return self.project(ring_deg)

    def rings(self, ring_deg: FloatArray) -> list[FloatArray]:
        """The outline as often as it must be drawn: twice where it crosses the date line."""
        return [self.ring(ring_deg)]

    @abstractmethod
    def lines(self, starts_deg: FloatArray, ends_deg: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        """As `split_at_date_line`, in drawing units."""

    @abstractmethod
    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """(4,) west, south, east and north end of a map of the land, (N, 2) points and cells' outlines."""

    @abstractmethod
    def furnish(self, axes: Axes) -> None:
        """Adds what tells the scale: a scale bar, or a graticule."""


class PlaneProjection(MapProjection):
    """A region in the metres of its CRS, north up along the CRS's y axis."""

    def __init__(self, region: PlaneRegion) -> None:
        self.region, self.land = region, region.land_m
        vertices = shapely.get_coordinates(region.land_deg)[:, ::-1]
        self._reach_km = float(haversine_km(vertices, region.centre_deg).max()) + 0.99 * REACH_KM

    def project(self, coords_deg: FloatArray) -> FloatArray:
        return self.region.to_metres(clip_to_frame(coords_deg, self.region.centre_deg, self._reach_km))

    def lines(self, starts_deg: FloatArray, ends_deg: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        lasts = np.stack((self.project(starts_deg), self.project(ends_deg)), axis=1)
        return lasts, np.zeros((0, 2, 2)), np.zeros(0, dtype=np.int64)

    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """All land and cells; a point far off widens the map by an eighth of its larger side at most."""
        corners = np.concatenate((np.array(self.land.bounds).reshape(2, 2), *rings))
        low, high = corners.min(axis=0), corners.max(axis=0)
        reach = (high - low).max() / 8
        low = np.maximum(np.minimum(low, points.min(axis=0)), low - reach)
        high = np.minimum(np.maximum(high, points.max(axis=0)), high + reach)
        pad = 0.02 * (high - low).max()
        return np.concatenate((low - pad, high + pad))

    def furnish(self, axes: Axes) -> None:
        """A scale bar under the lower left corner of the map."""
        west, east = axes.get_xlim()
        length_m = round_length(0.25 * (east - west))
        points_up = axes.get_window_extent().height / axes.figure.dpi * 72
        across = blended_transform_factory(axes.transData, axes.transAxes)
        ends, level = np.array((west, west + length_m)), -14 / points_up
        look: dict[str, Any] = {"color": INK, "lw": 2.5, "solid_capstyle": "butt", "clip_on": False}
        axes.plot(ends, (level, level), transform=across, **look)
        label = f"{length_m / 1000:,g} km"
        axes.text(west, level - 5 / points_up, label, transform=across, va="top", fontsize=9)


class WorldProjection(MapProjection):
    """The world by longitude and latitude, with true proportions at 35 degrees north and south."""

    stretch = float(1.0 / np.cos(np.radians(35.0)))
    shore_pt = 0.3

    def __init__(self, region: Region) -> None:
        self.land = region.land_deg

    def project(self, coords_deg: FloatArray) -> FloatArray:
        return np.asarray(coords_deg, dtype=np.float64)[:, ::-1]

    def ring(self, ring_deg: FloatArray) -> FloatArray:
        """An outline that ends at the date line stays on its own side of the map."""
        lon = np.unwrap(ring_deg[:, 1], period=360.0)
        return np.stack((lon - 360.0 * np.round(lon.mean() / 360.0), ring_deg[:, 0]), axis=-1)

    def rings(self, ring_deg: FloatArray) -> list[FloatArray]:
        """An outline that crosses the date line is drawn on both sides; one round a pole is closed along it."""
        ring = self.ring(ring_deg)
        if abs(ring[-1, 0] - ring[0, 0]) > 180.0:
            return [_open_at_date_line(ring)]
        low, high = ring[:, 0].min(), ring[:, 0].max()
        drawn = [ring]
        if low < -180.0 - 1e-6:
            drawn.append(ring + np.array((360.0, 0.0)))
        if high > 180.0 + 1e-6:
            drawn.append(ring - np.array((360.0, 0.0)))
        return drawn

    def lines(self, starts_deg: FloatArray, ends_deg: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        lasts, firsts, owners = split_at_date_line(starts_deg, ends_deg)
        return lasts[..., ::-1], firsts[..., ::-1], owners

    def bounds(self, points: FloatArray, rings: list[FloatArray]) -> FloatArray:
        """Without the Antarctic, unless a point lies there; cells may be cut."""
        south, north = points[:, 1].min() - 3.0, points[:, 1].max() + 3.0
        south, north = max(min(south, MAX_SOUTH_DEG), -90.0), min(max(north, MAX_NORTH_DEG), 90.0)
        return np.array((-180.0, south, 180.0, north))

    def furnish(self, axes: Axes) -> None:
        """Meridians and parallels every 30 degrees, nearer on a map of a part, named outside of the map."""
        axes.set_axis_on()
        axes.spines[:].set_visible(False)
        axes.grid(True, color=FAINT, lw=0.5)
        axes.tick_params(length=0, labelsize=7.5, labelcolor=MUTED, pad=3)
        narrow = axes.get_window_extent().width / axes.figure.dpi < 6.0  # in inches: fewer names, or they touch
        for axis, letters, last in ((axes.xaxis, "WE", 179.0), (axes.yaxis, "SN", 89.0)):
            low, high = sorted(axis.get_view_interval())
            step = min(60.0 if narrow else 30.0, round_length((high - low) / 2))
            ticks = step * np.arange(np.ceil(max(low, -last) / step), np.floor(min(high, last) / step) + 1)
            axis.set_ticks(ticks, [format_degree(tick, letters) for tick in ticks])


def make_projection(region: Region) -> MapProjection:
    """The way to draw a region."""
    return PlaneProjection(region) if isinstance(region, PlaneRegion) else WorldProjection(region)


def _open_at_date_line(ring: FloatArray) -> FloatArray:
    """(V, 2) an outline that runs once round a pole -> closed along the date line and the edge of the map."""
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
    """30° W for -30 and "WE"; no letter at 0."""
    letter = "" if degree == 0 else letters[int(degree > 0)]
    return f"{abs(degree):g}°{letter}"


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `most` (positive)."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def split_at_date_line(starts_deg: FloatArray, ends_deg: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Lines straight in longitude and latitude, the shorter way round; cut where they cross 180 degrees.

    Args:
        starts_deg: (N, 2) latitude and longitude.
        ends_deg: (N, 2) latitude and longitude.

    Returns:
        (N, 2, 2) start and end of each line's last (or only) piece, (M, 2, 2) the first pieces of the
        M lines that are cut, and (M,) the numbers of those lines.
    """
    lasts = np.stack((starts_deg, ends_deg), axis=1).astype(np.float64)
    eastwards = lasts[:, 1, 1] - lasts[:, 0, 1]
    owners = np.flatnonzero(np.abs(eastwards) > 180.0)
    firsts = lasts[owners].copy()
    side = -np.sign(eastwards[owners])  # +1: leaves the map in the east, comes back in the west
    way = eastwards[owners] + 360.0 * side
    share = np.divide(180.0 * side - firsts[:, 0, 1], way, out=np.zeros(len(owners)), where=way != 0)
    latitude = firsts[:, 0, 0] + share * (firsts[:, 1, 0] - firsts[:, 0, 0])
    firsts[:, 1] = np.stack((latitude, 180.0 * side), axis=-1)
    lasts[owners, 0] = np.stack((latitude, -180.0 * side), axis=-1)
    return lasts, firsts, owners


def clip_to_frame(coords_deg: FloatArray, centre_deg: FloatArray, reach_km: float) -> FloatArray:
    """(N, 2) each point itself, or if it lies beyond `reach_km` the point there in the same direction."""
    coords = np.array(coords_deg, dtype=np.float64)
    away_km = haversine_km(coords, centre_deg)
    far = away_km > reach_km
    if far.any():
        centre, points = to_unit(centre_deg), to_unit(coords[far])
        tangent = points - (points @ centre)[:, None] * centre
        tangent /= np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-12)
        angle = reach_km / EARTH_RADIUS_KM
        coords[far] = from_unit(np.cos(angle) * centre + np.sin(angle) * tangent)
    return coords
