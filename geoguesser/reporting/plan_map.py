"""The picture of a plan: where points are planned, where places exist already, and what the points lie near to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from geoguesser.collecting.planning.layers import Layer
from geoguesser.geo.distance import FloatArray
from geoguesser.geo.region import Region
from geoguesser.reporting.maps import (
    add_legend,
    capitalise,
    choose_dot_size_pt,
    make_dot_handle,
    make_sheet,
    set_map,
)
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import BLUE, ORANGE, PURPLE, add_header, picture
from geoguesser.system.text import format_count

STEP_DEG = 0.1  # a layer's lines are straight in degrees, and bent on the map
MAX_LINES = 200_000  # of a layer; of more, every n-th is drawn


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
    """Draws a plan over the land.

    Args:
        path: The PNG to write.
        region: The land.
        planned_deg: (N, 2) the points, N from 0.
        existing_deg: (M, 2) places that exist already.
        layer: What the points were to be near to.
        title: The heading; `Plan for` the region where it is empty.
        report: What the strategy said, for the line under the heading.
    """
    frame = make_projection(region)
    planned = frame.project(np.asarray(planned_deg, dtype=np.float64).reshape(-1, 2))
    existing = np.zeros((0, 2)) if existing_deg is None else frame.project(existing_deg)
    ends = np.concatenate((planned, existing))
    low_high = np.array(frame.land.bounds).reshape(2, 2)
    bounds = frame.bounds(ends if len(ends) else low_high, [])
    sheet = make_sheet(bounds, frame.stretch)
    with picture(path, sheet.height) as figure:
        add_header(figure, title or f"Plan for {capitalise(region.name)}", describe_plan(len(planned), report))
        axes = set_map(figure, sheet.map, frame, bounds)
        size = choose_dot_size_pt(len(ends))
        handles = [
            *_draw_dots(axes, planned, BLUE, size, "planned point"),
            *_draw_dots(axes, existing, ORANGE, size, "existing place"),
            *_draw_layer(axes, frame, layer),
        ]
        add_legend(figure, sheet, handles)


def describe_plan(count: int, report: dict[str, Any] | None) -> str:
    """The line under the heading: how many points of how many, by which strategy, how far apart, near to what."""
    if report is None:
        return format_count(count, "point")
    words = [f"{count:,} of {report['asked']:,} points, strategy={report['strategy']}"]
    if report["spacing_m"]:
        words.append(f"at least {report['spacing_m']:,g} m apart")
    if report["near"]:
        words.append(f"within {report['near_m']:,g} m of {Path(report['near']).name}")
    return ", ".join(words)


def _draw_dots(axes: Axes, xy: FloatArray, colour: str, size_pt: float, name: str) -> list[Artist]:
    if not len(xy):
        return []
    alpha = 0.9 if len(xy) < 5000 else 0.6
    axes.plot(*xy.T, "o", ms=size_pt, mew=0, color=colour, alpha=alpha, zorder=5)
    return [make_dot_handle(colour, f"{len(xy):,} {name}{'' if len(xy) == 1 else 's'}")]


def _draw_layer(axes: Axes, frame: MapProjection, layer: Layer | None) -> list[Artist]:
    """Lines and outlines; points of a layer as crosses. What lies off the map is cut at its edge."""
    if layer is None:
        return []
    west, east, south, north = (*axes.get_xlim(), *axes.get_ylim())
    kinds = shapely.get_type_id(layer.parts)
    points = shapely.get_coordinates(layer.parts[kinds == shapely.GeometryType.POINT])[:, ::-1]
    others = layer.parts[kinds != shapely.GeometryType.POINT]
    followed = shapely.segmentize(_thinned(_lines(others)), STEP_DEG)
    lines = [np.asarray(line.coords)[:, ::-1] for line in followed]
    look: dict[str, Any] = {"color": PURPLE, "lw": 0.6}
    if lines:
        drawn = [frame.project(line) for line in lines]
        axes.add_collection(LineCollection(drawn, colors=PURPLE, lw=0.6, zorder=4), autolim=False)
    if len(points):
        look |= {"ls": "" if not lines else "-", "marker": "+", "ms": 4}
        axes.plot(*frame.project(points).T, ls="", marker="+", ms=4, mew=0.6, color=PURPLE, zorder=4)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    count = len(layer.parts)
    return [Line2D([], [], **look, label=f"layer, {count:,} part{'' if count == 1 else 's'}")]


def _lines(parts: Any) -> Any:
    """Lines as they are and the rings of polygons."""
    areas = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    return np.concatenate((parts[~areas], shapely.get_rings(parts[areas])))


def _thinned(lines: Any) -> Any:
    return lines[:: max(1, -(-len(lines) // MAX_LINES))]
