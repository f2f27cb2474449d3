"""Maps of a run: the grid with its places, and arrows from true to predicted points.

A region with a plane is drawn in its CRS, so that squares are squares; the world is drawn by
longitude and latitude. Nothing here computes a result: it draws what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import (
    BLUE,
    GREEN,
    HEADER_IN,
    INK,
    MARGIN_IN,
    MUTED,
    ORANGE,
    WIDTH_IN,
    add_axes,
    add_header,
    picture,
)
from geoguesser.system.text import format_count, format_km, format_number

SPLIT_COLOURS = {"unused": "#999999", "train": BLUE, "val": ORANGE, "test": GREEN}  # drawn in this order
SPLIT_NAMES = {"train": "training", "val": "validation"}
LAND, SHORE, CELL_FILL, CELL_EDGE = "#6B624922", "#8E8A80", "#DCEBF5", "#4A6A85"
ERROR_COLOURS = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1.0, 256)))


def pick_by_rank(error_km: FloatArray, most: int) -> IntArray:
    """Chooses at most `most` places, evenly by rank of their error: the least and the largest are in it.

    Args:
        error_km: (N,) errors.
        most: How many at most, at least 1.

    Returns:
        Their numbers, by descending error, so that short arrows are drawn over long ones.
    """
    order = np.argsort(-np.asarray(error_km), kind="stable")
    if len(order) <= most:
        return order
    return order[np.round(np.linspace(0, len(order) - 1, most)).astype(np.int64)]


def find_dropped_cells(grid: Grid) -> IntArray:
    """Ids of the cells that touch the land but hold no training place."""
    return np.setdiff1d(grid.touching, grid.kept)


@dataclass(frozen=True)
class Sheet:
    """The boxes of a picture in inches: (left, bottom, width, height).

    Attributes:
        height: Of the whole picture.
        map: The map.
        side: Legend and colour bar.
        beside: Whether `side` is right of the map; else it is below.
    """

    height: float
    map: tuple[float, float, float, float]
    side: tuple[float, float, float, float]
    beside: bool


def make_sheet(bounds: FloatArray, stretch: float) -> Sheet:
    """Lays out a picture: a wide map has its legend below, any other one beside it."""
    west, south, east, north = bounds
    shape = (east - west) / ((north - south) * stretch)
    wide = WIDTH_IN - 2 * MARGIN_IN
    if shape > 1.35:
        inset = 0.2  # for degrees at the left
        up = max((wide - inset) / shape, 2.8)
        map_box = (MARGIN_IN + inset, 1.35, wide - inset, up)
        return Sheet(HEADER_IN + up + 1.35, map_box, (3.0, 0.1, wide - 2.75, 1.0), False)
    across = wide - 2.75
    up = min(max(across / shape, 4.5), 8.0)
    map_box = (MARGIN_IN, 0.6, across, up)
    return Sheet(HEADER_IN + up + 0.6, map_box, (MARGIN_IN + across + 0.2, 0.6, 2.55, up), True)


def _draw_land(axes: Axes, frame: MapProjection, unit: float) -> None:
    """Land as a shade over the cells; details below a third of a pixel (`unit`) are left out."""
    parts = shapely.get_parts(frame.land)
    simple = shapely.simplify(parts, unit / 3, preserve_topology=False)
    parts = shapely.get_parts(np.where(shapely.is_empty(simple), parts, simple))
    outlines = [_outline(part) for part in parts]
    look: dict[str, Any] = {"fc": LAND, "ec": SHORE, "lw": frame.shore_pt, "zorder": 3}
    axes.add_collection(PathCollection(outlines, **look), autolim=False)


def _outline(polygon: shapely.Polygon) -> Outline:
    rings = (polygon.exterior, *polygon.interiors)
    return Outline.make_compound_path(*(Outline(np.asarray(ring.coords), closed=True) for ring in rings))


def set_map(
    figure: Figure, box: tuple[float, float, float, float], frame: MapProjection, bounds: FloatArray
) -> Axes:
    """Axes with the land, whose limits are widened until they fill the whole box of the map.

    Args:
        figure: Where to draw.
        box: Left, bottom, width and height in inches.
        frame: How the region lies on paper.
        bounds: (4,) west, south, east and north in drawing units.
    """
    axes = add_axes(figure, *box)
    west, south, east, north = bounds
    _, _, across, up = box
    unit = max((east - west) / across, (north - south) * frame.stretch / up)  # drawing units per inch
    x, y = (west + east) / 2, (south + north) / 2
    axes.set_xlim(x - unit * across / 2, x + unit * across / 2)
    axes.set_ylim(y - unit * up / 2 / frame.stretch, y + unit * up / 2 / frame.stretch)
    axes.set_axis_off()
    frame.furnish(axes)
    _draw_land(axes, frame, unit / figure.dpi)
    return axes


def _dots(axes: Axes, xy: FloatArray, colour: str, size_pt: float, **more: Any) -> None:
    axes.plot(*xy.T, "o", ms=size_pt, mew=0, color=colour, **more)


def choose_dot_size_pt(count: int) -> float:
    """Diameter of a dot: 6 points where there are few, 1 point at 70,000."""
    return float(np.clip(8.0 * max(count, 1) ** -0.18, 1.0, 6.0))


def draw_grid(
    path: Path,
    *,
    region: Region,
    grid: Grid | None,
    coords_deg: FloatArray,
    splits: npt.NDArray[Any],
    title: str = "",
) -> None:
    """Draws the land, the cells with their class points, and the places by split.

    Args:
        path: The PNG to write.
        region: The land.
        grid: The fitted grid; None where the head has no classes.
        coords_deg: (N, 2) the places, N at least 1.
        splits: (N,) `train`, `val`, `test` or `unused`.
        title: The heading; the region's name where it is empty.
    """
    frame = make_projection(region)
    xy = frame.project(coords_deg)
    cells = np.zeros(0, dtype=np.int64) if grid is None else np.union1d(grid.touching, grid.kept)
    rings = [] if grid is None else [frame.ring(ring) for ring in grid.outlines_deg(cells)]
    bounds = frame.bounds(xy, rings)
    sheet = make_sheet(bounds, frame.stretch)
    with picture(path, sheet.height) as figure:
        add_header(figure, title or capitalise(region.name), describe_grid(grid, len(xy)))
        axes = set_map(figure, sheet.map, frame, bounds)
        handles = [] if grid is None else _draw_cells(axes, frame, grid)
        handles += _draw_places(axes, xy, np.asarray(splits))
        add_legend(figure, sheet, handles)


def describe_grid(grid: Grid | None, places: int) -> str:
    """The line under the heading: how many cells touch land and hold training places, and their side."""
    if grid is None:
        return f"{format_count(places, 'place')}, no cells"
    cells = f"{len(grid.touching):,} cells touch land, {grid.num_cells:,} hold training places"
    return f"{cells}; side of a cell {format_km(grid.side_km)}"


def capitalise(name: str) -> str:
    """The name with a capital first letter."""
    return name[:1].upper() + name[1:]


def _draw_places(axes: Axes, xy: FloatArray, splits: npt.NDArray[Any]) -> list[Artist]:
    """Dots by split; gives the entries of the legend, with counts."""
    handles: list[Artist] = []
    for split, colour in SPLIT_COLOURS.items():
        chosen = xy[splits == split]
        if len(chosen):
            alpha = 0.9 if len(xy) < 5000 else 0.6
            _dots(axes, chosen, colour, choose_dot_size_pt(len(xy)), alpha=alpha, zorder=4)
            handles.append(make_dot_handle(colour, format_place_count(len(chosen), SPLIT_NAMES.get(split, split))))
    return handles


def format_place_count(count: int, split: str) -> str:
    """`1 test place`, `26,417 training places`."""
    return f"{count:,} {split} place{'' if count == 1 else 's'}"


def _draw_cells(axes: Axes, frame: MapProjection, grid: Grid) -> list[Artist]:
    """Cells, class points and how far these were moved; gives the entries of the legend."""
    cell_px = _cell_px(axes, frame, grid)
    edge = float(np.clip(cell_px / 50, 0.2, 1.0))
    dropped: dict[str, Any] = {"fc": "white", "ec": "#A8A8A8", "hatch": "////" if cell_px > 9 else None}
    kept: dict[str, Any] = {"fc": CELL_FILL, "ec": CELL_EDGE}
    looks = ((find_dropped_cells(grid), "without, dropped", dropped), (grid.kept, "with training places", kept))
    handles: list[Artist] = []
    for level, (ids, label, look) in enumerate(looks):
        rings = [drawn for ring in grid.outlines_deg(ids) for drawn in frame.rings(ring)]
        if rings:
            axes.add_collection(PolyCollection(rings, lw=edge, zorder=1 + level, **look), autolim=False)
            edges = LineCollection(rings, colors=look["ec"], lw=edge, zorder=5 + level / 2)
            axes.add_collection(edges, autolim=False)
            handles.insert(0, Patch(lw=0.8, label=f"{len(ids):,} cells {label}", **look))
    return handles + _draw_class_points(axes, frame, grid, cell_px)


def _cell_px(axes: Axes, frame: MapProjection, grid: Grid) -> float:
    """Height of a middling cell on paper, in pixels."""
    middling = np.argsort(grid.class_sides_km, kind="stable")[(grid.num_cells - 1) // 2]
    ring = axes.transData.transform(frame.ring(grid.outlines_deg(grid.kept[[middling]])[0]))
    return float(np.ptp(ring[:, 1]))


def _draw_class_points(axes: Axes, frame: MapProjection, grid: Grid, cell_px: float) -> list[Artist]:
    """A diamond per class, with a line from the cell's centre where it was moved visibly."""
    centres_deg = grid.region.from_space(grid.cells.centres(grid.kept))
    moved = haversine_km(centres_deg, grid.class_points_deg) > 0.1 * grid.class_sides_km
    size = float(np.clip(cell_px / 9, 1.5, 7.0))
    look: dict[str, Any] = {"marker": "D", "color": INK, "mec": "white", "mew": 0.13 * size}
    axes.plot(*frame.project(grid.class_points_deg).T, ls="", ms=size, zorder=8, **look)
    handles: list[Artist] = [Line2D([], [], ls="", ms=6, label="class point of a cell", **look)]
    if moved.any():
        lasts, firsts, _ = frame.lines(centres_deg[moved], grid.class_points_deg[moved])
        pieces = list(np.concatenate((lasts, firsts)))
        axes.add_collection(LineCollection(pieces, colors=INK, lw=0.17 * size, zorder=7), autolim=False)
        _dots(axes, frame.project(centres_deg[moved]), INK, 0.45 * size, zorder=7)
        start: dict[str, Any] = {"marker": "o", "markevery": (0, 2), "ms": 3.5}
        handles.append(Line2D([0], [0], color=INK, lw=1.2, label="moved from the cell's centre", **start))
    return handles


def draw_arrows(
    path: Path,
    *,
    region: Region,
    true_deg: FloatArray,
    predicted_deg: FloatArray,
    error_km: FloatArray,
    title: str = "",
    most: int = 400,
) -> None:
    """Draws an arrow from the true to the predicted point of test places, coloured by error.

    Args:
        path: The PNG to write.
        region: The land.
        true_deg: (N, 2) where the places are, N at least 1.
        predicted_deg: (N, 2) where the model puts them; points off the map end at or beyond its edge.
        error_km: (N,) the errors.
        title: The heading; the region's name where it is empty.
        most: How many arrows to draw at most; they are chosen evenly by rank of error.
    """
    error_km = np.asarray(error_km, dtype=np.float64)
    chosen = pick_by_rank(error_km, most)
    true_deg, predicted_deg, shown_km = (values[chosen] for values in (true_deg, predicted_deg, error_km))
    frame = make_projection(region)
    lasts, firsts, owners = frame.lines(true_deg, predicted_deg)
    true_xy = frame.project(true_deg)
    bounds = frame.bounds(np.concatenate((true_xy, frame.project(predicted_deg))), [])
    sheet = make_sheet(bounds, frame.stretch)
    with picture(path, sheet.height) as figure:
        add_header(figure, title or capitalise(region.name), describe_arrows(error_km, len(chosen)))
        axes = set_map(figure, sheet.map, frame, bounds)
        top_km = float(np.percentile(error_km, 98 if len(error_km) >= 50 else 100)) or 1.0
        colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)
        _draw_ways(axes, lasts, firsts, colours.to_rgba(shown_km), owners)
        _dots(axes, true_xy, INK, float(np.clip(choose_dot_size_pt(len(chosen)), 2.2, 5.0)), zorder=6)
        head: dict[str, Any] = {"marker": ">", "markevery": (1, 2), "ms": 6}
        handles: list[Artist] = [
            make_dot_handle(INK, "true point"),
            Line2D([0], [0], color=MUTED, lw=1.6, label="to the predicted point", **head),
        ]
        add_legend(figure, sheet, handles)
        _add_colour_bar(figure, sheet, colours, extend="max" if error_km.max() > top_km else "neither")


def describe_arrows(error_km: FloatArray, shown: int) -> str:
    """The line under the heading: how many arrows are shown, and the mean and median error of all."""
    count = len(error_km)
    places = format_place_count(count, "test")
    if shown < count:
        places = f"{shown:,} of {places}, evenly by rank of error; all {count:,}"
    mean, median = format_km(float(np.mean(error_km))), format_km(float(np.median(error_km)))
    return f"{places}: mean error {mean}, median {median}"


def _draw_ways(axes: Axes, lasts: FloatArray, firsts: FloatArray, colours: FloatArray, owners: IntArray) -> None:
    """Arrows, the last piece of each with a head; what leaves the map is cut at its edge."""
    look: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "units": "inches"}
    head: dict[str, Any] = {
        "width": 0.014,
        "headwidth": 5.5,
        "headlength": 6.5,
        "headaxislength": 5.5,
        "minlength": 0.5,
    }
    moves = lasts[:, 1] - lasts[:, 0]
    axes.quiver(*lasts[:, 0].T, *moves.T, color=colours, zorder=5, **look, **head)
    axes.add_collection(LineCollection(list(firsts), colors=colours[owners], lw=1.0, zorder=5), autolim=False)


def _add_colour_bar(figure: Figure, sheet: Sheet, colours: ScalarMappable, extend: str) -> None:
    left, bottom, across, up = sheet.side
    where = (left + 2.6, bottom + up - 0.28, across - 2.8, 0.16)
    if sheet.beside:
        tall = min(3.0, up - 1.2)
        where = (left + 0.08, bottom + up - 0.9 - tall, 0.16, tall)
    bar = figure.colorbar(
        colours,
        cax=add_axes(figure, *where),
        extend=extend,
        orientation="vertical" if sheet.beside else "horizontal",
        format=FuncFormatter(format_number),
    )
    bar.set_label("error in km")
    bar.outline.set_visible(False)
    bar.ax.grid(False)


def add_legend(figure: Figure, sheet: Sheet, handles: list[Artist]) -> None:
    """Writes the legend into its box of the picture."""
    left, bottom, _, up = sheet.side
    corner = (left / WIDTH_IN, (bottom + up) / sheet.height)
    columns = 1 if sheet.beside or len(handles) < 4 else 2
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=corner,
        ncols=columns,
        borderaxespad=0.0,
        borderpad=0.0,
        labelspacing=0.7,
        handlelength=1.6,
    )


def make_dot_handle(colour: str, label: str) -> Line2D:
    """An entry of the legend: a dot with its label."""
    return Line2D([], [], ls="", marker="o", ms=6, mew=0, color=colour, label=label)
