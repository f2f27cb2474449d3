"""Effect of each heading: changes of predictions and errors if its view is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.intervals import MIN_PLACES_FOR_MEAN
from geoguesser.geo.distance import haversine_km
from geoguesser.model.attribution import LeaveOneOut
from geoguesser.reporting.style import BLUE, GREEN, MUTED, VERMILION, add_axes, narrow_picture

NAMES = ("north", "east", "south", "west")
# 97.5 % quantile of the normal distribution.
Z_95 = 1.96


def compute_heading_effects(
    left_out: LeaveOneOut, true_deg: FloatArray, error_km: FloatArray
) -> dict[str, FloatArray]:
    """Computes the effect of leaving out the view of each heading on (N,) errors.

    Returns:
        `moved_km`, the distance by which predictions move, and `worse_km`, the increase of the error: (2, 4) each,
        mean and half width of its 95 % interval by heading. NaN for a heading that no place has together with
        another. The half width is NaN for fewer than 40 places, whose interval would be too narrow.
    """
    coords = left_out.coords_deg.cpu().numpy()
    worse_km = haversine_km(coords, true_deg[:, None]) - error_km[:, None]
    return {"moved_km": _compute_means(left_out.moved_km.cpu().numpy()), "worse_km": _compute_means(worse_km)}


def _compute_means(values: FloatArray) -> FloatArray:
    """Returns the means of the columns and the half widths of their 95 % intervals, (2, 4), ignoring NaN."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=0)

    # Not nanmean and nanstd, which warn of empty columns.
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0.0).sum(axis=0) / counts
        std = np.sqrt((np.where(finite, values - mean, 0.0) ** 2).sum(axis=0) / (counts - 1))
        half = np.where(counts < MIN_PLACES_FOR_MEAN, np.nan, Z_95 * std / np.sqrt(counts))
    return np.stack((mean, half))


def draw_headings(path: Path, *, effects: dict[str, FloatArray]) -> None:
    """Draws moves and increases of the error with their 95 % intervals."""
    with narrow_picture(path, 2.7) as figure:
        left, right = (add_axes(figure, x, 0.35, 1.95, 2.0) for x in (0.45, 2.95))
        _draw_bars(left, effects["moved_km"], "Prediction moves by, in km", signed=False)
        _draw_bars(right, effects["worse_km"], "Error grows by, in km", signed=True)


def _draw_bars(axes: Axes, values: FloatArray, title: str, *, signed: bool) -> None:
    mean, half = values
    known = np.flatnonzero(np.isfinite(mean))
    colours = [BLUE if not signed else VERMILION if value > 0 else GREEN for value in mean[known]]
    axes.bar(known, mean[known], width=0.6, color=colours)
    with_interval = np.flatnonzero(np.isfinite(half))
    axes.errorbar(
        with_interval,
        mean[with_interval],
        yerr=half[with_interval],
        fmt="none",
        ecolor=MUTED,
        lw=1.0,
        capsize=3,
    )

    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set_xticks(range(4), NAMES, fontsize=8)
    axes.set_xlim(-0.6, 3.6)
    axes.tick_params(axis="y", labelsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_title(title, fontsize=9)
