"""Pictures of a comparison: intervals, errors against training time, shares, curves, error maps on one scale.

As those of a dataset they are narrow and bear no heading: a page shows them, with words of its own.
Groups have letters, so that no picture leans on colours alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.comparison import BASELINE, BETTER, UNCLEAR, WORSE, Comparison, GroupResult
from geoguesser.geo.region import Region
from geoguesser.reporting.maps import ERROR_COLOURS, choose_dot_size_pt, set_map
from geoguesser.reporting.projections import make_projection
from geoguesser.reporting.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    add_axes,
    picture,
)
from geoguesser.system.text import format_number

WIDTH_IN, SHARP_DPI = 5.0, 200
ROW_IN = 0.34  # of a list of intervals
BROWN, GREY = "#8C564B", "#7F7F7F"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BROWN, GREY)
MAX_CURVES = len(COLOURS)
VERDICT_COLOURS = {BASELINE: INK, BETTER: GREEN, WORSE: VERMILION, UNCLEAR: ORANGE}  # others are grey


def choose_colours(comparison: Comparison) -> dict[str, str]:
    """A colour for each letter that curves show: the baseline and those of least error."""
    shown = [entry.letter for entry in select_entries(comparison, MAX_CURVES)]
    return dict(zip(shown, COLOURS, strict=False))


def select_entries(comparison: Comparison, most: int) -> list[GroupResult]:
    """At most `most` entries, by ascending error; the baseline is always among them."""
    entries = list(comparison.entries)
    if comparison.baseline < most:
        return entries[:most]
    return [*entries[: most - 1], entries[comparison.baseline]]


def draw_intervals(path: Path, comparison: Comparison) -> None:
    """Draws the mean error of each entry with its interval."""
    colours = choose_colours(comparison)
    rows = [(entry.letter, entry.mean, colours.get(entry.letter, MUTED)) for entry in comparison.entries]
    _draw_rows(path, rows, "mean error in km", None)


def draw_differences(path: Path, comparison: Comparison) -> None:
    """Draws each entry's mean difference from the baseline with its interval, and where there is none."""
    rows = [
        (entry.letter, found.mean, VERDICT_COLOURS.get(found.verdict, MUTED))
        for entry in comparison.entries
        if (found := entry.difference) is not None and found.mean is not None
    ]
    _draw_rows(path, rows, f"mean error less that of {_base(comparison).letter}, in km", 0.0)


def _base(comparison: Comparison) -> GroupResult:
    return comparison.entries[comparison.baseline]


def _draw_rows(path: Path, rows: Sequence[tuple[str, Any, str]], label: str, line: float | None) -> None:
    height = 0.75 + ROW_IN * len(rows)
    with picture(path, height, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.5, 0.6, WIDTH_IN - 0.65, height - 0.7)
        for at, (_, interval, colour) in enumerate(rows):
            if interval.low is not None and interval.high is not None:
                axes.plot((interval.low, interval.high), (at, at), color=colour, lw=2.4, solid_capstyle="butt")
            axes.plot(interval.value, at, "o", color=colour, ms=6, mec="white", mew=0.8, zorder=4)
        if line is not None:
            axes.axvline(line, color=INK, lw=1.0)
        axes.set_yticks(range(len(rows)), [letter for letter, _, _ in rows], fontweight="bold")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(format_number)
        axes.set_xlabel(label)


def draw_times(path: Path, comparison: Comparison) -> None:
    """Draws mean error against the time of training, and the line of those that nothing beats in both."""
    entries = comparison.entries
    times, errors = (
        np.array(values) for values in zip(*((max(e.fit_s, 1e-3), e.mean.value) for e in entries), strict=True)
    )
    with picture(path, 3.6, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.62, 0.55, WIDTH_IN - 0.85, 2.9)
        best, colours = find_pareto_front(times, errors), choose_colours(comparison)
        axes.step(times[best], errors[best], where="post", color=MUTED, lw=1.2, ls=(0, (4, 2)), zorder=2)
        for entry, time, error in zip(entries, times, errors, strict=True):
            colour = colours.get(entry.letter, MUTED)
            if entry.mean.low is not None and entry.mean.high is not None:
                axes.plot((time, time), (entry.mean.low, entry.mean.high), color=colour, lw=1.4, alpha=0.45)
            axes.plot(time, error, "o", color=colour, ms=6, mec="white", mew=0.8, zorder=4)
            axes.annotate(
                entry.letter, (time, error), (5, 4), textcoords="offset points", fontweight="bold", zorder=5
            )
        _log_seconds(axes, times)
        axes.set_xlabel("time of training in seconds")
        axes.set_ylabel("mean error in km")
        axes.yaxis.set_major_formatter(format_number)


def find_pareto_front(times: FloatArray, errors: FloatArray) -> list[int]:
    """The entries that no other beats in both time and error, by ascending time (the Pareto front)."""
    found: list[int] = []
    for at in np.lexsort((errors, times)):
        if not found or errors[at] < errors[found[-1]]:
            found.append(int(at))
    return found


def _log_seconds(axes: Axes, times: FloatArray) -> None:
    axes.set_xscale("log")
    low, high = float(times.min()), float(times.max())
    pad = max(1.25, (high / low) ** 0.08)
    axes.set_xlim(low / pad, high * pad)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    if high / low < 2.5:  # a log axis would have no tick
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(format_number)
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_shares(path: Path, comparison: Comparison) -> None:
    """Draws the share of test places within each distance: where in the errors the runs part."""
    colours = choose_colours(comparison)
    entries = select_entries(comparison, MAX_CURVES)
    pooled = np.concatenate([entry.group.errors.ravel() for entry in entries])
    low = max(float(np.percentile(pooled, 1)), 0.01)
    with picture(path, 3.4, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.62, 0.55, WIDTH_IN - 0.8, 2.7)
        for number, entry in enumerate(entries):
            errors = np.sort(entry.group.errors.ravel())
            share = np.arange(1, len(errors) + 1) / len(errors)
            axes.step(errors, share, where="post", color=colours[entry.letter], lw=1.5, label=entry.letter)
            middle = min(int((0.25 + 0.06 * number) * len(errors)), len(errors) - 1)
            _letter(axes, entry.letter, colours[entry.letter], (float(errors[middle]), float(share[middle])))
        axes.set_xscale("log")
        axes.set_xlim(low, float(pooled.max()) * 1.1)
        axes.set_ylim(0.0, 1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.xaxis.set_major_formatter(format_number)
        axes.set_xlabel("error in km, at most")
        axes.set_ylabel("share of test places")


def _letter(axes: Axes, letter: str, colour: str, at: tuple[float, float]) -> None:
    """Writes a group's letter on its curve."""
    look: dict[str, Any] = {"fontweight": "bold", "fontsize": 8, "ha": "center", "va": "center", "zorder": 6}
    box = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": colour, "lw": 0.8}
    axes.text(*at, letter, color=colour, bbox=box, clip_on=True, **look)


def draw_learning(path: Path, comparison: Comparison) -> None:
    """Draws the mean validation error over the epochs, a line per run, in its group's colour."""
    colours = choose_colours(comparison)
    ends: list[float] = []
    with picture(path, 3.4, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.62, 0.55, WIDTH_IN - 0.8, 2.7)
        lengths: list[int] = []
        for number, entry in enumerate(select_entries(comparison, MAX_CURVES)):
            colour, runs = colours[entry.letter], entry.group.runs
            for run in runs:
                curve = run.history[["epoch", "val/error_km_mean"]].dropna().to_numpy(dtype=np.float64)
                few = len(curve) <= 2
                look: dict[str, Any] = {
                    "lw": 1.5 if len(runs) == 1 else 0.9,
                    "marker": "o" if few else "",
                    "ms": 4,
                }
                axes.plot(curve[:, 0] + 1, curve[:, 1], color=colour, alpha=1 if len(runs) == 1 else 0.7, **look)
                lengths.append(len(curve))
                ends += curve[len(curve) // 4 :, 1].tolist()
            at = min(len(curve) - 1, (number * len(curve)) // MAX_CURVES + len(curve) // 3) if len(curve) else 0
            if len(curve):
                _letter(axes, entry.letter, colour, (float(curve[at, 0]) + 1, float(curve[at, 1])))
        if ends:
            low, high = min(ends), max(ends)
            axes.set_ylim(low - 0.08 * (high - low + 1e-6), high + 0.35 * (high - low + 1e-6))
        if max(lengths, default=0) > 60:
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(
            MaxNLocator(6, integer=True) if max(lengths, default=0) <= 60 else LogLocator()
        )
        axes.xaxis.set_major_formatter(format_number)
        axes.yaxis.set_major_formatter(format_number)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean validation error in km")


def compute_scale_end(entries: Sequence[GroupResult]) -> float:
    """Where the colours of all error maps end, in km: past 95 % of all their errors."""
    return float(np.percentile(np.concatenate([entry.group.error_km for entry in entries]), 95)) or 1.0


def draw_error_map(path: Path, *, region: Region, entry: GroupResult, top_km: float) -> None:
    """Draws the test places of an entry, coloured by error on a scale from 0 to `top_km`, large ones above."""
    frame = make_projection(region)
    xy = frame.project(entry.group.true_deg)
    west, south, east, north = bounds = frame.bounds(xy, [])
    left, below = (0.55, 0.3) if frame.stretch > 1 else (0.1, 0.42)
    across = WIDTH_IN - left - 0.1
    up = float(np.clip(across * (north - south) * frame.stretch / (east - west), 1.8, 6.5))
    order = np.argsort(entry.group.error_km, kind="stable")
    with picture(path, up + below + 0.1, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = set_map(figure, (left, below, across, up), frame, bounds)
        colours = ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS)
        size_pt = float(np.clip(1.2 * choose_dot_size_pt(len(order)), 1.6, 6.0))
        few = len(order) <= 1000
        look: dict[str, Any] = {"linewidths": 0.4 if few else 0.0, "edgecolors": "white", "zorder": 4}
        look |= {"s": size_pt**2, "c": colours.to_rgba(entry.group.error_km[order])}
        axes.scatter(*xy[order].T, **look)


def draw_answers(
    path: Path, *, region: Region, true_deg: FloatArray, answers: Sequence[tuple[str, str, FloatArray]]
) -> None:
    """Draws where one place is, and where the groups put it.

    Args:
        path: The PNG to write.
        region: The land.
        true_deg: (2,) where it is: a star.
        answers: Letter, colour and (2,) answer in degrees of each group, at least one.
    """
    frame = make_projection(region)
    points = frame.project(np.stack([true_deg, *(answer for _, _, answer in answers)]))
    low, high = points.min(axis=0), points.max(axis=0)
    whole = frame.bounds(points[:1], [])
    half = np.maximum(0.62 * (high - low).max(), 0.08 * (whole[2:] - whole[:2]).max())
    centre = (low + high) / 2
    up = 2.4
    shape = np.array((half * (WIDTH_IN - 0.65) / up, half)) * (1.0, 1.0 / frame.stretch)
    left, below = (0.55, 0.3) if frame.stretch > 1 else (0.1, 0.42)
    bounds = np.concatenate((centre - shape, centre + shape))
    with picture(path, up + below + 0.1, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = set_map(figure, (left, below, WIDTH_IN - left - 0.1, up), frame, bounds)
        for (letter, colour, _), point in zip(answers, points[1:], strict=True):
            axes.plot(*np.stack((points[0], point)).T, color=colour, lw=1.2, alpha=0.7, zorder=5)
            _letter(axes, letter, colour, (float(point[0]), float(point[1])))
        axes.plot(*points[0], "*", color=INK, ms=13, mec="white", mew=0.8, zorder=7)


def draw_scale(path: Path, top_km: float) -> None:
    """Draws the colours of the error maps."""
    with picture(path, 0.62, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        bar = figure.colorbar(
            ScalarMappable(Normalize(0.0, top_km), ERROR_COLOURS),
            cax=add_axes(figure, 0.25, 0.4, WIDTH_IN - 0.6, 0.14),
            extend="max",
            orientation="horizontal",
            format=FuncFormatter(format_number),
        )
        bar.outline.set_visible(False)
        bar.ax.grid(False)
        bar.ax.tick_params(labelsize=8)
        figure.text(1 - 0.05 / WIDTH_IN, 0.02, "km", fontsize=8, ha="right", va="bottom")
