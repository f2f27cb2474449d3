"""Narrow maps that explain a run: posterior of a place, mean error by square, and confusion of cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.data.images import LUMA_WEIGHTS
from geoguesser.evaluation.error_budget import find_touching_cells
from geoguesser.geo.cells.base import Cells
from geoguesser.geo.cells.factory import make_cells_by_count
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.reporting import style
from geoguesser.reporting.maps import ERROR_COLOURS, compute_narrow_box, set_map
from geoguesser.reporting.projections import MapProjection, make_projection

# Height of the strip with the colour bar below a map.
BAR_IN = 0.62
POSTERIOR_COLOURS = matplotlib.colormaps["YlOrRd"]
MIN_SQUARES, MAX_SQUARES, PLACES_PER_SQUARE = 9, 60, 6
MAX_ARCS = 25


def draw_bar_below(
    figure: Figure, colours: ScalarMappable, label: str, *, extend: str = "neither", percent: bool = False
) -> None:
    """Draws the colour bar of a map in the strip below it."""
    box = (0.3, 0.38, style.NARROW_WIDTH_IN - 0.6, 0.13)
    formatter = PercentFormatter(1.0, decimals=None) if percent else None
    bar = style.add_colour_bar(figure, box, colours, extend=extend, formatter=formatter)
    bar.ax.tick_params(labelsize=7.5)

    x, y = 1 - 0.3 / style.NARROW_WIDTH_IN, 0.54 / figure.get_size_inches()[1]
    figure.text(x, y, label, fontsize=8, ha="right", va="bottom")


def make_posterior_rings(
    projection: MapProjection, grid: Grid, posterior: FloatArray
) -> list[tuple[int, FloatArray]]:
    """Returns classes with their outlines in drawing units; cells below 1 % of the maximum are omitted."""
    shown = np.flatnonzero(posterior >= posterior.max() / 100)
    outlines = zip(shown, grid.outlines_deg(grid.kept[shown]), strict=True)
    return [(int(index), ring) for index, outline in outlines for ring in projection.project_rings(outline)]


def add_posterior(axes: Axes, rings: list[tuple[int, FloatArray]], posterior: FloatArray) -> ScalarMappable:
    """Draws cells, given by `make_posterior_rings`, coloured by their probability; returns the colours."""
    colours = ScalarMappable(Normalize(0.0, float(posterior.max())), POSTERIOR_COLOURS)
    faces = [colours.to_rgba(posterior[index]) for index, _ in rings]
    look: dict[str, Any] = {"facecolors": faces, "edgecolors": "#B08A5A", "lw": 0.3, "zorder": 2}
    axes.add_collection(PolyCollection([ring for _, ring in rings], **look), autolim=False)
    return colours


def add_points(
    axes: Axes, projection: MapProjection, true_deg: FloatArray, predicted_deg: FloatArray, size_pt: float = 12
) -> None:
    """Draws a star at the true point, a cross at the predicted point, and the line between them."""
    lasts, firsts, _ = projection.project_lines(true_deg[None], predicted_deg[None])
    lines = LineCollection([*lasts, *firsts], colors=style.INK, lw=0.9, ls=(0, (3, 2)), zorder=6)
    axes.add_collection(lines, autolim=False)

    true_xy, predicted_xy = projection.project(np.stack((true_deg, predicted_deg)))
    axes.plot(*predicted_xy, "X", ms=0.75 * size_pt, color=style.BLUE, mec="white", mew=0.9, zorder=7)
    axes.plot(*true_xy, "*", ms=size_pt, color=style.INK, mec="white", mew=0.9, zorder=8)


@dataclass(frozen=True)
class ErrorFields:
    """Mean errors of the places in each square of the land.

    Attributes:
        ids: (F,) ids of the squares that hold a place.
        places: (F,) number of places in each square.
        error_km: (F,) mean error in each square.
        outside: Number of places outside all squares.
    """

    cells: Cells
    ids: IntArray
    places: IntArray
    error_km: FloatArray
    outside: int


def compute_fields(region: Region, true_deg: FloatArray, error_km: FloatArray) -> ErrorFields:
    """Computes mean errors of (N, 2) places over 9 to 60 squares of the land, about one per six places."""
    count = int(np.clip(len(error_km) // PLACES_PER_SQUARE, MIN_SQUARES, MAX_SQUARES))
    cells = make_cells_by_count(region, count)
    square = cells.locate(region.to_space(true_deg))

    inside = square >= 0
    ids, index, places = np.unique(square[inside], return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=error_km[inside], minlength=len(ids)) / places
    return ErrorFields(cells, ids, places, means, int((~inside).sum()))


def draw_fields(path: Path, *, region: Region, fields: ErrorFields) -> None:
    """Draws the mean error and the number of places of each square."""
    projection = make_projection(region)
    outlines = [region.from_space(outline) for outline in fields.cells.outlines(fields.ids)]
    squares = [projection.project_rings(outline) for outline in outlines]
    points = projection.project(np.concatenate(outlines))
    bounds = projection.bounds(points, [ring for rings in squares for ring in rings])
    box, height = compute_narrow_box(projection, bounds, strip_in=BAR_IN)
    top_km = float(np.percentile(fields.error_km, 95)) or 1.0
    colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)

    with style.narrow_picture(path, height) as figure:
        axes = set_map(figure, box, projection, bounds)
        for rings, places, error_km in zip(squares, fields.places, fields.error_km, strict=True):
            rgba = colours.to_rgba(error_km)
            look: dict[str, Any] = {"edgecolors": "white", "lw": 0.8, "zorder": 4, "alpha": 0.85}
            axes.add_collection(PolyCollection(rings, facecolors=[rgba], **look), autolim=False)

            x, y = ((rings[0].min(axis=0) + rings[0].max(axis=0)) / 2).tolist()
            ink = "white" if np.dot(rgba[:3], LUMA_WEIGHTS) < 0.55 else style.INK
            font: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "zorder": 6, "clip_on": True}
            size_pt = 6 if len(squares) < 45 else 4.5
            axes.text(x, y, f"{error_km:,.0f}\n({places})", fontsize=size_pt, **font)

        extend = "max" if fields.error_km.max() > top_km else "neither"
        draw_bar_below(figure, colours, "mean error in km (places)", extend=extend)


@dataclass(frozen=True)
class Confusion:
    """Pairs of a true cell and a wrong predicted cell.

    Attributes:
        pairs: (P, 2) true and predicted class; most frequent pairs first.
        counts: (P,) number of places of each pair.
        near: (P,) true if the two cells touch.
    """

    pairs: IntArray
    counts: IntArray
    near: BoolArray
    wrong: int
    places: int


def compute_confusion(
    grid: Grid, true_cell: IntArray, predicted_cell: IntArray, *, neighbours: bool = True
) -> Confusion:
    """Counts pairs of a (N,) true cell and a different predicted cell; touching cells only with `neighbours`."""
    wrong = true_cell != predicted_cell
    pairs, counts = np.unique(np.stack((true_cell, predicted_cell), axis=-1)[wrong], axis=0, return_counts=True)
    near = find_touching_cells(grid, *pairs.T) if len(pairs) else np.zeros(0, dtype=bool)

    order = np.argsort(-counts, kind="stable")
    if not neighbours:
        order = order[~near[order]]
    return Confusion(pairs[order], counts[order], near[order], int(wrong.sum()), len(true_cell))


def draw_confusion(path: Path, *, region: Region, grid: Grid, confusion: Confusion) -> None:
    """Draws an arc, wider for more frequent pairs, from the true to the predicted cell of frequent pairs."""
    projection = make_projection(region)
    pairs, counts, near = (values[:MAX_ARCS] for values in (confusion.pairs, confusion.counts, confusion.near))
    rings = [ring for outline in grid.outlines_deg(grid.kept) for ring in projection.project_rings(outline)]
    class_xy = projection.project(grid.class_points_deg)
    bounds = projection.bounds(class_xy, rings)
    box, height = compute_narrow_box(projection, bounds, strip_in=0.3)

    with style.narrow_picture(path, height) as figure:
        axes = set_map(figure, box, projection, bounds)
        axes.add_collection(LineCollection(rings, colors="#BFCBD4", lw=0.4, zorder=2), autolim=False)
        # The most frequent pairs are drawn last, on top.
        for pair, count, touching in reversed(list(zip(pairs, counts, near, strict=True))):
            width_pt = 0.7 + 3.3 * float(count) / float(counts.max())
            colour = style.ORANGE if touching else style.VERMILION
            _draw_arc(axes, projection, grid.class_points_deg[pair], width_pt, colour)
        axes.plot(*class_xy.T, "o", ms=2.0, mew=0, color=style.MUTED, zorder=4)

        labels = {
            style.ORANGE: "neighbouring cells",
            style.VERMILION: "cells apart; arrows from true to predicted",
        }
        handles = [Line2D([], [], color=colour, lw=2, label=label) for colour, label in labels.items()]
        figure.legend(handles=handles, loc="lower left", ncols=2, fontsize=7.5, bbox_to_anchor=(0.01, 0.0))


def _draw_arc(axes: Axes, projection: MapProjection, ends_deg: FloatArray, width_pt: float, colour: str) -> None:
    """Draws an arrow curved to the left; across the date line, two straight pieces."""
    lasts, firsts, _ = projection.project_lines(ends_deg[:1], ends_deg[1:])
    if len(firsts):
        axes.add_collection(LineCollection(list(firsts), colors=colour, lw=width_pt, zorder=5), autolim=False)

    head = f"-|>,head_length={0.25 + 0.08 * width_pt},head_width={0.12 + 0.05 * width_pt}"
    bend = f"arc3,rad={0.0 if len(firsts) else 0.22}"
    look: dict[str, Any] = {"color": colour, "lw": width_pt, "shrinkA": 1, "shrinkB": 2}
    look |= {"arrowstyle": head, "connectionstyle": bend}
    axes.annotate("", lasts[0, 1], lasts[0, 0], arrowprops=look, zorder=5, annotation_clip=False)
