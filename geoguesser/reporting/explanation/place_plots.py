"""Pictures of single places that explain a run: their views, where the model puts them, and what it looked at.

Narrow and without a heading, as those of a comparison: a page shows them, with words of its own.
"""

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
from geoguesser.model.attribution import EXACT
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.explanation.maps import (
    BAR_IN,
    add_colour_bar,
    add_points,
    add_posterior,
    compute_map_box,
    make_posterior_rings,
)
from geoguesser.reporting.maps import set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import BLUE, FAINT, INK, MUTED, VERMILION, add_axes, picture
from geoguesser.system.text import format_km, shorten

COMPASS = "NESW"  # by heading
GAP_IN = 0.06
SIGNED, UNSIGNED = matplotlib.colormaps["RdBu_r"], matplotlib.colormaps["YlOrRd"]
MAX_OPACITY = 0.72  # of an overlay: how far it may hide the view
MIN_AROUND, MIN_AROUND_WORLD = 0.08, 0.015  # of the whole map: what a small one shows around its points

Views = Sequence[ByteArray | None]


@dataclass(frozen=True)
class PlaceImages:
    """A place to be shown.

    Attributes:
        name: Its id, shortened where it is long.
        true_deg: (2,) where it is.
        answer_deg: (2,) where the model puts it.
        error_km: How far apart these are.
        views: Its four views; None where they are no longer there.
    """

    name: str
    true_deg: FloatArray
    answer_deg: FloatArray
    error_km: float
    views: Views | None


def add_view(figure: Figure, box: tuple[float, float, float, float], view: ByteArray | None, letter: str) -> Axes:
    """One view, or an empty frame where there is none, with the letter of its heading."""
    axes = add_axes(figure, *box)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(view is None)
    if view is None:
        axes.text(0.5, 0.5, "no view", transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=7)
    else:
        axes.imshow(view, extent=(0, 1, 0, 1), interpolation="lanczos", aspect="auto")
    sign: dict[str, Any] = {"fontsize": 7, "fontweight": "bold", "color": "white", "va": "top", "zorder": 9}
    axes.text(0.05, 0.95, letter, bbox={"boxstyle": "round,pad=0.2", "fc": "#000000A0", "ec": "none"}, **sign)
    return axes


def add_views(figure: Figure, left: float, bottom: float, side: float, views: Views | None) -> list[Axes]:
    """Four views in a row, in inches from the lower left; a line that says so where they are gone."""
    if views is None:
        axes = add_axes(figure, left, bottom, 4 * side + 3 * GAP_IN, side)
        axes.set_axis_off()
        gone = "the views are no longer where the run's data were"
        axes.text(0.5, 0.5, gone, ha="center", va="center", color=MUTED, fontsize=8)
        return []
    return [
        add_view(figure, (left + at * (side + GAP_IN), bottom, side, side), view, COMPASS[at])
        for at, view in enumerate(views)
    ]


def draw_posterior(
    path: Path, *, region: Region, grid: Grid | None, posterior: FloatArray | None, sight: PlaceImages
) -> None:
    """Draws a place's views, and below how probable each cell is, where it is (star) and the answer (cross).

    Args:
        path: The PNG to write.
        region: The land.
        grid: The cells; None for a head without, whose answer alone is drawn.
        posterior: (K,) probabilities of the place; None likewise.
        sight: The place.
    """
    frame = make_projection(region)
    rings = [] if grid is None or posterior is None else make_posterior_rings(frame, grid, posterior)
    bounds = frame.bounds(frame.project(np.stack((sight.true_deg, sight.answer_deg))), [one for _, one in rings])
    box, height = compute_map_box(frame, bounds, 0.0 if posterior is None else BAR_IN)
    side = (WIDTH_IN - 0.2 - 3 * GAP_IN) / 4
    with picture(path, height + side + 0.15, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        add_views(figure, 0.1, height + 0.05, side, sight.views)
        axes = set_map(figure, box, frame, bounds)
        if posterior is not None:
            add_colour_bar(figure, add_posterior(axes, rings, posterior), "probability of a cell", percent=True)
        add_points(axes, frame, sight.true_deg, sight.answer_deg)


def add_small_map(
    figure: Figure, box: tuple[float, float, float, float], frame: MapProjection, sight: PlaceImages
) -> Axes:
    """A map around a place and its answer."""
    points = frame.project(np.stack((sight.true_deg, sight.answer_deg)))
    whole = frame.bounds(points[:1], [])
    low, high = points.min(axis=0), points.max(axis=0)
    if frame.stretch > 1 and abs(points[0, 0] - points[1, 0]) > 180:  # over the date line: the whole world
        low, high = whole[:2], whole[2:]
    around = (MIN_AROUND_WORLD if frame.stretch > 1 else MIN_AROUND) * (whole[2:] - whole[:2]).max()
    reach = np.array((1.0, 1.0 / frame.stretch)) * max(around, 0.3 * float((high - low).max()))
    bounds = np.concatenate((low - reach, high + reach))
    axes = set_map(figure, box, frame, bounds)
    for name in ("xaxis", "yaxis"):  # a degree or a scale bar would not fit
        getattr(axes, name).set_visible(False)
    for extra in [*axes.texts, *axes.lines]:
        extra.remove()
    axes.set_axis_on()
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(FAINT)
    add_points(axes, frame, sight.true_deg, sight.answer_deg, 8)
    return axes


def draw_extremes(path: Path, *, region: Region, groups: Sequence[tuple[str, Sequence[PlaceImages]]]) -> None:
    """Draws places with their views, a row each, and a small map with the place (star) and the answer (cross).

    Args:
        path: The PNG to write.
        region: The land.
        groups: Heading and places, such as the best and the worst.
    """
    frame = make_projection(region)
    side = (WIDTH_IN - 0.2 - 4 * GAP_IN) / 5
    row_in, head_in = side + 0.28, 0.3
    rows = sum(len(sights) for _, sights in groups)
    height = rows * row_in + len(groups) * head_in + 0.1
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        top = height - 0.05
        for heading, sights in groups:
            top -= head_in
            figure.text(0.1 / WIDTH_IN, (top + 0.08) / height, heading, fontsize=10, fontweight="bold")
            for sight in sights:
                words = f"{format_km(sight.error_km)}   {shorten(sight.name, 44)}"
                figure.text(0.1 / WIDTH_IN, (top - 0.15) / height, words, fontsize=8, color=INK)
                top -= row_in
                add_views(figure, 0.1, top + 0.06, side, sight.views)
                add_small_map(figure, (0.1 + 4 * (side + GAP_IN), top + 0.06, side, side), frame, sight)


def draw_quadruplet(path: Path, *, region: Region, sight: PlaceImages) -> None:
    """Draws the four views of a place around the map, each on the side that it looks to.

    Args:
        path: The PNG to write.
        region: The land.
        sight: The place, with its views.
    """
    side = (WIDTH_IN - 0.2 - 2 * GAP_IN) / 3
    step, frame = side + GAP_IN, make_projection(region)
    spots = ((1, 2), (2, 1), (1, 0), (0, 1))  # column and row of north, east, south, west
    views: Views = [None] * 4 if sight.views is None else sight.views
    with picture(path, 3 * side + 2 * GAP_IN + 0.2, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        for (column, row), view, letter in zip(spots, views, COMPASS, strict=True):
            add_view(figure, (0.1 + column * step, 0.1 + row * step, side, side), view, letter)
        middle = PlaceImages(sight.name, sight.true_deg, sight.true_deg, 0.0, None)
        axes = _whole_map(figure, (0.1 + step, 0.1 + step, side, side), frame, middle)
        axes.set_zorder(-1)
        for at, text in (((0.1, 0.1), _degrees(sight.true_deg)), ((0.1, 0.1 + 2 * step), sight.name[:8])):
            where = (at[0] / WIDTH_IN, (at[1] + side / 2) / (3 * side + 2 * GAP_IN + 0.2))
            figure.text(*where, text, fontsize=8, color=MUTED, va="center")


def _whole_map(
    figure: Figure, box: tuple[float, float, float, float], frame: MapProjection, sight: PlaceImages
) -> Axes:
    axes = set_map(figure, box, frame, frame.bounds(frame.project(sight.true_deg[None]), []))
    for extra in [*axes.texts, *axes.lines]:
        extra.remove()
    axes.set_axis_off()
    axes.plot(*frame.project(sight.true_deg[None])[0], "*", ms=13, color=VERMILION, mec="white", mew=0.9, zorder=8)
    return axes


def _degrees(coords_deg: FloatArray) -> str:
    latitude, longitude = map(float, coords_deg)
    north, east = "S" if latitude < 0 else "N", "W" if longitude < 0 else "E"
    return f"{abs(latitude):.4f}° {north}\n{abs(longitude):.4f}° {east}"


def overlay_activation(maps: FloatArray, method: str, px: int) -> FloatArray:
    """(4, h, w) activation maps -> (4, px, px, 4) colours to lay over the views, all on one scale.

    What is strongest anywhere hides `MAX_OPACITY` of the view, what is zero nothing.
    """
    top = float(np.abs(maps).max()) or 1.0
    large = np.stack(
        [cv2.resize(one.astype(np.float32), (px, px), interpolation=cv2.INTER_LINEAR) for one in maps]
    )
    share = np.clip(large / top, -1.0, 1.0)
    colours: FloatArray = SIGNED((share + 1) / 2) if method == EXACT else UNSIGNED(0.25 + 0.75 * np.abs(share))
    colours[..., 3] = MAX_OPACITY * np.sqrt(np.abs(share))
    return colours


def draw_activation(
    path: Path,
    *,
    sight: PlaceImages,
    maps: FloatArray,
    method: str,
    share: FloatArray,
    moved_km: FloatArray,
    bars: str,
) -> None:
    """Draws a place's views, what in them spoke for the answered cell, and what each had to do with the answer.

    Args:
        path: The PNG to write.
        sight: The place, with its views.
        maps: (4, h, w) as `attribution.activation` gives them.
        method: `CAM` or `Grad-CAM`.
        share: (4,) what each view adds to the score of the cell; NaN where it is not known.
        moved_km: (4,) how far the answer moves without each view; NaN likewise.
        bars: What `share` is.
    """
    views: Views = [None] * 4 if sight.views is None else sight.views
    side = (WIDTH_IN - 0.2 - 3 * GAP_IN) / 4
    bars_in = 0.85
    height = 2 * side + GAP_IN + bars_in + 0.55
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        add_views(figure, 0.1, height - 0.05 - side, side, views)
        below = add_views(figure, 0.1, height - 0.05 - 2 * side - GAP_IN, side, views)
        for axes, view, colours in zip(below, views, overlay_activation(maps, method, 160), strict=True):
            if view is not None:
                axes.imshow(colours, extent=(0, 1, 0, 1), interpolation="bilinear", aspect="auto", zorder=3)
        _draw_bars(add_axes(figure, 0.1, 0.42, WIDTH_IN - 0.2, bars_in), share, moved_km)
        words = f"bars: {bars}; km: how far the answer moves without it"
        figure.text(0.1 / WIDTH_IN, 0.05 / height, words, fontsize=6.5)


def _draw_bars(axes: Axes, share: FloatArray, moved_km: FloatArray) -> None:
    known = np.nan_to_num(share)
    axes.bar(range(4), known, width=0.55, color=[VERMILION if one > 0 else BLUE for one in known])
    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set_xlim(-0.5, 3.5)
    low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
    room = 0.35 * ((high - low) or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for at, value in enumerate(share):
        if np.isfinite(value):
            side = "bottom" if value > 0 else "top"
            axes.text(at, value, f"{value:+.2f}", ha="center", va=side, fontsize=8)
    labels = [f"{COMPASS[at]}: {format_km(km) if np.isfinite(km) else '–'}" for at, km in enumerate(moved_km)]
    axes.set_xticks(range(4), labels, fontsize=8)
    axes.tick_params(length=0)
