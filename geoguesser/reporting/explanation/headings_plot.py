"""Which headings matter: what leaving each view out does to the answers and errors of all places looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.intervals import MIN_PLACES_FOR_MEAN
from geoguesser.geo.distance import haversine_km
from geoguesser.model.attribution import LeaveOneOut
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.style import BLUE, GREEN, MUTED, VERMILION, add_axes, picture

NAMES = ("north", "east", "south", "west")
Z_95 = 1.96  # of a mean of many


def compute_heading_errors(
    left_out: LeaveOneOut, true_deg: FloatArray, error_km: FloatArray
) -> dict[str, FloatArray]:
    """What leaving out each view does.

    Args:
        left_out: Of N places.
        true_deg: (N, 2) where they are.
        error_km: (N,) their errors with all views.

    Returns:
        (2, 4) each, mean and half of its 95 % interval by heading: `moved_km`, how far the answer moves, and
        `worse_km`, by how much the error grows. NaN for a heading that no place has beside another; of fewer
        than 40 places the half is NaN, for their interval would not hold what it says.
    """
    coords = left_out.coords_deg.cpu().numpy()
    worse = haversine_km(coords, true_deg[:, None]) - error_km[:, None]
    return {"moved_km": _means(left_out.moved_km.cpu().numpy()), "worse_km": _means(worse)}


def _means(values: FloatArray) -> FloatArray:
    there = np.isfinite(values)
    counts = there.sum(axis=0)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / counts
        spread = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(axis=0) / (counts - 1))
        half = np.where(counts < MIN_PLACES_FOR_MEAN, np.nan, Z_95 * spread / np.sqrt(counts))
        return np.stack((mean, half))


def draw_headings(path: Path, *, found: dict[str, FloatArray]) -> None:
    """Draws both, with 95 % intervals.

    Args:
        path: The PNG to write.
        found: As `compute_heading_errors` gives it.
    """
    with picture(path, 2.7, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        for left, name, title in (
            (0.1, "moved_km", "Answer moves by, in km"),
            (2.6, "worse_km", "Error grows by, in km"),
        ):
            _draw(add_axes(figure, left + 0.35, 0.35, 1.95, 2.0), found[name], title, signed=name == "worse_km")


def _draw(axes: Axes, found: FloatArray, title: str, *, signed: bool) -> None:
    mean, half = found
    there = np.isfinite(mean)
    at = np.arange(4)[there]
    colours = [BLUE if not signed else VERMILION if one > 0 else GREEN for one in mean[there]]
    axes.bar(at, mean[there], width=0.6, color=colours)
    known = np.isfinite(half)
    axes.errorbar(np.arange(4)[known], mean[known], yerr=half[known], fmt="none", ecolor=MUTED, lw=1.0, capsize=3)
    axes.axhline(0.0, color=MUTED, lw=0.8)
    axes.set_xticks(range(4), NAMES, fontsize=8)
    axes.set_xlim(-0.6, 3.6)
    axes.tick_params(axis="y", labelsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_title(title, fontsize=9)
