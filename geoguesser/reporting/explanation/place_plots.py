"""Narrow pictures of single places that explain a run: views, predicted point, and activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geoguesser.arrays import ByteArray, FloatArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.model.attribution import EXACT_METHOD
from geoguesser.reporting import style
from geoguesser.reporting.explanation.maps import (
    BAR_IN,
    add_points,
    add_posterior,
    draw_bar_below,
    make_posterior_rings,
)
from geoguesser.reporting.maps import Box, compute_narrow_box, set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.system.text import format_km, shorten

# Initials of the headings 0, 90, 180 and 270 degrees.
COMPASS = "NESW"
GAP_IN = 0.06
SIGNED, UNSIGNED = matplotlib.colormaps["RdBu_r"], matplotlib.colormaps["YlOrRd"]
# Opacity of the strongest activation, so that the view stays visible below it.
MAX_OPACITY = 0.72
# Margin around the points of a small map, as a share of the map of the region or the world.
MIN_MARGIN, MIN_WORLD_MARGIN = 0.08, 0.015

Views = Sequence[ByteArray | None]


@dataclass(frozen=True)
class PlaceImages:
    """Place to be shown; its four views are (H, W, 3) uint8 or None, or None if the images are missing."""

    name: str
    true_deg: FloatArray
    predicted_deg: FloatArray
    error_km: float
    views: Views | None


def add_view(figure: Figure, box: Box, view: ByteArray | None, letter: str) -> Axes:
    """Draws a view, or an empty frame for an absent one, with the letter of its heading."""
    axes = style.add_axes(figure, *box)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(view is None)

    if view is None:
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": style.MUTED, "fontsize": 7}
        axes.text(0.5, 0.5, "no view", transform=axes.transAxes, **look)
    else:
        axes.imshow(view, extent=(0, 1, 0, 1), interpolation="lanczos", aspect="auto")

    font: dict[str, Any] = {"fontsize": 7, "fontweight": "bold", "color": "white", "va": "top", "zorder": 9}
    axes.text(0.05, 0.95, letter, bbox={"boxstyle": "round,pad=0.2", "fc": "#000000A0", "ec": "none"}, **font)
    return axes


def add_views(figure: Figure, left: float, bottom: float, side: float, views: Views | None) -> list[Axes]:
    """Draws four views in a row, in inches from the lower left corner; a text if the images are missing."""
    if views is None:
        axes = style.add_axes(figure, left, bottom, 4 * side + 3 * GAP_IN, side)
        axes.set_axis_off()
        text = "the images of the run are missing"
        axes.text(0.5, 0.5, text, ha="center", va="center", color=style.MUTED, fontsize=8)
        return []

    return [
        add_view(figure, (left + column * (side + GAP_IN), bottom, side, side), view, COMPASS[column])
        for column, view in enumerate(views)
    ]


def draw_posterior(
    path: Path, *, region: Region, grid: Grid | None, posterior: FloatArray | None, place: PlaceImages
) -> None:
    """Draws the views of a place, and below them its posterior, true point (star) and predicted point (cross).

    Without a grid, only the points are drawn.
    """
    projection = make_projection(region)
    rings = [] if grid is None or posterior is None else make_posterior_rings(projection, grid, posterior)
    points = projection.project(np.stack((place.true_deg, place.predicted_deg)))
    bounds = projection.bounds(points, [ring for _, ring in rings])
    box, height = compute_narrow_box(projection, bounds, strip_in=0.0 if posterior is None else BAR_IN)
    side = (style.NARROW_WIDTH_IN - 0.2 - 3 * GAP_IN) / 4

    with style.narrow_picture(path, height + side + 0.15) as figure:
        add_views(figure, 0.1, height + 0.05, side, place.views)
        axes = set_map(figure, box, projection, bounds)
        if posterior is not None:
            colours = add_posterior(axes, rings, posterior)
            draw_bar_below(figure, colours, "probability of a cell", percent=True)
        add_points(axes, projection, place.true_deg, place.predicted_deg)


def _add_bare_map(figure: Figure, box: Box, projection: MapProjection, bounds: FloatArray) -> Axes:
    """Adds a map without scale bar and labels, which do not fit on a small map."""
    axes = set_map(figure, box, projection, bounds)
    for artist in [*axes.texts, *axes.lines]:
        artist.remove()
    return axes


def add_small_map(figure: Figure, box: Box, projection: MapProjection, place: PlaceImages) -> Axes:
    """Draws a map around the true and the predicted point of a place."""
    points = projection.project(np.stack((place.true_deg, place.predicted_deg)))
    region_bounds = projection.bounds(points[:1], [])
    low, high = points.min(axis=0), points.max(axis=0)
    is_world = projection.stretch > 1
    # A line across the date line needs the map of the world.
    if is_world and abs(points[0, 0] - points[1, 0]) > 180:
        low, high = region_bounds[:2], region_bounds[2:]

    min_margin = (MIN_WORLD_MARGIN if is_world else MIN_MARGIN) * (region_bounds[2:] - region_bounds[:2]).max()
    margin = np.array((1.0, 1.0 / projection.stretch)) * max(min_margin, 0.3 * float((high - low).max()))
    axes = _add_bare_map(figure, box, projection, np.concatenate((low - margin, high + margin)))

    axes.set_axis_on()
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    axes.spines[:].set(visible=True, color=style.FAINT)
    add_points(axes, projection, place.true_deg, place.predicted_deg, 8)
    return axes


def draw_extremes(path: Path, *, region: Region, groups: Sequence[tuple[str, Sequence[PlaceImages]]]) -> None:
    """Draws a row per place: its views, and a small map with true point (star) and predicted point (cross).

    `groups` holds headings with their places, for example the best and the worst.
    """
    projection = make_projection(region)
    side = (style.NARROW_WIDTH_IN - 0.2 - 4 * GAP_IN) / 5
    row_in, heading_in = side + 0.28, 0.3
    rows = sum(len(places) for _, places in groups)
    height = rows * row_in + len(groups) * heading_in + 0.1
    left = 0.1 / style.NARROW_WIDTH_IN

    with style.narrow_picture(path, height) as figure:
        y = height - 0.05
        for heading, places in groups:
            y -= heading_in
            figure.text(left, (y + 0.08) / height, heading, fontsize=10, fontweight="bold")
            for place in places:
                text = f"{format_km(place.error_km)}   {shorten(place.name, 44)}"
                figure.text(left, (y - 0.15) / height, text, fontsize=8, color=style.INK)
                y -= row_in
                add_views(figure, 0.1, y + 0.06, side, place.views)
                add_small_map(figure, (0.1 + 4 * (side + GAP_IN), y + 0.06, side, side), projection, place)


def draw_quadruplet(path: Path, *, region: Region, place: PlaceImages) -> None:
    """Draws the four views of a place around the map, each on the side of its heading."""
    projection = make_projection(region)
    side = (style.NARROW_WIDTH_IN - 0.2 - 2 * GAP_IN) / 3
    height = 3 * side + 2 * GAP_IN + 0.2
    step = side + GAP_IN
    # Column and row of the views to north, east, south and west.
    positions = ((1, 2), (2, 1), (1, 0), (0, 1))
    views: Views = [None] * 4 if place.views is None else place.views

    with style.narrow_picture(path, height) as figure:
        for (column, row), view, letter in zip(positions, views, COMPASS, strict=True):
            add_view(figure, (0.1 + column * step, 0.1 + row * step, side, side), view, letter)

        xy = projection.project(place.true_deg[None])
        bounds = projection.bounds(xy, [])
        axes = _add_bare_map(figure, (0.1 + step, 0.1 + step, side, side), projection, bounds)
        axes.set_axis_off()
        axes.plot(*xy[0], "*", ms=13, color=style.VERMILION, mec="white", mew=0.9, zorder=8)
        axes.set_zorder(-1)

        for bottom, text in ((0.1, _format_coords(place.true_deg)), (0.1 + 2 * step, place.name[:8])):
            x, y = 0.1 / style.NARROW_WIDTH_IN, (bottom + side / 2) / height
            figure.text(x, y, text, fontsize=8, color=style.MUTED, va="center")


def _format_coords(coords_deg: FloatArray) -> str:
    latitude, longitude = map(float, coords_deg)
    north, east = "S" if latitude < 0 else "N", "W" if longitude < 0 else "E"
    return f"{abs(latitude):.4f}° {north}\n{abs(longitude):.4f}° {east}"


def overlay_activation(maps: FloatArray, method: str, px: int) -> FloatArray:
    """Returns (4, h, w) activation maps as colours, (4, px, px, 4) RGBA from 0 to 1, on one scale for all views.

    Opacity is 0 for zero and `MAX_OPACITY` for the strongest activation.
    """
    top = float(np.abs(maps).max()) or 1.0
    resized = [cv2.resize(values.astype(np.float32), (px, px), interpolation=cv2.INTER_LINEAR) for values in maps]
    share = np.clip(np.stack(resized) / top, -1.0, 1.0)

    is_signed = method == EXACT_METHOD
    colours: FloatArray = SIGNED((share + 1) / 2) if is_signed else UNSIGNED(0.25 + 0.75 * np.abs(share))
    # The square root keeps weak activations visible.
    colours[..., 3] = MAX_OPACITY * np.sqrt(np.abs(share))
    return colours


def draw_activation(
    path: Path,
    *,
    place: PlaceImages,
    maps: FloatArray,
    method: str,
    share: FloatArray,
    moved_km: FloatArray,
    bars: str,
) -> None:
    """Draws the views of a place, their activation for the predicted cell, and the contribution of each view.

    `maps` are (4, h, w). `share`, described by `bars`, and `moved_km` are (4,): contribution of a view to the
    score of the cell, and shift of the predicted point without it; NaN for an absent view.
    """
    views: Views = [None] * 4 if place.views is None else place.views
    side = (style.NARROW_WIDTH_IN - 0.2 - 3 * GAP_IN) / 4
    bars_in = 0.85
    height = 2 * side + GAP_IN + bars_in + 0.55

    with style.narrow_picture(path, height) as figure:
        add_views(figure, 0.1, height - 0.05 - side, side, views)
        below = add_views(figure, 0.1, height - 0.05 - 2 * side - GAP_IN, side, views)
        for axes, view, colours in zip(below, views, overlay_activation(maps, method, 160), strict=True):
            if view is not None:
                axes.imshow(colours, extent=(0, 1, 0, 1), interpolation="bilinear", aspect="auto", zorder=3)

        _draw_bars(style.add_axes(figure, 0.1, 0.42, style.NARROW_WIDTH_IN - 0.2, bars_in), share, moved_km)
        text = f"bars: {bars}; km: shift of the predicted point without it"
        figure.text(0.1 / style.NARROW_WIDTH_IN, 0.05 / height, text, fontsize=6.5)


def _draw_bars(axes: Axes, share: FloatArray, moved_km: FloatArray) -> None:
    values = np.nan_to_num(share)
    axes.bar(range(4), values, width=0.55, color=np.where(values > 0, style.VERMILION, style.BLUE).tolist())
    axes.axhline(0.0, color=style.MUTED, lw=0.8)

    # Space for the numbers above and below the bars.
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    margin = 0.35 * ((high - low) or 1.0)
    axes.axis((-0.5, 3.5, low - margin, high + margin))
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)

    for column, value in enumerate(share):
        if np.isfinite(value):
            side = "bottom" if value > 0 else "top"
            axes.text(column, value, f"{value:+.2f}", ha="center", va=side, fontsize=8)
    distances = [format_km(km) if np.isfinite(km) else "–" for km in moved_km]
    labels = [f"{letter}: {distance}" for letter, distance in zip(COMPASS, distances, strict=True)]
    axes.set_xticks(range(4), labels, fontsize=8)
    axes.tick_params(length=0)
