"""Great circle against straight line: how far the map's straight way and length are from the Earth's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from geoguesser.geo.distance import EARTH_RADIUS_KM, FloatArray, from_unit, haversine_km, to_unit
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.explanation.maps import compute_map_box
from geoguesser.reporting.maps import set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import BLUE, INK, VERMILION, picture

MAX_PAIRS, PIECES = 500, 128
FAR_RAD = 0.95 * np.pi  # beyond, opposite points have no one great circle, and none is drawn


@dataclass(frozen=True)
class Lines:
    """Two ways between places.

    Attributes:
        ends_deg: (2, 2) of the pair whose two ways lie farthest apart.
        straight_deg: (P, 2) its way that is straight on the map.
        circle_deg: (P, 2) its great circle.
        apart_km: How far apart the two lie at most.
        great_km: The length of its great circle.
        straight_km: Its length on the map: of the CRS, or along the way straight in degrees.
        pairs: How many pairs were looked at.
        off_mean: The mean, over all pairs, of how far map lengths are from great circles, as a share of these.
        off_most: The most that any is off.
        ellipsoid_most: The most that a great circle of the sphere is off the WGS 84 ellipsoid's geodesic.
    """

    ends_deg: FloatArray
    straight_deg: FloatArray
    circle_deg: FloatArray
    apart_km: float
    great_km: float
    straight_km: float
    pairs: int
    off_mean: float
    off_most: float
    ellipsoid_most: float


def great_circle(a_deg: FloatArray, b_deg: FloatArray, pieces: int = PIECES) -> FloatArray:
    """(pieces + 1, 2) points at equal steps along the shortest way on the sphere; of opposite points, any.

    Source: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985 (slerp).
    """
    a, b = to_unit(a_deg), to_unit(b_deg)
    angle = float(haversine_km(a_deg, b_deg)) / EARTH_RADIUS_KM
    share = np.linspace(0.0, 1.0, pieces + 1)[:, None]
    if np.sin(angle) < 1e-12:
        return from_unit(np.repeat(a[None], pieces + 1, axis=0) * (1 - share) + b * share + 1e-15)
    return from_unit((np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle))


def straight_line(region: Region, a_deg: FloatArray, b_deg: FloatArray, pieces: int = PIECES) -> FloatArray:
    """(pieces + 1, 2) points of the way straight in the region's CRS; for the world, straight in degrees."""
    share = np.linspace(0.0, 1.0, pieces + 1)[:, None]
    if isinstance(region, PlaneRegion):
        a, b = region.to_metres(np.stack((a_deg, b_deg)))
        return region.to_degrees(a + share * (b - a))
    way = np.asarray(b_deg, dtype=np.float64) - a_deg
    way[1] -= 360.0 * np.round(way[1] / 360.0)
    found = a_deg + share * way
    found[:, 1] = (found[:, 1] + 180.0) % 360.0 - 180.0
    return found


def apart_km(line_deg: FloatArray, a_deg: FloatArray, b_deg: FloatArray) -> float:
    """How far a line's points lie from the great circle through two points, at most."""
    normal = np.cross(to_unit(a_deg), to_unit(b_deg))
    length = float(np.linalg.norm(normal))
    if length < 1e-12:
        return 0.0
    return float(EARTH_RADIUS_KM * np.abs(np.arcsin(np.clip(to_unit(line_deg) @ normal / length, -1, 1))).max())


def map_km(region: Region, a_deg: FloatArray, b_deg: FloatArray) -> FloatArray:
    """(N,) lengths on the map: of the CRS in the plane; for the world, on the sphere along the way of the map."""
    if isinstance(region, PlaneRegion):
        return np.asarray(np.hypot(*(region.to_metres(b_deg) - region.to_metres(a_deg)).T) / 1000.0)
    ways = [straight_line(region, a, b) for a, b in zip(a_deg, b_deg, strict=True)]
    return np.array([haversine_km(way[:-1], way[1:]).sum() for way in ways])


def lines_of(region: Region, coords_deg: FloatArray) -> Lines | None:
    """Compares the two ways between pairs of places, drawn from seed 0; None where no two places differ.

    Args:
        region: The land.
        coords_deg: (N, 2) places.
    """
    drawn = np.random.default_rng(0).integers(0, len(coords_deg), (MAX_PAIRS, 2))
    a, b = coords_deg[drawn[:, 0]], coords_deg[drawn[:, 1]]
    great = haversine_km(a, b)
    some = (great > 1.0) & (great < FAR_RAD * EARTH_RADIUS_KM)
    if not some.any():
        return None
    a, b, great = a[some], b[some], great[some]
    flat = map_km(region, a, b)
    geodesic = np.asarray(pyproj.Geod(ellps="WGS84").inv(a[:, 1], a[:, 0], b[:, 1], b[:, 0])[2]) / 1000.0
    away = [apart_km(straight_line(region, *ends), *ends) for ends in zip(a, b, strict=True)]
    most = int(np.argmax(away))
    off = flat / great - 1.0
    return Lines(
        ends_deg=np.stack((a[most], b[most])),
        straight_deg=straight_line(region, a[most], b[most]),
        circle_deg=great_circle(a[most], b[most]),
        apart_km=away[most],
        great_km=float(great[most]),
        straight_km=float(flat[most]),
        pairs=len(great),
        off_mean=float(np.abs(off).mean()),
        off_most=float(np.abs(off).max()),
        ellipsoid_most=float(np.abs(great / geodesic - 1.0).max()),
    )


def draw_lines(path: Path, *, region: Region, lines: Lines) -> None:
    """Draws both ways on the region's map.

    Args:
        path: The PNG to write.
        region: The land.
        lines: As `lines_of` gives them.
    """
    frame = make_projection(region)
    bounds = frame.bounds(frame.project(np.concatenate((lines.circle_deg, lines.straight_deg))), [])
    box, height = compute_map_box(frame, bounds, 0.3)
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = set_map(figure, box, frame, bounds)
        _draw_way(axes, frame, lines.straight_deg, colour=BLUE, width_pt=3.2, alpha=0.55)
        _draw_way(axes, frame, lines.circle_deg, colour=VERMILION, width_pt=1.3, alpha=1.0)
        axes.plot(*frame.project(lines.ends_deg).T, "o", ls="", ms=5, color=INK, mec="white", mew=0.8, zorder=7)
        looks = ((VERMILION, "great circle"), (BLUE, "straight on the map"))
        for at, (colour, label) in enumerate(looks):
            figure.text((0.12 + 1.5 * at) / WIDTH_IN, 0.08 / height, f"— {label}", color=colour, fontsize=8.5)


def _draw_way(
    axes: Axes, frame: MapProjection, points_deg: FloatArray, *, colour: str, width_pt: float, alpha: float
) -> None:
    lasts, firsts, _ = frame.lines(points_deg[:-1], points_deg[1:])
    look = LineCollection([*lasts, *firsts], colors=colour, lw=width_pt, alpha=alpha, zorder=6, capstyle="butt")
    axes.add_collection(look, autolim=False)
