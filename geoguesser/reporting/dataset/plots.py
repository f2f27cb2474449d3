"""Pictures of a dataset, narrow and without titles: places, distances between splits, brightness, file sizes."""

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
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from geoguesser.arrays import BoolArray, FloatArray
from geoguesser.data.checks.leakage import LEAKAGE_RADII_M
from geoguesser.data.images import LUMA_WEIGHTS
from geoguesser.geo.region import Region
from geoguesser.reporting.maps import SPLIT_COLOURS, SPLIT_NAMES, choose_dot_size_pt, open_map
from geoguesser.reporting.projections import make_projection
from geoguesser.reporting.style import INK, NARROW_WIDTH_IN, SKY, VERMILION, add_axes, narrow_picture
from geoguesser.system.text import format_m, format_number

CHART_IN = 2.9
# More dots cannot be distinguished; fewer need no second map.
MAX_IN_WINDOW, MIN_IN_WINDOW = 400, 60
# Shorter distances are drawn here, because a logarithmic axis has no zero.
MIN_KM = 0.005


def draw_places(
    path: Path,
    *,
    region: Region,
    coords_deg: FloatArray,
    splits: npt.NDArray[Any],
    window: FloatArray | None = None,
) -> None:
    """Draws a map of (N, 2) places in degrees, coloured by split; `find_densest_window` returns a window."""
    projection = make_projection(region)
    xy = projection.project(coords_deg)
    bounds = projection.bounds(xy, [])

    with open_map(path, projection, bounds) as axes:
        _draw_mixed(axes, xy, np.asarray(splits))
        if window is not None:
            # A very small window gets a larger frame, which is visible.
            min_size = (bounds[2:] - bounds[:2]).max() / 40 * np.array((1.0, 1.0 / projection.stretch))
            centre, size = (window[:2] + window[2:]) / 2, np.maximum(window[2:] - window[:2], min_size)
            west, south = centre - size / 2
            axes.add_patch(Rectangle((west, south), *size.tolist(), fill=False, ec=INK, lw=1.2, zorder=6))


def draw_window(
    path: Path, *, region: Region, coords_deg: FloatArray, splits: npt.NDArray[Any], window: FloatArray
) -> None:
    """Draws the part of a region in a window with its places; the other arguments are those of `draw_places`."""
    projection = make_projection(region)
    xy = projection.project(coords_deg)
    inside = select_window(xy, window)
    with open_map(path, projection, window) as axes:
        _draw_mixed(axes, xy[inside], np.asarray(splits)[inside])


def _draw_mixed(axes: Axes, xy: FloatArray, splits: npt.NDArray[Any]) -> None:
    """Draws dots in a random order, so that no split hides another where places are dense."""
    order = np.random.default_rng(0).permutation(len(xy))
    # Unused places lie below all others.
    order = order[np.argsort(splits[order] != "unused", kind="stable")]
    colours = np.array([to_rgb(SPLIT_COLOURS[split]) for split in splits[order]]).reshape(-1, 3)

    # This map is half as wide as a run's, for which the size is chosen.
    few = len(xy) <= 2 * MAX_IN_WINDOW
    size_pt = choose_dot_size_pt(len(xy)) * (1.3 if few else 0.7)
    look: dict[str, Any] = {"s": size_pt**2, "c": colours, "zorder": 4}
    look |= {"linewidths": 0.4, "edgecolors": "white"} if few else {"linewidths": 0}
    axes.scatter(*xy[order].T, **look)


def select_window(xy: FloatArray, window: FloatArray) -> BoolArray:
    """Returns a mask, (N,), of the points in a window, (4,) west, south, east, north."""
    return np.all((xy >= window[:2]) & (xy <= window[2:]), axis=1)


def find_densest_window(region: Region, coords_deg: FloatArray) -> FloatArray | None:
    """Finds a window where places are too dense to be distinguished on a map of the region.

    The window starts as a square of an eighth of the map around the densest of (N, 2) places in degrees. Its side
    is halved until it holds at most `MAX_IN_WINDOW` places.

    Returns:
        (4,) west, south, east and north in drawing units of the region's projection; None if the densest square
        holds fewer than `MIN_IN_WINDOW` places.
    """
    projection = make_projection(region)
    xy = projection.project(coords_deg)
    west, south, east, north = projection.bounds(xy, [])
    map_size = max(east - west, (north - south) * projection.stretch)
    half = np.array((1.0, 1.0 / projection.stretch)) * map_size / 16
    window: FloatArray | None = None

    # Twelve halvings of a land of 500 km end at 15 m.
    for _ in range(12):
        # The window is centred on the median of the places in the fullest square of a raster.
        cells = np.floor(xy / (2 * half)).astype(np.int64)
        owners = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        centre = np.median(xy[owners == np.bincount(owners).argmax()], axis=0)
        candidate = np.concatenate((centre - half, centre + half))
        count = int(select_window(xy, candidate).sum())
        if count < MIN_IN_WINDOW:
            break
        window = candidate
        if count <= MAX_IN_WINDOW:
            break
        half /= 2
    return window


def draw_distances(path: Path, *, distance_km: FloatArray, splits: npt.NDArray[Any]) -> None:
    """Draws the share of validation and test places within each distance of a training place.

    `distance_km` is (N,) from `compute_nearest_training_km`; a `val` or `test` place must have a finite distance.
    """
    distances = {name: distance_km[(splits == name) & np.isfinite(distance_km)] for name in ("val", "test")}
    distances = {name: np.sort(np.maximum(values, MIN_KM)) for name, values in distances.items() if len(values)}
    low = min(0.03, *(0.8 * values[0] for values in distances.values()))
    high = max(8.0, *(1.25 * values[-1] for values in distances.values()))

    with _open_chart(path) as axes:
        for name, values in distances.items():
            share = np.concatenate(([0.0], np.arange(1, len(values) + 1) / len(values), [1.0]))
            look = _choose_line(name) | {"label": SPLIT_NAMES.get(name, name), "zorder": 4}
            axes.step(np.concatenate(([low], values, [high])), share, where="post", **look)
        for metres in LEAKAGE_RADII_M:
            _add_mark(axes, metres / 1000, format_m(metres), ls=(0, (1.5, 1.5)))

        axes.set(xscale="log", xlim=(low, high), ylim=(0.0, 1.0))
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda km, _: f"{km:,g} km" if km >= 1 else f"{1000 * km:g} m")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="distance to the nearest training place", ylabel="share of places within")

        # The legend lies between two marks, in the corner that the curves leave empty.
        corner: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.055, 1.0)}
        if np.median(np.concatenate(list(distances.values()))) < np.sqrt(low * high):
            corner = {"loc": "lower right", "bbox_to_anchor": (4.5, 0.0)}
        box: dict[str, Any] = {"frameon": True, "framealpha": 1.0, "edgecolor": "none"}
        axes.legend(bbox_transform=axes.get_xaxis_transform(), **corner, **box)


def _choose_line(split: str) -> dict[str, Any]:
    return {"color": SPLIT_COLOURS[split], "lw": 1.8, "ls": "-" if split == "test" else (0, (5, 1.5))}


def _add_mark(axes: Axes, x: float, label: str, **look: Any) -> None:
    axes.axvline(x, color=VERMILION, lw=1.2, zorder=3, **look)
    transform = axes.get_xaxis_transform()
    axes.text(x, 1.02, label, color=VERMILION, transform=transform, ha="center", va="bottom")


@contextmanager
def _open_chart(path: Path) -> Iterator[Axes]:
    """Yields the axes of a picture with one chart, with space for the labels of marks above it."""
    with narrow_picture(path, CHART_IN) as figure:
        yield add_axes(figure, 0.7, 0.5, NARROW_WIDTH_IN - 0.95, CHART_IN - 0.8)


def compute_brightness(sums: npt.NDArray[np.int64], size: int) -> FloatArray:
    """Returns (N, 4) the mean luma of views, from 0 to 255; `sums` is that of `ImageStats`."""
    return sums[:, :, 0] / size**2 @ LUMA_WEIGHTS.astype(np.float64)


def draw_brightness(path: Path, *, luma: FloatArray, mask: BoolArray, splits: npt.NDArray[Any]) -> None:
    """Draws histograms by split of the (N, 4) mean luma of views, from 0 to 255; only views in the mask count."""
    bins = np.linspace(0.0, 255.0, 35 if mask.sum() >= 2000 else 18)
    with _open_chart(path) as axes:
        for name in ("train", "val", "test"):
            values = luma[splits == name][mask[splits == name]]
            if not len(values):
                continue
            share = np.histogram(values, bins)[0] / len(values)
            label = SPLIT_NAMES.get(name, name)
            if name == "train":
                axes.stairs(share, bins, fill=True, color=SPLIT_COLOURS[name], alpha=0.3, zorder=2, label=label)
            else:
                axes.stairs(share, bins, zorder=4, label=label, **_choose_line(name))

        axes.set_xlim(0, 255)
        axes.set_ylim(bottom=0.0)
        axes.set(xlabel="mean brightness of a view: 0 is black, 255 white", ylabel="share of the split's views")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.legend(loc="best")


def format_kb(kilobytes: float) -> str:
    """Returns the size of a file with three digits or more: `5.57 kB`, `74.1 kB`, `12,345 kB`."""
    return f"{kilobytes:,.3g} kB" if kilobytes < 100 else f"{kilobytes:,.0f} kB"


def draw_file_sizes(path: Path, *, file_bytes: npt.NDArray[np.int64]) -> None:
    """Draws a histogram of the sizes of image files, (M,) positive numbers of bytes."""
    kilobytes = np.asarray(file_bytes, dtype=np.float64) / 1000
    median = float(np.median(kilobytes))
    low, high = min(kilobytes.min() / 1.1, median / 2), max(kilobytes.max() * 1.1, median * 2)
    bins = np.geomspace(low, high, 41 if len(kilobytes) >= 1000 else 21)

    with _open_chart(path) as axes:
        axes.hist(kilobytes, bins=bins.tolist(), color=SKY, edgecolor="white", lw=0.3, zorder=2)
        _add_mark(axes, median, f"median {format_kb(median)}")

        # Enough labels on an axis of few decades.
        axes.set(xscale="log", xlim=(low, high))
        steps: tuple[float, ...] = (1.0,) if high >= 200 * low else (1.0, 2.0, 5.0)
        if high < 8 * low:
            steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(format_number)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlabel="size of an image file in kB", ylabel="files")
