"""Pictures of a dataset: where its places lie, how far its splits are apart, what its files and views are like.

They are half as wide as a run's pictures and bear no heading: a page shows them, with words of its own,
on a phone too. Nothing here opens an image: that is reporting/data_views.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from geoguesser.arrays import BoolArray, FloatArray
from geoguesser.data.checks.leakage import WITHIN_M
from geoguesser.data.images import LUMA_WEIGHTS
from geoguesser.geo.region import Region
from geoguesser.reporting.maps import SPLIT_COLOURS, SPLIT_NAMES, choose_dot_size_pt, set_map
from geoguesser.reporting.projections import MapProjection, make_projection
from geoguesser.reporting.style import INK, SKY, VERMILION, add_axes, format_m, picture
from geoguesser.reporting.text import format_number

WIDTH_IN, SHARP_DPI = 5.0, 200
CHART_IN = 2.9  # height of a chart
MAX_IN_WINDOW = 400  # dots that can be told apart
MIN_IN_WINDOW = 60  # fewer need no second map
MIN_KM = 0.005  # what lies nearer is drawn here: a log axis has no zero


def draw_places(
    path: Path,
    *,
    region: Region,
    coords_deg: FloatArray,
    splits: npt.NDArray[Any],
    window: FloatArray | None = None,
) -> None:
    """Draws the whole region with its places, coloured by split.

    Args:
        path: The PNG to write.
        region: The land.
        coords_deg: (N, 2) the places, N at least 1.
        splits: (N,) `train`, `val`, `test` or `unused`.
        window: (4,) a part to frame, as `find_densest_window` gives it; the frame is never too small to see.
    """
    frame = make_projection(region)
    xy = frame.project(coords_deg)
    bounds = frame.bounds(xy, [])
    with _map(path, frame, bounds) as axes:
        _draw_mixed(axes, xy, np.asarray(splits))
        if window is not None:
            least = (bounds[2:] - bounds[:2]).max() / 40 * np.array((1.0, 1.0 / frame.stretch))
            centre, size = (window[:2] + window[2:]) / 2, np.maximum(window[2:] - window[:2], least)
            west, south = centre - size / 2
            axes.add_patch(Rectangle((west, south), *size.tolist(), fill=False, ec=INK, lw=1.2, zorder=6))


def draw_window(
    path: Path, *, region: Region, coords_deg: FloatArray, splits: npt.NDArray[Any], window: FloatArray
) -> None:
    """Draws the part of a region within a window, with the places that lie there; else as `draw_places`."""
    frame = make_projection(region)
    xy = frame.project(coords_deg)
    inside = select_window(xy, window)
    with _map(path, frame, window) as axes:
        _draw_mixed(axes, xy[inside], np.asarray(splits)[inside])


@contextmanager
def _map(path: Path, frame: MapProjection, bounds: FloatArray) -> Iterator[Axes]:
    """A picture that is all map, but for the scale bar or the names of the degrees."""
    west, south, east, north = bounds
    left, below = (0.55, 0.3) if frame.stretch > 1 else (0.1, 0.42)
    across = WIDTH_IN - left - 0.1
    up = float(np.clip(across * (north - south) * frame.stretch / (east - west), 1.8, 6.5))
    with picture(path, up + below + 0.1, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        yield set_map(figure, (left, below, across, up), frame, bounds)


def _draw_mixed(axes: Axes, xy: FloatArray, splits: npt.NDArray[Any]) -> None:
    """Dots in an order that mixes the splits, so that none hides another where places are dense."""
    order = np.random.default_rng(0).permutation(len(xy))
    order = order[np.argsort(splits[order] != "unused", kind="stable")]  # these lie below all others
    colours = np.array([to_rgb(SPLIT_COLOURS[split]) for split in splits[order]]).reshape(-1, 3)
    few = len(xy) <= 2 * MAX_IN_WINDOW
    size_pt = choose_dot_size_pt(len(xy)) * (1.3 if few else 0.7)  # this map is half as wide as a run's
    look: dict[str, Any] = {"s": size_pt**2, "c": colours, "zorder": 4}
    look |= {"linewidths": 0.4, "edgecolors": "white"} if few else {"linewidths": 0}
    axes.scatter(*xy[order].T, **look)


def select_window(xy: FloatArray, window: FloatArray) -> BoolArray:
    """(N,) which points lie in (4,) west, south, east, north."""
    west, south, east, north = window
    x, y = xy.T
    return (x >= west) & (x <= east) & (y >= south) & (y <= north)


def find_densest_window(region: Region, coords_deg: FloatArray) -> FloatArray | None:
    """Where places lie so densely that a map of the region cannot tell them apart.

    Args:
        region: The land.
        coords_deg: (N, 2) the places, N at least 1.

    Returns:
        (4,) west, south, east and north in the drawing units of the region's frame: a square of an eighth of
        the map, or of half its side as often as it takes until its places can be told apart. None where
        there are few.
    """
    frame = make_projection(region)
    xy = frame.project(coords_deg)
    west, south, east, north = frame.bounds(xy, [])
    half = np.array((1.0, 1.0 / frame.stretch)) * max(east - west, (north - south) * frame.stretch) / 16
    window: FloatArray | None = None
    for _ in range(12):  # down to 15 m in a land of 500 km
        cells = np.floor(xy / (2 * half)).astype(np.int64)
        owners = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        centre = np.median(xy[owners == np.bincount(owners).argmax()], axis=0)
        found = np.concatenate((centre - half, centre + half))
        count = int(select_window(xy, found).sum())
        if count < MIN_IN_WINDOW:
            break
        window = found
        if count <= MAX_IN_WINDOW:
            break
        half /= 2
    return window


def draw_distances(path: Path, *, distance_km: FloatArray, splits: npt.NDArray[Any]) -> None:
    """Draws the share of validation and test places within each distance of a training place.

    Args:
        path: The PNG to write.
        distance_km: (N,) as `geoguesser.data.checks.leakage.compute_nearest_training_km` gives them.
        splits: (N,) at least one `val` or `test` with a finite distance.
    """
    own = {name: distance_km[(splits == name) & np.isfinite(distance_km)] for name in ("val", "test")}
    own = {name: np.sort(np.maximum(values, MIN_KM)) for name, values in own.items() if len(values)}
    low = min(0.03, *(0.8 * values[0] for values in own.values()))
    high = max(8.0, *(1.25 * values[-1] for values in own.values()))
    with _chart(path) as axes:
        for name, values in own.items():
            share = np.concatenate(([0.0], np.arange(1, len(values) + 1) / len(values), [1.0]))
            look = _line(name) | {"label": SPLIT_NAMES.get(name, name), "zorder": 4}
            axes.step(np.concatenate(([low], values, [high])), share, where="post", **look)
        for metres in WITHIN_M:
            _mark(axes, metres / 1000, format_m(metres), ls=(0, (1.5, 1.5)))
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(0.0, 1.0)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda km, _: f"{km:,g} km" if km >= 1 else f"{1000 * km:g} m")
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("distance to the nearest training place")
        axes.set_ylabel("share of places within")
        early = np.median(np.concatenate(list(own.values()))) < np.sqrt(low * high)
        corner: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.055, 1.0)}  # between two marks
        if early:
            corner = {"loc": "lower right", "bbox_to_anchor": (4.5, 0.0)}
        box: dict[str, Any] = {"frameon": True, "framealpha": 1.0, "edgecolor": "none"}
        axes.legend(bbox_transform=axes.get_xaxis_transform(), **corner, **box)


def _line(split: str) -> dict[str, Any]:
    """How the line of a split looks: not by colour alone."""
    return {"color": SPLIT_COLOURS[split], "lw": 1.8, "ls": "-" if split == "test" else (0, (5, 1.5))}


def _mark(axes: Axes, at: float, label: str, **look: Any) -> None:
    """A vertical line, with its name above the axes."""
    axes.axvline(at, color=VERMILION, lw=1.2, zorder=3, **look)
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
    axes.text(at, 1.02, label, color=VERMILION, **place)


@contextmanager
def _chart(path: Path) -> Iterator[Axes]:
    """A picture with one chart; above it there is room for the names of marks."""
    with picture(path, CHART_IN, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        yield add_axes(figure, 0.7, 0.5, WIDTH_IN - 0.95, CHART_IN - 0.8)


def compute_brightness(sums: npt.NDArray[np.int64], size: int) -> FloatArray:
    """(N, 4, 2, 3) sums of views of so many pixels a side -> (N, 4) mean luma of each, from 0 to 255."""
    found: FloatArray = sums[:, :, 0] / size**2 @ LUMA_WEIGHTS.astype(np.float64)
    return found


def draw_brightness(path: Path, *, luma: FloatArray, mask: BoolArray, splits: npt.NDArray[Any]) -> None:
    """Draws how bright the views of each split are.

    Args:
        path: The PNG to write.
        luma: (N, 4) mean of each view, from 0 to 255.
        mask: (N, 4) which views are used, at least one.
        splits: (N,) the split of each place.
    """
    bins = np.linspace(0.0, 255.0, 35 if mask.sum() >= 2000 else 18)
    with _chart(path) as axes:
        for name in ("train", "val", "test"):
            values = luma[splits == name][mask[splits == name]]
            if not len(values):
                continue
            share = np.histogram(values, bins)[0] / len(values)
            label = SPLIT_NAMES.get(name, name)
            if name == "train":
                axes.stairs(share, bins, fill=True, color=SPLIT_COLOURS[name], alpha=0.3, zorder=2, label=label)
            else:
                axes.stairs(share, bins, zorder=4, label=label, **_line(name))
        axes.set_xlim(0, 255)
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("mean brightness of a view: 0 is black, 255 white")
        axes.set_ylabel("share of the split's views")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.legend(loc="best")


def format_kb(kilobytes: float) -> str:
    """The size of a file for people: 5.57 kB, 74.1 kB, 12,345 kB."""
    return f"{kilobytes:,.3g} kB" if kilobytes < 100 else f"{kilobytes:,.0f} kB"


def draw_file_sizes(path: Path, *, file_bytes: npt.NDArray[np.int64]) -> None:
    """Draws how large the image files are.

    Args:
        path: The PNG to write.
        file_bytes: (M,) of each file, all above 0, M at least 1.
    """
    kilobytes = np.asarray(file_bytes, dtype=np.float64) / 1000
    median = float(np.median(kilobytes))
    low, high = min(kilobytes.min() / 1.1, median / 2), max(kilobytes.max() * 1.1, median * 2)
    bins = np.geomspace(low, high, 41 if len(kilobytes) >= 1000 else 21)
    with _chart(path) as axes:
        axes.hist(kilobytes, bins=bins.tolist(), color=SKY, edgecolor="white", lw=0.3, zorder=2)
        _mark(axes, median, f"median {format_kb(median)}")
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        steps = (
            (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 8 * low else (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
        )
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(format_number)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("size of an image file in kB")
        axes.set_ylabel("files")
