"""Map of a plan: planned points, existing places and the layer that the points lie near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from geoguesser.arrays import FloatArray
from geoguesser.collecting.planning.layers import Layer
from geoguesser.geo.region import Region
from geoguesser.reporting.maps import add_legend, capitalise, choose_dot_size_pt, draw_dots, make_sheet, set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import BLUE, ORANGE, PURPLE, add_header, picture
from geoguesser.system.text import format_count

# A layer's lines are straight in degrees and bent in the projection, so that they need points in between.
STEP_DEG = 0.1
# If a layer has more lines, every n-th line is drawn.
MAX_LINES = 200_000


def draw_plan(
    path: Path,
    *,
    region: Region,
    planned_deg: FloatArray,
    existing_deg: FloatArray | None = None,
    layer: Layer | None = None,
    title: str = "",
    report: dict[str, Any] | None = None,
) -> None:
    """Draws planned points, (N, 2) in degrees where N may be 0, existing places, and the layer they lie near.

    The subtitle is taken from the report of the strategy. The default title is `Plan for` and the region's name.
    """
    projection = make_projection(region)
    planned = projection.project(np.asarray(planned_deg, dtype=np.float64).reshape(-1, 2))
    existing = np.zeros((0, 2)) if existing_deg is None else projection.project(existing_deg)

    points = np.concatenate((planned, existing))
    land_corners = np.array(projection.land.bounds).reshape(2, 2)
    bounds = projection.bounds(points if len(points) else land_corners, [])
    sheet = make_sheet(bounds, projection.stretch)

    with picture(path, sheet.height) as figure:
        add_header(figure, title or f"Plan for {capitalise(region.name)}", describe_plan(len(planned), report))
        axes = set_map(figure, sheet.map, projection, bounds)
        handles: list[Artist] = []
        for xy, colour, name in ((planned, BLUE, "planned point"), (existing, ORANGE, "existing place")):
            look = {"ms": choose_dot_size_pt(len(points)), "alpha": 0.9 if len(xy) < 5000 else 0.6, "zorder": 5}
            handles += draw_dots(axes, xy, colour, name, **look)
        handles += _draw_layer(axes, projection, layer)
        add_legend(figure, sheet, handles)


def describe_plan(count: int, report: dict[str, Any] | None) -> str:
    """Returns the subtitle: number of points, strategy, spacing, and the layer that the points lie near."""
    if report is None:
        return format_count(count, "point")

    parts = [f"{count:,} of {report['asked']:,} points, strategy={report['strategy']}"]
    if report["spacing_m"]:
        parts.append(f"at least {report['spacing_m']:,g} m apart")
    if report["near"]:
        parts.append(f"within {report['near_m']:,g} m of {Path(report['near']).name}")
    return ", ".join(parts)


def _draw_layer(axes: Axes, projection: MapProjection, layer: Layer | None) -> list[Artist]:
    if layer is None:
        return []
    limits = axes.axis()
    kinds = shapely.get_type_id(layer.parts)
    polygons = kinds == shapely.GeometryType.POLYGON
    is_point = kinds == shapely.GeometryType.POINT
    points = shapely.get_coordinates(layer.parts[is_point])[:, ::-1]
    lines = np.concatenate((layer.parts[~polygons & ~is_point], shapely.get_rings(layer.parts[polygons])))
    look: dict[str, Any] = {"color": PURPLE, "lw": 0.6}

    if len(lines):
        lines = lines[:: max(1, -(-len(lines) // MAX_LINES))]
        dense = shapely.segmentize(lines, STEP_DEG)
        paths = [projection.project(np.asarray(line.coords)[:, ::-1]) for line in dense]
        axes.add_collection(LineCollection(paths, colors=PURPLE, lw=0.6, zorder=4), autolim=False)
    if len(points):
        look |= {"ls": "-" if len(lines) else "", "marker": "+", "ms": 4}
        axes.plot(*projection.project(points).T, ls="", marker="+", ms=4, mew=0.6, color=PURPLE, zorder=4)

    # A layer may extend beyond the map, which keeps its limits.
    axes.axis(limits)
    return [Line2D([], [], **look, label=f"layer, {format_count(len(layer.parts), 'part')}")]
