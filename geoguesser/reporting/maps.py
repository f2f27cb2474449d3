"""Maps of a run: the grid with its places, and arrows from true to predicted points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
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

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.reporting import style
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.system.text import format_count, format_km

# In the order of drawing.
SPLIT_COLOURS = {"unused": "#999999", "train": style.BLUE, "val": style.ORANGE, "test": style.GREEN}
SPLIT_NAMES = {"train": "training", "val": "validation"}
MAX_ARROWS = 400
Box = tuple[float, float, float, float]
LAND, SHORE, CELL_FILL, CELL_EDGE = "#6B624922", "#8E8A80", "#DCEBF5", "#4A6A85"
ERROR_COLOURS = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1.0, 256)))


def pick_by_rank(error_km: FloatArray, max_places: int) -> IntArray:
    """Picks places evenly by rank of error, including the smallest and the largest error.

    Indices are in descending order of error, so that short arrows are drawn over long ones.
    """
    order = np.argsort(-np.asarray(error_km), kind="stable")
    if len(order) <= max_places:
        return order
    return order[np.round(np.linspace(0, len(order) - 1, max_places)).astype(np.int64)]


class Sheet(NamedTuple):
    """Layout of a picture in inches. A box is (left, bottom, width, height).

    `beside` is true if `side` is to the right of the map, false if it is below.
    """

    height: float
    map: Box
    side: Box
    beside: bool


def make_sheet(bounds: FloatArray, stretch: float) -> Sheet:
    """Lays out a picture for (4,) bounds: the legend is below a wide map, and beside any other map."""
    west, south, east, north = bounds
    aspect = (east - west) / ((north - south) * stretch)
    inner_width = style.WIDTH_IN - 2 * style.MARGIN_IN

    if aspect > 1.35:
        # Space for the labels of latitudes.
        inset = 0.2
        map_height = max((inner_width - inset) / aspect, 2.8)
        map_box = (style.MARGIN_IN + inset, 1.35, inner_width - inset, map_height)
        return Sheet(style.HEADER_IN + map_height + 1.35, map_box, (3.0, 0.1, inner_width - 2.75, 1.0), False)

    map_width = inner_width - 2.75
    map_height = min(max(map_width / aspect, 4.5), 8.0)
    side = (style.MARGIN_IN + map_width + 0.2, 0.6, 2.55, map_height)
    return Sheet(style.HEADER_IN + map_height + 0.6, (style.MARGIN_IN, 0.6, map_width, map_height), side, True)


def _draw_land(axes: Axes, projection: MapProjection, pixel: float) -> None:
    """Shades the land over the cells; details smaller than a third of a pixel, in drawing units, are left out."""
    parts = shapely.get_parts(projection.land)
    simple = shapely.simplify(parts, pixel / 3, preserve_topology=False)
    # An island smaller than that would vanish: it keeps its outline.
    parts = shapely.get_parts(np.where(shapely.is_empty(simple), parts, simple))

    # A compound path of exterior and interiors leaves lakes unshaded.
    outlines = []
    for part in parts:
        rings = [Outline(ring.coords, closed=True) for ring in (part.exterior, *part.interiors)]
        outlines.append(Outline.make_compound_path(*rings))
    look: dict[str, Any] = {"fc": LAND, "ec": SHORE, "lw": projection.shore_pt, "zorder": 3}
    axes.add_collection(PathCollection(outlines, **look), autolim=False)


def set_map(figure: Figure, box: Box, projection: MapProjection, bounds: FloatArray) -> Axes:
    """Adds axes with the land; (4,) bounds, from west to north, are widened until the map fills its box."""
    axes = style.add_axes(figure, *box)
    west, south, east, north = bounds
    _, _, width, height = box

    units_per_inch = max((east - west) / width, (north - south) * projection.stretch / height)
    x, y = (west + east) / 2, (south + north) / 2
    axes.set_xlim(x - units_per_inch * width / 2, x + units_per_inch * width / 2)
    half_height = units_per_inch * height / 2 / projection.stretch
    axes.set_ylim(y - half_height, y + half_height)

    axes.set_axis_off()
    projection.add_scale(axes)
    _draw_land(axes, projection, units_per_inch / figure.dpi)
    return axes


def get_map_margins_in(projection: MapProjection) -> tuple[float, float]:
    """Returns the margins left of and below a map, for the labels of a graticule or for a scale bar."""
    return (0.55, 0.3) if projection.stretch > 1 else (0.1, 0.42)


def compute_narrow_box(
    projection: MapProjection, bounds: FloatArray, *, strip_in: float = 0.0, max_height_in: float = 5.5
) -> tuple[Box, float]:
    """Returns the box of a map above a strip for its colours or legend, and the picture's height, in inches."""
    west, south, east, north = bounds
    left, bottom = get_map_margins_in(projection)
    width = style.NARROW_WIDTH_IN - left - 0.1
    height = float(np.clip(width * (north - south) * projection.stretch / (east - west), 1.8, max_height_in))
    return (left, bottom + strip_in, width, height), height + bottom + strip_in + 0.1


@contextmanager
def open_map(path: Path, projection: MapProjection, bounds: FloatArray) -> Iterator[Axes]:
    """Yields the axes of a narrow picture with one map."""
    box, height = compute_narrow_box(projection, bounds, max_height_in=6.5)
    with style.narrow_picture(path, height) as figure:
        yield set_map(figure, box, projection, bounds)


def choose_dot_size_pt(count: int) -> float:
    """Returns the diameter of dots in points: 6 for a few dots, 1 for 70,000 dots."""
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
    """Draws the land, the cells with their class points, and (N, 2) places in degrees by split, N at least 1.

    The grid is None for a head without cells. The default title is the name of the region.
    """
    projection = make_projection(region)
    xy = projection.project(coords_deg)
    rings: list[FloatArray] = []
    if grid is not None:
        cells = np.union1d(grid.touching, grid.kept)
        rings = [projection.project_ring(ring) for ring in grid.outlines_deg(cells)]
    bounds = projection.bounds(xy, rings)
    sheet = make_sheet(bounds, projection.stretch)

    with style.picture(path, sheet.height) as figure:
        style.add_header(figure, title or capitalise(region.name), describe_grid(grid, len(xy)))
        axes = set_map(figure, sheet.map, projection, bounds)
        handles = [] if grid is None else _draw_cells(axes, projection, grid)
        handles += _draw_places(axes, xy, np.asarray(splits))
        add_legend(figure, sheet, handles)


def describe_grid(grid: Grid | None, places: int) -> str:
    """Returns the subtitle: numbers of cells that touch land and that hold training places, and the cell size."""
    if grid is None:
        return f"{format_count(places, 'place')}, no cells"
    cells = f"{len(grid.touching):,} cells touch land, {grid.num_cells:,} hold training places"
    return f"{cells}; side of a cell {format_km(grid.side_km)}"


def capitalise(name: str) -> str:
    """Returns the name with a capital first letter."""
    return name[:1].upper() + name[1:]


def _draw_places(axes: Axes, xy: FloatArray, splits: npt.NDArray[Any]) -> list[Artist]:
    """Draws dots coloured by split; returns the legend entries, with counts."""
    alpha, size_pt = 0.9 if len(xy) < 5000 else 0.6, choose_dot_size_pt(len(xy))
    handles: list[Artist] = []

    for split, colour in SPLIT_COLOURS.items():
        name = f"{SPLIT_NAMES.get(split, split)} place"
        handles += draw_dots(axes, xy[splits == split], colour, name, ms=size_pt, alpha=alpha, zorder=4)
    return handles


def draw_dots(axes: Axes, xy: FloatArray, colour: str, name: str, **look: Any) -> list[Artist]:
    """Draws (N, 2) dots; returns their legend entry, `26,417 training places`, if there are any."""
    if not len(xy):
        return []
    axes.plot(*xy.T, "o", mew=0, color=colour, **look)
    return [make_dot_handle(colour, format_count(len(xy), name))]


def _draw_cells(axes: Axes, projection: MapProjection, grid: Grid) -> list[Artist]:
    cell_px = _compute_cell_px(axes, projection, grid)
    edge = float(np.clip(cell_px / 50, 0.2, 1.0))
    dropped: dict[str, Any] = {"fc": "white", "ec": "#A8A8A8", "hatch": "////" if cell_px > 9 else None}
    kept: dict[str, Any] = {"fc": CELL_FILL, "ec": CELL_EDGE}
    without = np.setdiff1d(grid.touching, grid.kept)
    looks = ((without, "without, dropped", dropped), (grid.kept, "with training places", kept))
    handles: list[Artist] = []

    for level, (ids, label, look) in enumerate(looks):
        rings = [ring for outline in grid.outlines_deg(ids) for ring in projection.project_rings(outline)]
        if rings:
            # Faces lie below the land and edges above it, so that cells are visible on its shade.
            axes.add_collection(PolyCollection(rings, lw=edge, zorder=1 + level, **look), autolim=False)
            edges = LineCollection(rings, colors=look["ec"], lw=edge, zorder=5 + level / 2)
            axes.add_collection(edges, autolim=False)
            handles.insert(0, Patch(lw=0.8, label=f"{len(ids):,} cells {label}", **look))
    return handles + _draw_class_points(axes, projection, grid, cell_px)


def _compute_cell_px(axes: Axes, projection: MapProjection, grid: Grid) -> float:
    median = np.argsort(grid.class_sides_km, kind="stable")[(grid.num_cells - 1) // 2]
    outline = grid.outlines_deg(grid.kept[[median]])[0]
    ring = axes.transData.transform(projection.project_ring(outline))
    return float(np.ptp(ring[:, 1]))


def _draw_class_points(axes: Axes, projection: MapProjection, grid: Grid, cell_px: float) -> list[Artist]:
    """Draws a diamond per class, with a line from the centre of the cell if the point lies visibly off it."""
    centres_deg = grid.region.from_space(grid.cells.centres(grid.kept))
    moved = haversine_km(centres_deg, grid.class_points_deg) > 0.1 * grid.class_sides_km
    size = float(np.clip(cell_px / 9, 1.5, 7.0))
    look: dict[str, Any] = {"marker": "D", "color": style.INK, "mec": "white", "mew": 0.13 * size}
    axes.plot(*projection.project(grid.class_points_deg).T, ls="", ms=size, zorder=8, **look)
    handles: list[Artist] = [Line2D([], [], ls="", ms=6, label="class point of a cell", **look)]

    if moved.any():
        lasts, firsts, _ = projection.project_lines(centres_deg[moved], grid.class_points_deg[moved])
        pieces = list(np.concatenate((lasts, firsts)))
        axes.add_collection(LineCollection(pieces, colors=style.INK, lw=0.17 * size, zorder=7), autolim=False)
        centres = projection.project(centres_deg[moved])
        axes.plot(*centres.T, "o", ms=0.45 * size, mew=0, color=style.INK, zorder=7)
        start: dict[str, Any] = {"marker": "o", "markevery": (0, 2), "ms": 3.5}
        handles.append(Line2D([0], [0], color=style.INK, lw=1.2, label="moved from the cell's centre", **start))
    return handles


def draw_arrows(
    path: Path,
    *,
    region: Region,
    true_deg: FloatArray,
    predicted_deg: FloatArray,
    error_km: FloatArray,
    title: str = "",
) -> None:
    """Draws an arrow from the true to the predicted point of at most `MAX_ARROWS` places, coloured by error.

    Points are (N, 2) degrees, N at least 1; a predicted point off the map ends at or beyond its edge.
    """
    error_km = np.asarray(error_km, dtype=np.float64)
    chosen = pick_by_rank(error_km, MAX_ARROWS)
    true_deg, predicted_deg, shown_km = (values[chosen] for values in (true_deg, predicted_deg, error_km))

    projection = make_projection(region)
    true_xy = projection.project(true_deg)
    bounds = projection.bounds(np.concatenate((true_xy, projection.project(predicted_deg))), [])
    sheet = make_sheet(bounds, projection.stretch)
    # A few very large errors would leave the others without contrast.
    top_km = float(np.percentile(error_km, 98 if len(error_km) >= 50 else 100)) or 1.0
    colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)

    with style.picture(path, sheet.height) as figure:
        style.add_header(figure, title or capitalise(region.name), describe_arrows(error_km, len(chosen)))
        axes = set_map(figure, sheet.map, projection, bounds)
        lasts, firsts, owners = projection.project_lines(true_deg, predicted_deg)
        _draw_arrow_lines(axes, lasts, firsts, colours.to_rgba(shown_km), owners)
        size_pt = float(np.clip(choose_dot_size_pt(len(chosen)), 2.2, 5.0))
        axes.plot(*true_xy.T, "o", ms=size_pt, mew=0, color=style.INK, zorder=6)

        head: dict[str, Any] = {"marker": ">", "markevery": (1, 2), "ms": 6}
        handles: list[Artist] = [
            make_dot_handle(style.INK, "true point"),
            Line2D([0], [0], color=style.MUTED, lw=1.6, label="to the predicted point", **head),
        ]
        add_legend(figure, sheet, handles)
        _add_colour_bar(figure, sheet, colours, extend="max" if error_km.max() > top_km else "neither")


def describe_arrows(error_km: FloatArray, shown: int) -> str:
    """Returns the subtitle: number of arrows, and mean and median error of all test places."""
    count = len(error_km)
    places = format_count(count, "test place")
    if shown < count:
        places = f"{shown:,} of {places}, evenly by rank of error; all {count:,}"
    mean, median = format_km(float(np.mean(error_km))), format_km(float(np.median(error_km)))
    return f"{places}: mean error {mean}, median {median}"


def get_points(predictions: pd.DataFrame) -> dict[str, FloatArray]:
    """Returns the points and errors of a table of predictions, as arguments of `draw_arrows`."""
    return {
        "true_deg": predictions[["true_latitude", "true_longitude"]].to_numpy(dtype=np.float64),
        "predicted_deg": predictions[["latitude", "longitude"]].to_numpy(dtype=np.float64),
        "error_km": predictions["error_km"].to_numpy(dtype=np.float64),
    }


def _draw_arrow_lines(
    axes: Axes, lasts: FloatArray, firsts: FloatArray, colours: FloatArray, owners: IntArray
) -> None:
    """Draws arrows: last pieces with a head, first pieces as lines, as given by `split_at_date_line`."""
    look: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "units": "inches", "minlength": 0.5}
    head: dict[str, Any] = {"width": 0.014, "headwidth": 5.5, "headlength": 6.5, "headaxislength": 5.5}
    moves = lasts[:, 1] - lasts[:, 0]
    axes.quiver(*lasts[:, 0].T, *moves.T, color=colours, zorder=5, **look, **head)
    axes.add_collection(LineCollection(list(firsts), colors=colours[owners], lw=1.0, zorder=5), autolim=False)


def _add_colour_bar(figure: Figure, sheet: Sheet, colours: ScalarMappable, extend: str) -> None:
    left, bottom, width, height = sheet.side
    box = (left + 2.6, bottom + height - 0.28, width - 2.8, 0.16)
    if sheet.beside:
        length = min(3.0, height - 1.2)
        box = (left + 0.08, bottom + height - 0.9 - length, 0.16, length)
    style.add_colour_bar(figure, box, colours, extend=extend, vertical=sheet.beside).set_label("error in km")


def add_legend(figure: Figure, sheet: Sheet, handles: list[Artist]) -> None:
    """Adds the legend in its box."""
    left, bottom, _, height = sheet.side
    corner = (left / style.WIDTH_IN, (bottom + height) / sheet.height)
    columns = 1 if sheet.beside or len(handles) < 4 else 2
    spacing = {"borderaxespad": 0.0, "borderpad": 0.0, "labelspacing": 0.7, "handlelength": 1.6}
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=corner, ncols=columns, **spacing)


def make_dot_handle(colour: str, label: str) -> Line2D:
    """Returns a legend entry: a dot with its label."""
    return Line2D([], [], ls="", marker="o", ms=6, mew=0, color=colour, label=label)
