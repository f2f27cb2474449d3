"""Picture of a sweep: its jobs by validation error, and the error over each varied key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from geoguesser.arrays import FloatArray
from geoguesser.reporting import style
from geoguesser.system.text import format_km, shorten

MAX_JOBS = 40
MAX_KEYS = 3
ROW_IN, LABEL_IN, PANEL_IN = 0.22, 3.6, 2.2
# Ratio of the largest to the smallest number from which the axis is logarithmic.
LOG_RATIO = 4.0


def draw_sweep(path: Path, *, table: pd.DataFrame, varied: list[str], left_out: int, title: str) -> None:
    """Draws the jobs as rows, best first, and a panel for each of the first varied keys.

    `table` has one row per finished job, by validation error, at least one row: val_error_km_mean,
    test_error_km_mean, and the columns of `varied`, which hold the values of the varied keys as text. `left_out`
    jobs have no results.
    """
    shown = table.head(MAX_JOBS)
    keys = varied[:MAX_KEYS]
    jobs_in = max(ROW_IN * len(shown), 0.6)
    panels_in = PANEL_IN + 1.1 if keys else 0.0
    height = style.HEADER_IN + 0.1 + jobs_in + 0.65 + panels_in

    with style.picture(path, height) as figure:
        best = format_km(float(table["val_error_km_mean"].iloc[0]))
        parts = [f"{len(table)} jobs, lowest validation error {best}"]
        parts += [f"the best {MAX_JOBS} are drawn"] if len(table) > MAX_JOBS else []
        parts += [f"{left_out} without results left out"] if left_out else []
        style.add_header(figure, title, "; ".join(parts))

        bottom = 0.65 + panels_in
        axes = style.add_axes(figure, LABEL_IN, bottom, style.WIDTH_IN - LABEL_IN - 0.4, jobs_in)
        _draw_jobs(axes, shown, varied)
        width = (style.WIDTH_IN - 0.9) / MAX_KEYS
        for column, key in enumerate(keys):
            axes = style.add_axes(figure, 0.7 + column * width, 0.65, width - 0.55, PANEL_IN)
            _draw_key(axes, table, key, first=column == 0)


def shorten_label(value: str) -> str:
    """Shortens a number of a search to four digits; other values are unchanged."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def _draw_jobs(axes: Axes, shown: pd.DataFrame, varied: list[str]) -> None:
    rows = np.arange(len(shown))
    val, test = shown["val_error_km_mean"].to_numpy(float), shown["test_error_km_mean"].to_numpy(float)
    axes.hlines(rows, np.fmin(val, test), np.fmax(val, test), color=style.FAINT, linewidth=2.0, zorder=1)
    axes.plot(test, rows, "o", color=style.ORANGE, markersize=5, label="test", zorder=2)
    axes.plot(val, rows, "o", color=style.BLUE, markersize=6, markerfacecolor="none", label="validation", zorder=3)

    axes.set_yticks(rows, [_make_label(row, varied) for _, row in shown.iterrows()], fontsize=8)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="mean error, km")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1, handletextpad=0.2)


def _make_label(row: pd.Series, varied: list[str]) -> str:
    parts = [f"{key.split('.')[-1]} {shorten_label(row[key])}" for key in varied if row[key] != ""]
    return shorten(", ".join(parts) or str(row["job"]), 52)


def _draw_key(axes: Axes, table: pd.DataFrame, key: str, *, first: bool) -> None:
    jobs = table[table[key] != ""]
    error = jobs["val_error_km_mean"].to_numpy(float)
    numbers = _parse_numbers(jobs[key])
    names = list(dict.fromkeys(jobs[key])) if numbers is None else []
    x = np.array([names.index(value) for value in jobs[key]], dtype=float) if numbers is None else numbers

    axes.plot(x, error, "o", color=style.BLUE, markersize=5, alpha=0.7)
    ticks = np.unique(x)
    means = [error[x == tick].mean() for tick in ticks]
    axes.plot(ticks, means, "-" if numbers is not None else "_", color=style.MUTED, linewidth=1.2, markersize=16)

    if numbers is None:
        axes.set_xticks(range(len(names)), [shorten(name, 14) for name in names], rotation=20, ha="right")
        axes.set_xlim(-0.6, len(names) - 0.4)
    elif ticks.min() > 0 and ticks.max() / ticks.min() >= LOG_RATIO:
        axes.set_xscale("log")
    if numbers is not None and len(ticks) <= 6:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_title(shorten(key, 34))
    if first:
        axes.set_ylabel("validation error, km")


def _parse_numbers(values: pd.Series) -> FloatArray | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
