"""Interactive maps: Leaflet 1.9.4 (BSD-2-Clause, unchanged), and land and cells as GeoJSON. There are no tiles.

Longitudes may exceed 180 degrees, so that an outline which crosses the date line stays in one piece.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region

# Decimals of coordinates in degrees: 11 m.
DIGITS = 4
# 55 m: no map of a country shows finer details.
MIN_TOLERANCE_DEG = 0.0005


@cache
def load_leaflet() -> tuple[str, str]:
    """Returns Leaflet's script and style sheet as text, without references to other files."""
    folder = files("geoguesser.reporting") / "leaflet"
    script = (folder / "leaflet.js").read_text(encoding="utf-8")
    style = (folder / "leaflet.css").read_text(encoding="utf-8")

    return re.sub(r"\n//# sourceMappingURL=.*", "\n", script), re.sub(r"url\([^)]*\)", "none", style)


def make_outline(region: Region, *, max_points: int = 10_000) -> dict[str, Any]:
    """Returns the region's land as a GeoJSON geometry in degrees, simplified to at most `max_points` vertices.

    The smallest islands are left out first. Each polygon stays valid; neighbouring polygons (countries of the
    world) may overlap slightly.
    """
    parts = shapely.get_parts(region.land_deg)
    count = int(shapely.get_num_coordinates(parts).sum())

    # The tolerance grows until few enough vertices are left.
    tolerance_deg = MIN_TOLERANCE_DEG * max(1.0, count / (4 * max_points))
    while count > max_points:
        # Parts are simplified separately: a multipolygon of the world takes minutes.
        simple = shapely.simplify(parts, tolerance_deg)
        large = simple[shapely.area(simple) > (2 * tolerance_deg) ** 2]
        parts = large if len(large) else np.array([shapely.envelope(region.land_deg)])
        count = int(shapely.get_num_coordinates(parts).sum())
        tolerance_deg *= 1.25

    simplified: Any = shapely.multipolygons(parts)
    geometry = mapping(simplified)
    return {"type": geometry["type"], "coordinates": _round(geometry["coordinates"])}


def make_cells(grid: Grid, classes: IntArray | None = None) -> dict[str, Any]:
    """Returns cells as a GeoJSON FeatureCollection; the `id` of a feature is its class."""
    chosen = np.arange(grid.num_cells) if classes is None else classes
    rings = grid.outlines_deg(grid.kept[chosen])
    features = [
        {"type": "Feature", "id": int(number), "properties": {}, "geometry": _to_polygon(ring)}
        for number, ring in zip(chosen, rings, strict=True)
    ]
    return {"type": "FeatureCollection", "features": features}


def compute_bounds(region: Region) -> list[list[float]]:
    """Returns the bounds of the land in Leaflet's order, [[south, west], [north, east]], in degrees."""
    west, south, east, north = region.land_deg.bounds
    return [[south, west], [north, east]]


def _to_polygon(ring_deg: FloatArray) -> dict[str, Any]:
    """Converts a closed ring, (V, 2) degrees, to GeoJSON; across the date line it continues beyond 180 degrees."""
    longitude = np.unwrap(ring_deg[:, 1], period=360.0)
    points = np.round(np.stack((longitude, ring_deg[:, 0]), axis=-1), DIGITS)
    return {"type": "Polygon", "coordinates": [points.tolist()]}


def _round(value: Any) -> Any:
    """Rounds numbers in nested sequences to `DIGITS` decimals."""
    return round(float(value), DIGITS) if isinstance(value, float | int) else [_round(item) for item in value]
