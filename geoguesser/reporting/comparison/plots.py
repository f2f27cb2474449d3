"""Charts and maps of a comparison, narrow and without titles, for a page with captions.

Groups are marked by letters, so that no picture depends on colours only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.comparison import BASELINE, BETTER, NOT_CLEAR, WORSE, Comparison, GroupResult
from geoguesser.evaluation.intervals import Interval
from geoguesser.geo.region import Region
from geoguesser.reporting import style
from geoguesser.reporting.maps import ERROR_COLOURS, choose_dot_size_pt, get_map_margins_in, open_map, set_map
from geoguesser.reporting.projections import make_projection
from geoguesser.system.text import format_number

ROW_IN = 0.34
MAX_LINEAR_EPOCHS = 60
MAX_EDGED_DOTS = 1000
MIN_TIME_S = 1e-3
BROWN, GREY = "#8C564B", "#7F7F7F"
COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, BROWN, GREY)
MAX_CURVES = len(COLOURS)

# Other verdicts are grey.
VERDICT_COLOURS = {BASELINE: style.INK, BETTER: style.GREEN, WORSE: style.VERMILION, NOT_CLEAR: style.ORANGE}


def choose_colours(comparison: Comparison) -> dict[str, str]:
    """Returns the colours of the groups that have curves: the baseline and the groups of least error."""
    shown = [entry.letter for entry in select_entries(comparison, MAX_CURVES)]
    return dict(zip(shown, COLOURS, strict=False))


def select_entries(comparison: Comparison, max_entries: int) -> list[GroupResult]:
    """Returns the entries of least error with the baseline, at most `max_entries`, by ascending error."""
    entries = list(comparison.entries)
    if comparison.baseline < max_entries:
        return entries[:max_entries]
    return [*entries[: max_entries - 1], entries[comparison.baseline]]


def draw_intervals(path: Path, comparison: Comparison) -> None:
    """Draws the mean error of each entry with its interval."""
    colours = choose_colours(comparison)
    rows = [(entry.letter, entry.mean, colours.get(entry.letter, style.MUTED)) for entry in comparison.entries]
    _draw_rows(path, rows, "mean error in km", None)


def draw_differences(path: Path, comparison: Comparison) -> None:
    """Draws the mean difference of each entry from the baseline with its interval, and a line at 0."""
    rows = [
        (entry.letter, difference.mean, VERDICT_COLOURS.get(difference.verdict, style.MUTED))
        for entry in comparison.entries
        if (difference := entry.difference) is not None and difference.mean is not None
    ]
    base = comparison.entries[comparison.baseline]
    _draw_rows(path, rows, f"mean error less that of {base.letter}, in km", 0.0)


def _draw_rows(path: Path, rows: Sequence[tuple[str, Interval, str]], label: str, line: float | None) -> None:
    height = 0.75 + ROW_IN * len(rows)
    with style.narrow_picture(path, height) as figure:
        axes = style.add_axes(figure, 0.5, 0.6, style.NARROW_WIDTH_IN - 0.65, height - 0.7)
        for row, (_, interval, colour) in enumerate(rows):
            if interval.low is not None and interval.high is not None:
                axes.plot((interval.low, interval.high), (row, row), color=colour, lw=2.4, solid_capstyle="butt")
            axes.plot(interval.value, row, "o", color=colour, ms=6, mec="white", mew=0.8, zorder=4)
        if line is not None:
            axes.axvline(line, color=style.INK, lw=1.0)

        axes.set_yticks(range(len(rows)), [letter for letter, _, _ in rows], fontweight="bold")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(format_number)
        axes.set_xlabel(label)


def draw_times(path: Path, comparison: Comparison) -> None:
    """Draws mean error by training time, and the Pareto front as a dashed line."""
    entries, colours = comparison.entries, choose_colours(comparison)
    times = np.array([max(entry.fit_s, MIN_TIME_S) for entry in entries])
    errors = np.array([entry.mean.value for entry in entries])
    front = find_pareto_front(times, errors)

    with style.narrow_picture(path, 3.6) as figure:
        axes = style.add_axes(figure, 0.62, 0.55, style.NARROW_WIDTH_IN - 0.85, 2.9)
        axes.step(times[front], errors[front], where="post", color=style.MUTED, lw=1.2, ls=(0, (4, 2)), zorder=2)
        for entry, time, error in zip(entries, times, errors, strict=True):
            colour = colours.get(entry.letter, style.MUTED)
            if entry.mean.low is not None and entry.mean.high is not None:
                axes.plot((time, time), (entry.mean.low, entry.mean.high), color=colour, lw=1.4, alpha=0.45)
            axes.plot(time, error, "o", color=colour, ms=6, mec="white", mew=0.8, zorder=4)
            look: dict[str, Any] = {"textcoords": "offset points", "fontweight": "bold", "zorder": 5}
            axes.annotate(entry.letter, (time, error), (5, 4), **look)

        _log_seconds(axes, times)
        axes.set(xlabel="time of training in seconds", ylabel="mean error in km")
        axes.yaxis.set_major_formatter(format_number)


def find_pareto_front(times: FloatArray, errors: FloatArray) -> list[int]:
    """Returns the indices of the Pareto front of time and error, by ascending time."""
    front: list[int] = []
    for index in np.lexsort((errors, times)):
        if not front or errors[index] < errors[front[-1]]:
            front.append(int(index))
    return front


def _log_seconds(axes: Axes, times: FloatArray) -> None:
    axes.set_xscale("log")
    low, high = float(times.min()), float(times.max())
    pad = max(1.25, (high / low) ** 0.08)
    axes.set_xlim(low / pad, high * pad)
    style.set_log_ticks(axes.xaxis, high / low)

    # A logarithmic axis of so short a range would have no tick.
    if high / low < 2.5:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def draw_shares(path: Path, comparison: Comparison) -> None:
    """Draws the cumulative distribution of errors: the share of test places within each distance."""
    colours = choose_colours(comparison)
    entries = select_entries(comparison, MAX_CURVES)
    pooled = np.concatenate([entry.group.errors.ravel() for entry in entries])
    low = max(float(np.percentile(pooled, 1)), 0.01)

    with style.narrow_picture(path, 3.4) as figure:
        axes = style.add_axes(figure, 0.62, 0.55, style.NARROW_WIDTH_IN - 0.8, 2.7)
        for index, entry in enumerate(entries):
            errors = np.sort(entry.group.errors.ravel())
            share = np.arange(1, len(errors) + 1) / len(errors)
            axes.step(errors, share, where="post", color=colours[entry.letter], lw=1.5, label=entry.letter)

            # Letters stand at different heights, so that they do not overlap.
            middle = min(int((0.25 + 0.06 * index) * len(errors)), len(errors) - 1)
            _draw_letter(axes, entry.letter, colours[entry.letter], (errors[middle], share[middle]))

        axes.set(xscale="log", xlim=(low, float(pooled.max()) * 1.1), ylim=(0.0, 1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_formatter(format_number)
        axes.set(xlabel="error in km, at most", ylabel="share of test places")


def _draw_letter(axes: Axes, letter: str, colour: str, point: tuple[Any, Any]) -> None:
    font: dict[str, Any] = {"fontweight": "bold", "fontsize": 8, "ha": "center", "va": "center", "zorder": 6}
    box = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": colour, "lw": 0.8}
    axes.text(float(point[0]), float(point[1]), letter, color=colour, bbox=box, clip_on=True, **font)


def draw_learning(path: Path, comparison: Comparison) -> None:
    """Draws the mean validation error by epoch, a line per run in the colour of its group."""
    colours = choose_colours(comparison)
    late: list[float] = []
    epochs = 0
    with style.narrow_picture(path, 3.4) as figure:
        axes = style.add_axes(figure, 0.62, 0.55, style.NARROW_WIDTH_IN - 0.8, 2.7)
        for index, entry in enumerate(select_entries(comparison, MAX_CURVES)):
            colour, runs = colours[entry.letter], entry.group.runs
            width, alpha = (1.5, 1.0) if len(runs) == 1 else (0.9, 0.7)
            for run in runs:
                curve = run.history[["epoch", "val/error_km_mean"]].dropna().to_numpy(dtype=np.float64)
                x, y = curve[:, 0] + 1, curve[:, 1]
                axes.plot(x, y, color=colour, alpha=alpha, lw=width, marker="o" if len(x) <= 2 else "", ms=4)
                epochs = max(epochs, len(x))
                late += y[len(y) // 4 :].tolist()

            # The letter stands on the curve of the last run, farther right for each entry.
            if len(x):
                middle = min(len(x) - 1, index * len(x) // MAX_CURVES + len(x) // 3)
                _draw_letter(axes, entry.letter, colour, (x[middle], y[middle]))

        # Large errors of the first epochs do not set the scale.
        if late:
            low, span = min(late), max(late) - min(late) + 1e-6
            axes.set_ylim(low - 0.08 * span, max(late) + 0.35 * span)
        if epochs > MAX_LINEAR_EPOCHS:
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator() if epochs > MAX_LINEAR_EPOCHS else MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(format_number)
        axes.yaxis.set_major_formatter(format_number)
        axes.set(xlabel="epoch", ylabel="mean validation error in km")


def draw_error_map(path: Path, *, region: Region, entry: GroupResult, top_km: float) -> None:
    """Draws the test places of an entry, coloured by error from 0 to `top_km`, with large errors on top."""
    frame = make_projection(region)
    xy = frame.project(entry.group.true_deg)

    order = np.argsort(entry.group.error_km, kind="stable")
    colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)
    size_pt = float(np.clip(1.2 * choose_dot_size_pt(len(order)), 1.6, 6.0))
    with open_map(path, frame, frame.bounds(xy, [])) as axes:
        faces = colours.to_rgba(entry.group.error_km[order])
        edge_pt = 0.4 if len(order) <= MAX_EDGED_DOTS else 0.0
        x, y = xy[order].T
        axes.scatter(x, y, s=size_pt**2, c=faces, linewidths=edge_pt, edgecolors="white", zorder=4)


def draw_predictions(
    path: Path, *, region: Region, true_deg: FloatArray, predictions: Sequence[tuple[str, str, FloatArray]]
) -> None:
    """Draws the true point of a place as a star, and letter, colour and (2,) point in degrees of each group."""
    frame = make_projection(region)
    points = frame.project(np.stack([true_deg, *(point for _, _, point in predictions)]))
    low, high = points.min(axis=0), points.max(axis=0)
    land = frame.bounds(points[:1], [])
    left, below = get_map_margins_in(frame)
    height = 2.4

    # The section is centred on the points, and never smaller than a sixth of the land.
    half = np.maximum(0.62 * (high - low).max(), 0.08 * (land[2:] - land[:2]).max())
    reach = np.array((half * (style.NARROW_WIDTH_IN - 0.65) / height, half)) * (1.0, 1.0 / frame.stretch)
    centre = (low + high) / 2
    bounds = np.concatenate((centre - reach, centre + reach))

    with style.narrow_picture(path, height + below + 0.1) as figure:
        axes = set_map(figure, (left, below, style.NARROW_WIDTH_IN - left - 0.1, height), frame, bounds)
        for (letter, colour, _), point in zip(predictions, points[1:], strict=True):
            axes.plot(*np.stack((points[0], point)).T, color=colour, lw=1.2, alpha=0.7, zorder=5)
            _draw_letter(axes, letter, colour, tuple(point))
        axes.plot(*points[0], "*", color=style.INK, ms=13, mec="white", mew=0.8, zorder=7)


def draw_colour_scale(path: Path, top_km: float) -> None:
    """Draws the colour scale of the error maps."""
    with style.narrow_picture(path, 0.62) as figure:
        colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)
        box = (0.25, 0.4, style.NARROW_WIDTH_IN - 0.6, 0.14)
        style.add_colour_bar(figure, box, colours, extend="max").ax.tick_params(labelsize=8)
        figure.text(1 - 0.05 / style.NARROW_WIDTH_IN, 0.02, "km", fontsize=8, ha="right", va="bottom")
