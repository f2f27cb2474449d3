"""Plots of a run's uncertainty (calibration, coverage, abstention) and error budget, as in result.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from geoguesser.reporting import style
from geoguesser.system.text import format_count, format_km

GREY = "#BDBDBD"
PERCENT = matplotlib.ticker.PercentFormatter(1.0, decimals=0)
# Key of a group in `budget` -> label and colour of its part of the bar.
CAUSES = {
    "floor_km": ("the grid: one point per cell", GREY),
    "excess_km": ("error in addition to the grid's", style.BLUE),
}
# Key of by_cell -> label and colour. A bar shows the error of these places minus the error due to the grid.
CELLS = {
    "right": ("correct cell", style.GREEN),
    "neighbouring": ("neighbouring cell", style.ORANGE),
    "far": ("distant cell", style.VERMILION),
}


def draw_calibration(path: Path, *, uncertainty: dict[str, Any], title: str = "") -> None:
    """Draws a reliability diagram (left) and the coverage of sets and radii (right) on the test places.

    `uncertainty` is the entry of result.json, from a run with calibration places. For a head without cells, only
    radii are drawn.
    """
    curves = uncertainty["reliability"]
    places = format_count(uncertainty["calibration_places"], "validation place")
    subtitle = f"calibrated on {places} not used for choosing the best epoch"
    if curves is not None:
        subtitle += f"; temperature {uncertainty['temperature']:.2f}"

    with style.picture(path, style.HEADER_IN + 4.9) as figure:
        style.add_header(figure, title or "Calibration", subtitle)
        left, right = (style.add_axes(figure, x, 1.45, 3.9, 3.1) for x in (0.8, 5.75))
        _draw_reliability(left, uncertainty)
        _draw_coverage(right, {"sets of cells": uncertainty["sets"], "radii": uncertainty["radii"]})
        for axes in (left, right):
            axes.legend(loc="upper left", bbox_to_anchor=(-0.03, -0.17), borderaxespad=0.0, labelspacing=0.35)


def _draw_reliability(axes: Axes, uncertainty: dict[str, Any]) -> None:
    axes.set_title("Probability of the most probable cell", fontweight="bold")
    axes.set(xlabel="mean probability in each tenth of the test places", ylabel="share of correct cells")
    axes.plot((0, 1), (0, 1), color=style.MUTED, lw=1.0, ls=(0, (5, 2)), label="perfect calibration")

    if uncertainty["reliability"] is None:
        axes.text(0.66, 0.2, "a head without cells has none", ha="center", color=style.MUTED)
    else:
        for when, colour, marker in (("before", style.SKY, "s"), ("after", style.BLUE, "o")):
            curve = uncertainty["reliability"][when]
            label = f"{when} calibration, expected calibration error {uncertainty[f'ece_{when}']:.1%}"
            look: dict[str, Any] = {"marker": marker, "ms": 5.5, "color": colour, "lw": 1.2}
            axes.plot(curve["confidence"], curve["correct"], label=label, **look)

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _draw_coverage(axes: Axes, kinds: dict[str, dict[str, Any] | None]) -> None:
    axes.set_title("Coverage of sets and radii", fontweight="bold")
    axes.set(xlabel="nominal level", ylabel="share of test places covered")
    # A level is null if there were too few calibration places for it.
    rows_by_kind = {
        name: {level: row for level, row in (rows or {}).items() if row is not None}
        for name, rows in kinds.items()
    }
    levels = list(dict.fromkeys(level for rows in rows_by_kind.values() for level in rows))

    for (name, rows), colour, marker, shift in zip(
        rows_by_kind.items(), (style.ORANGE, style.GREEN), "so", (-0.1, 0.1), strict=True
    ):
        if rows:
            x = [levels.index(level) + shift for level in rows]
            coverage = np.array([row["coverage"] for row in rows.values()])
            limits = np.array([[row[end] for row in rows.values()] for end in ("low", "high")])
            look: dict[str, Any] = {"fmt": marker, "ms": 7, "color": colour, "lw": 1.6, "capsize": 4}
            axes.errorbar(x, coverage, yerr=np.abs(limits - coverage), label=f"{name}, with 95 % interval", **look)

    for column, level in enumerate(levels):
        expected_range = next(rows[level]["usual"] for rows in rows_by_kind.values() if level in rows)
        ends, first = np.array([column - 0.35, column + 0.35]), column == 0
        look = {"color": style.MUTED, "lw": 1.0, "ls": (0, (5, 2)), "label": "nominal" if first else ""}
        axes.plot(ends, np.full(2, float(level) / 100), **look)
        label = "expected in 95 % of calibrations of this size" if first else ""
        axes.fill_between(ends, *expected_range, color=style.SKY, alpha=0.25, lw=0, label=label)

    axes.set_xticks(range(len(levels)), [f"{level} %" for level in levels])
    axes.set_xlim(-0.6, len(levels) - 0.4)
    lows = [row["low"] for rows in rows_by_kind.values() for row in rows.values()]

    # The axis starts at 34 % or lower.
    axes.set_ylim(max(-0.02, min([0.4, *lows]) - 0.06), 1.03)
    axes.yaxis.set_major_formatter(PERCENT)


def draw_abstention(path: Path, *, abstention: dict[str, Any], title: str = "") -> None:
    """Draws the error of the remaining places if the most uncertain places are refused."""
    refused = np.asarray(abstention["refused"])
    subtitle = (
        f"area under the mean: {format_km(abstention['area_km'])}; refused at random "
        f"{format_km(abstention['random_area_km'])}, by true error {format_km(abstention['oracle_area_km'])}"
    )
    series = {
        "error_km_mean": ("mean error of the remaining places", style.BLUE, "o", "-"),
        "error_km_median": ("median error of the remaining places", style.SKY, "s", "-"),
        "oracle_km_mean": ("mean if refused by true error", style.MUTED, "", (0, (1.5, 1.5))),
    }

    with style.picture(path, 4.6) as figure:
        style.add_header(figure, title or "Abstention", subtitle)
        axes = style.add_axes(figure, 0.85, 0.65, 5.75, 4.6 - style.HEADER_IN - 0.75)
        random_km = abstention["random_area_km"]
        axes.axhline(random_km, color=style.MUTED, lw=1.4, ls=(0, (5, 2)), label="mean if refused at random")
        for name, (label, colour, marker, dash) in series.items():
            axes.plot(refused, abstention[name], color=colour, marker=marker, ms=5, ls=dash, label=label)

        axes.set_xlim(-0.02, 0.92)
        largest = max(random_km, *abstention["error_km_mean"], *abstention["error_km_median"])
        axes.set_ylim(0.0, 1.08 * largest or 1.0)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set(xlabel="share of places refused, largest expected errors first", ylabel="error in km")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, labelspacing=0.9)


def draw_budget(path: Path, *, budget: dict[str, Any], title: str = "") -> None:
    """Draws contributions to the mean error: by cause, by distance to training places, by part of the land."""
    parts, distances = budget["by_part"], budget["by_nearest_training_km"]
    rows_in = 0.3 * max(len(parts), len(distances), 3)
    height = style.HEADER_IN + rows_in + 2.65
    subtitle = f"mean error {format_km(budget['error_km_mean'])}, by its sources"

    with style.picture(path, height) as figure:
        style.add_header(figure, title or "Error budget", subtitle)
        _draw_causes(style.add_axes(figure, style.MARGIN_IN, height - style.HEADER_IN - 0.5, 9.5, 0.45), budget)
        left, right = (style.add_axes(figure, x, 1.0, 3.25, rows_in) for x in (1.45, 6.4))
        _draw_groups(left, distances, "By distance to the nearest training place in km")
        _draw_groups(right, parts, "By part of the land")
        if budget["by_cell"] is not None:
            handles = [Patch(color=colour, label=label) for label, colour in CAUSES.values()]
            corner = (style.MARGIN_IN / style.WIDTH_IN, 0.1 / height)
            figure.legend(handles=handles, ncols=2, loc="lower left", bbox_to_anchor=corner, borderpad=0.0)


def _draw_causes(axes: Axes, budget: dict[str, Any]) -> None:
    """Draws one bar: the contribution of the grid, then the contributions beyond it by kind of cell."""
    axes.set_axis_off()
    axes.set(xlim=(0.0, budget["error_km_mean"] or 1.0), ylim=(-0.5, 0.5))

    by_cell = budget["by_cell"]
    if by_cell is None:
        axes.barh(0.0, budget["error_km_mean"], height=1.0, color=style.BLUE)
        axes.text(0.0, -0.75, "a head without cells: no grid, no wrong cells", va="top", color=style.MUTED)
        return

    floor = sum(group["floor_km"] for group in by_cell.values())
    causes: list[tuple[str, str, float, float | None]] = [(CAUSES["floor_km"][0], GREY, floor, None)]
    causes += [(*CELLS[name], by_cell[name]["excess_km"], by_cell[name]["share"]) for name in CELLS]

    # Legend entries stand below the bar at fixed positions.
    start = 0.0
    positions = (0.0, 0.27, 0.53, 0.76)
    for x, (label, colour, km, share) in zip(positions, causes, strict=True):
        axes.barh(0.0, km, left=start, height=1.0, color=colour, edgecolor="white", lw=0.8)
        start += km
        axes.plot(x + 0.006, -0.28, "s", ms=7, color=colour, transform=axes.transAxes, clip_on=False)
        places = "" if share is None else f", {share:.0%} of the places"
        font: dict[str, Any] = {"va": "top", "fontsize": 8.5, "color": style.INK, "linespacing": 1.35}
        axes.text(x + 0.02, -0.12, f"{format_km(km)}{places}\n{label}", transform=axes.transAxes, **font)


def _draw_groups(axes: Axes, groups: dict[str, Any], heading: str) -> None:
    """Draws each group's contribution to the mean error as a bar, labelled with its mean error and its places."""
    axes.set_title(heading, fontweight="bold", x=-0.38)
    names = list(groups)
    longest = max(group["km"] for group in groups.values()) or 1.0

    for row, group in enumerate(groups.values()):
        # Without cells the complete error is drawn as excess.
        parts = group if group["floor_km"] is not None else {"floor_km": 0.0, "excess_km": group["km"]}
        start = 0.0
        for name, (_, colour) in CAUSES.items():
            axes.barh(row, parts[name], left=start, height=0.72, color=colour)
            start += parts[name]

        mean = "" if group["error_km_mean"] is None else f"mean {format_km(group['error_km_mean'])}, "
        places = format_count(group["places"], "place")
        axes.text(start + 0.02 * longest, row, f"{mean}{places}", va="center", fontsize=8, color=style.MUTED)

    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0.0, 1.9 * longest))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("contribution to the mean error in km")
