"""Maps that explain a run: the posterior of a place, error by part of the land, which cells are taken for which.

As those of a comparison they are narrow and bear no heading: a page shows them, with words of its own.
"""

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
from matplotlib.ticker import FuncFormatter, PercentFormatter

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.evaluation.error_budget import find_touching_cells
from geoguesser.geo.cells.factory import make_cells_by_count
from geoguesser.geo.cells.square import Cells
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.maps import ERROR_COLOURS, set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import BLUE, INK, MUTED, ORANGE, VERMILION, add_axes, picture
from geoguesser.system.text import format_number

BAR_IN = 0.62  # below a map: its colours
POSTERIOR_COLOURS = matplotlib.colormaps["YlOrRd"]
MIN_FIELDS, MAX_FIELDS, PLACES_IN_FIELD = 9, 60, 6
MAX_ARCS = 25


def compute_map_box(
    frame: MapProjection, bounds: FloatArray, below: float
) -> tuple[tuple[float, float, float, float], float]:
    """The box of a map in inches over a strip of `below` inches, and the height of the whole picture."""
    west, south, east, north = bounds
    left, foot = (0.55, 0.3) if frame.stretch > 1 else (0.1, 0.42)  # room for degrees, or for the scale bar
    across = WIDTH_IN - left - 0.1
    up = float(np.clip(across * (north - south) * frame.stretch / (east - west), 1.8, 5.5))
    return (left, foot + below, across, up), up + foot + below + 0.1


def add_colour_bar(
    figure: Figure, colours: ScalarMappable, label: str, *, extend: str = "neither", percent: bool = False
) -> None:
    """The colours of a map along its foot."""
    axes = add_axes(figure, 0.3, 0.38, WIDTH_IN - 0.6, 0.13)
    form = PercentFormatter(1.0, decimals=None) if percent else FuncFormatter(format_number)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", extend=extend, format=form)
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    bar.ax.tick_params(labelsize=7.5)
    figure.text(1 - 0.3 / WIDTH_IN, 0.54 / figure.get_size_inches()[1], label, fontsize=8, ha="right", va="bottom")


def make_posterior_rings(frame: MapProjection, grid: Grid, posterior: FloatArray) -> list[tuple[int, FloatArray]]:
    """Classes with their outlines in drawing units; those below a hundredth of the highest are left out.

    Args:
        frame: How the region lies on a map.
        grid: The cells.
        posterior: (K,) probabilities.
    """
    shown = np.flatnonzero(posterior >= posterior.max() / 100)
    outlines = zip(shown, grid.outlines_deg(grid.kept[shown]), strict=True)
    return [(int(number), drawn) for number, ring in outlines for drawn in frame.rings(ring)]


def add_posterior(axes: Axes, rings: list[tuple[int, FloatArray]], posterior: FloatArray) -> ScalarMappable:
    """Colours cells, as `make_posterior_rings` gives them, by their probability."""
    colours = ScalarMappable(Normalize(0.0, float(posterior.max())), POSTERIOR_COLOURS)
    faces = [colours.to_rgba(posterior[number]) for number, _ in rings]
    look: dict[str, Any] = {"facecolors": faces, "edgecolors": "#B08A5A", "lw": 0.3, "zorder": 2}
    axes.add_collection(PolyCollection([ring for _, ring in rings], **look), autolim=False)
    return colours


def add_points(
    axes: Axes, frame: MapProjection, true_deg: FloatArray, answer_deg: FloatArray, size_pt: float = 12
) -> None:
    """A star where a place is, a cross where the model puts it, and the line between them."""
    lasts, firsts, _ = frame.lines(true_deg[None], answer_deg[None])
    ways = LineCollection([*lasts, *firsts], colors=INK, lw=0.9, ls=(0, (3, 2)), zorder=6)
    axes.add_collection(ways, autolim=False)
    true_xy, answer_xy = frame.project(np.stack((true_deg, answer_deg)))
    axes.plot(*answer_xy, "X", ms=0.75 * size_pt, color=BLUE, mec="white", mew=0.9, zorder=7)
    axes.plot(*true_xy, "*", ms=size_pt, color=INK, mec="white", mew=0.9, zorder=8)


@dataclass(frozen=True)
class ErrorFields:
    """Mean errors by part of the land.

    Attributes:
        cells: The raster.
        ids: (F,) its fields that hold a place.
        places: (F,) how many each holds.
        error_km: (F,) their mean error.
        outside: How many places lie in none.
    """

    cells: Cells
    ids: IntArray
    places: IntArray
    error_km: FloatArray
    outside: int


def compute_fields(region: Region, true_deg: FloatArray, error_km: FloatArray) -> ErrorFields:
    """Groups places by squares over the land: about one for six places, from 9 to 60 of them.

    Args:
        region: The land.
        true_deg: (N, 2) where the places are, N at least 1.
        error_km: (N,) their errors.
    """
    size = int(np.clip(len(error_km) // PLACES_IN_FIELD, MIN_FIELDS, MAX_FIELDS))
    cells = make_cells_by_count(region, size)
    own = cells.locate(region.to_space(true_deg))
    inside = own >= 0
    ids, number, places = np.unique(own[inside], return_inverse=True, return_counts=True)
    means = np.bincount(number, weights=error_km[inside], minlength=len(ids)) / places
    return ErrorFields(cells, ids, places, means, int((~inside).sum()))


def draw_fields(path: Path, *, region: Region, fields: ErrorFields) -> None:
    """Draws the mean error of each field, with its number of places.

    Args:
        path: The PNG to write.
        region: The land.
        fields: As `compute_fields` gives them.
    """
    frame = make_projection(region)
    outlines = [region.from_space(ring) for ring in fields.cells.outlines(fields.ids)]
    rings = [frame.rings(ring) for ring in outlines]
    bounds = frame.bounds(frame.project(np.concatenate(outlines)), [one for some in rings for one in some])
    box, height = compute_map_box(frame, bounds, BAR_IN)
    top_km = float(np.percentile(fields.error_km, 95)) or 1.0
    colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = set_map(figure, box, frame, bounds)
        for some, places, error_km in zip(rings, fields.places, fields.error_km, strict=True):
            rgba = colours.to_rgba(error_km)
            look: dict[str, Any] = {
                "facecolors": [rgba],
                "edgecolors": "white",
                "lw": 0.8,
                "zorder": 4,
                "alpha": 0.85,
            }
            axes.add_collection(PolyCollection(some, **look), autolim=False)
            middle = (some[0].min(axis=0) + some[0].max(axis=0)) / 2
            ink = "white" if np.dot(rgba[:3], (0.299, 0.587, 0.114)) < 0.55 else INK
            words: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "zorder": 6, "clip_on": True}
            axes.text(
                float(middle[0]),
                float(middle[1]),
                f"{error_km:,.0f}\n({places})",
                fontsize=6 if len(rings) < 45 else 4.5,
                **words,
            )
        extend = "max" if fields.error_km.max() > top_km else "neither"
        add_colour_bar(figure, colours, "mean error in km (places)", extend=extend)


@dataclass(frozen=True)
class Confusion:
    """Which cells were taken for which.

    Attributes:
        pairs: (P, 2) classes: the true one, the one answered; most frequent first.
        counts: (P,) how often.
        near: (P,) whether the two cells touch.
        wrong: How many places got a wrong cell, in all.
        places: How many places there are.
    """

    pairs: IntArray
    counts: IntArray
    near: np.ndarray[Any, np.dtype[np.bool_]]
    wrong: int
    places: int


def compute_confusion(
    grid: Grid, true_cell: IntArray, answered: IntArray, *, neighbours: bool = True
) -> Confusion:
    """Counts pairs of different cells.

    Args:
        grid: The cells.
        true_cell: (N,) classes.
        answered: (N,) the most probable classes.
        neighbours: Whether cells that touch count.
    """
    wrong = true_cell != answered
    pairs, counts = np.unique(np.stack((true_cell, answered), axis=-1)[wrong], axis=0, return_counts=True)
    near = find_touching_cells(grid, *pairs.T) if len(pairs) else np.zeros(0, dtype=bool)
    order = np.argsort(-counts, kind="stable")
    if not neighbours:
        order = order[~near[order]]
    return Confusion(pairs[order], counts[order], near[order], int(wrong.sum()), len(true_cell))


def draw_confusion(path: Path, *, region: Region, grid: Grid, confusion: Confusion, most: int = MAX_ARCS) -> None:
    """Draws an arc from the true to the answered cell of the most frequent mistakes, as wide as they are frequent.

    Args:
        path: The PNG to write.
        region: The land.
        grid: The cells.
        confusion: As `compute_confusion` gives it.
        most: How many arcs at most.
    """
    frame = make_projection(region)
    pairs, counts, near = (part[:most] for part in (confusion.pairs, confusion.counts, confusion.near))
    rings = [one for ring in grid.outlines_deg(grid.kept) for one in frame.rings(ring)]
    bounds = frame.bounds(frame.project(grid.class_points_deg), rings)
    box, height = compute_map_box(frame, bounds, 0.3)
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = set_map(figure, box, frame, bounds)
        axes.add_collection(LineCollection(rings, colors="#BFCBD4", lw=0.4, zorder=2), autolim=False)
        for (start, end), count, touch in reversed(list(zip(pairs, counts, near, strict=True))):
            width = 0.7 + 3.3 * float(count) / float(counts.max())
            _arc(axes, frame, grid.class_points_deg[[start, end]], width, ORANGE if touch else VERMILION)
        axes.plot(*frame.project(grid.class_points_deg).T, "o", ms=2.0, mew=0, color=MUTED, zorder=4)
        handles = [
            matplotlib.lines.Line2D([], [], color=ORANGE, lw=2, label="neighbouring cells"),
            matplotlib.lines.Line2D(
                [], [], color=VERMILION, lw=2, label="cells apart; arrows from true to answered"
            ),
        ]
        figure.legend(handles=handles, loc="lower left", ncols=2, fontsize=7.5, bbox_to_anchor=(0.01, 0.0))


def _arc(axes: Axes, frame: MapProjection, ends_deg: FloatArray, width_pt: float, colour: str) -> None:
    """A bow to the left of its way, with a head at its end; over the date line it is drawn from both sides."""
    lasts, firsts, _ = frame.lines(ends_deg[:1], ends_deg[1:])
    if len(firsts):
        axes.add_collection(LineCollection(list(firsts), colors=colour, lw=width_pt, zorder=5), autolim=False)
    bow = 0.0 if len(firsts) else 0.22
    look: dict[str, Any] = {
        "arrowstyle": f"-|>,head_length={0.25 + 0.08 * width_pt},head_width={0.12 + 0.05 * width_pt}"
    }
    look |= {"connectionstyle": f"arc3,rad={bow}", "color": colour, "lw": width_pt, "shrinkA": 1, "shrinkB": 2}
    axes.annotate("", lasts[0, 1], lasts[0, 0], arrowprops=look, zorder=5, annotation_clip=False)
