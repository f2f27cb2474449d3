"""Computes and plots how predictions and errors change if the view of one heading is left out."""

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
    """Computes the effect of leaving out the view of each heading on predictions and (N,) errors.

    Returns:
        `shift_km` of the prediction and `error_increase_km`, each (2, 4): for each heading the mean, and half the
        width of its 95 % confidence interval. NaN for a heading if no place has a view of it and of another
        heading. The half width is NaN for fewer than MIN_PLACES_FOR_MEAN places; see evaluation/intervals.py.
    """
    coords = left_out.coords_deg.cpu().numpy()
    shift_km = left_out.moved_km.cpu().numpy()
    error_increase_km = haversine_km(coords, true_deg[:, None]) - error_km[:, None]
    return {"shift_km": _compute_means(shift_km), "error_increase_km": _compute_means(error_increase_km)}


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
    """Draws the effects of `compute_heading_effects` with their 95 % intervals."""
    with narrow_picture(path, 2.7) as figure:
        left, right = (add_axes(figure, x, 0.35, 1.95, 2.0) for x in (0.45, 2.95))
        _draw_bars(left, effects["shift_km"], "Shift of the prediction in km", signed=False)
        _draw_bars(right, effects["error_increase_km"], "Increase of the error in km", signed=True)


def _draw_bars(axes: Axes, values: FloatArray, title: str, *, signed: bool) -> None:
    mean, half = values
    headings = np.flatnonzero(np.isfinite(mean))
    colours = [BLUE if not signed else VERMILION if value > 0 else GREEN for value in mean[headings]]
    axes.bar(headings, mean[headings], width=0.6, color=colours)

    at = np.flatnonzero(np.isfinite(half))
    axes.errorbar(at, mean[at], yerr=half[at], fmt="none", ecolor=MUTED, lw=1.0, capsize=3)

    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set_xticks(range(4), NAMES, fontsize=8)
    axes.set_xlim(-0.6, 3.6)
    axes.tick_params(axis="y", labelsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_title(title, fontsize=9)
