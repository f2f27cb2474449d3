"""Maps that can be moved: Leaflet, which comes with the package, and what it draws, as GeoJSON. No tiles.

Leaflet 1.9.4 (BSD-2-Clause) lies in reporting/leaflet/ as its npm package has it. Longitudes may pass 180 degrees
here, so that an outline which crosses the date line stays in one piece.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from geoguesser.geo.cells.square import IntArray
from geoguesser.geo.distance import FloatArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region

DIGITS = 4  # of a degree: 11 m
FINEST_DEG = 0.0005  # 55 m: what no map of a country shows


@cache
def load_leaflet() -> tuple[str, str]:
    """Leaflet's script and its style sheet, as text that asks for no other file."""
    folder = files("geoguesser.reporting") / "leaflet"
    script = (folder / "leaflet.js").read_text(encoding="utf-8")
    style = (folder / "leaflet.css").read_text(encoding="utf-8")
    return re.sub(r"\n//# sourceMappingURL=.*", "\n", script), re.sub(r"url\([^)]*\)", "none", style)


def make_outline(region: Region, *, most_points: int = 10_000) -> dict[str, Any]:
    """The region's land as a GeoJSON geometry in degrees, simplified until it has few enough points to move fast.

    Each of its polygons stays valid; neighbouring ones (countries of the world) may come to overlap a little.

    Args:
        region: The land.
        most_points: How many vertices it may have; small islands go first.
    """
    parts = shapely.get_parts(region.land_deg)
    count = int(shapely.get_num_coordinates(parts).sum())
    tolerance_deg = FINEST_DEG * max(1.0, count / (4 * most_points))
    while count > most_points:
        simple = shapely.simplify(parts, tolerance_deg)  # one by one: all at once takes minutes for the world
        large = simple[shapely.area(simple) > (2 * tolerance_deg) ** 2]
        parts = large if len(large) else np.array([shapely.envelope(region.land_deg)])
        count = int(shapely.get_num_coordinates(parts).sum())
        tolerance_deg *= 1.25
    simplified: Any = shapely.multipolygons(parts)
    return _rounded(dict(mapping(simplified)))


def make_cells(grid: Grid, classes: IntArray | None = None) -> dict[str, Any]:
    """Cells as a GeoJSON FeatureCollection; a feature's `id` is its class.

    Args:
        grid: The fitted grid.
        classes: (M,) which; None for all.
    """
    chosen = np.arange(grid.num_cells) if classes is None else classes
    rings = grid.outlines_deg(grid.kept[chosen])
    features = [
        {"type": "Feature", "id": int(number), "properties": {}, "geometry": _polygon(ring)}
        for number, ring in zip(chosen, rings, strict=True)
    ]
    return {"type": "FeatureCollection", "features": features}


def compute_bounds(region: Region) -> list[list[float]]:
    """[[south, west], [north, east]] of the land, as Leaflet wants it."""
    west, south, east, north = region.land_deg.bounds
    return [[south, west], [north, east]]


def _polygon(ring_deg: FloatArray) -> dict[str, Any]:
    """(V, 2) degrees of a closed ring; one that crosses the date line goes on beyond 180 degrees."""
    longitude = np.unwrap(ring_deg[:, 1], period=360.0)
    points = np.round(np.stack((longitude, ring_deg[:, 0]), axis=-1), DIGITS)
    return {"type": "Polygon", "coordinates": [points.tolist()]}


def _rounded(geometry: dict[str, Any]) -> dict[str, Any]:
    def of(value: Any) -> Any:
        return round(float(value), DIGITS) if isinstance(value, float | int) else [of(one) for one in value]

    return {"type": geometry["type"], "coordinates": of(geometry["coordinates"])}
