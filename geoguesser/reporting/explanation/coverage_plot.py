"""Plots how often cells, conformal sets and conformal radii contain the true position, by nominal level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.model import conformal
from geoguesser.model.uncertainty import HeadOutput, apply_temperature, compute_raw_expected_km
from geoguesser.reporting.style import BLUE, GREEN, MUTED, NARROW_WIDTH_IN, ORANGE, add_axes, narrow_picture

# 5 % to 95 %.
NOMINAL_LEVELS = np.arange(1, 20) / 20
MASS, SETS, RADII = "most probable cells (by softmax)", "sets of cells", "radii"
STYLES = {MASS: (BLUE, "-"), SETS: (ORANGE, "--"), RADII: (GREEN, "-.")}


@dataclass(frozen=True)
class LabelledOutput:
    """Head output of N places with their true cells, None for a head without cells, and errors."""

    output: HeadOutput
    true_cell: IntArray | None
    error_km: FloatArray


def count_covered_places(
    test: LabelledOutput, calibration: LabelledOutput | None, temperature: float | None
) -> dict[str, FloatArray]:
    """Counts the test places that are covered at each level of `NOMINAL_LEVELS`, (19,) by name.

    Cells by softmax are the most probable cells whose probabilities sum to the level. Sets and radii are
    conformal: their threshold is chosen so that they cover the level's share of the calibration places
    (model/conformal.py). Counts are NaN at levels for which there are too few of these. `temperature` is None for
    an uncalibrated run.
    """
    covered: dict[str, FloatArray] = {}
    test_scores = _compute_scores(test, temperature)
    if test_scores is not None:
        covered[MASS] = np.array([(test_scores < level).sum() for level in NOMINAL_LEVELS], dtype=np.float64)
    if calibration is None:
        return covered

    calibration_scores = _compute_scores(calibration, temperature)
    if test_scores is not None and calibration_scores is not None:
        covered[SETS] = _count_covered(test_scores, calibration_scores)

    covered[RADII] = _count_covered(
        _compute_error_ratios(test, temperature), _compute_error_ratios(calibration, temperature)
    )
    return covered


def _compute_error_ratios(places: LabelledOutput, temperature: float | None) -> FloatArray:
    """Returns the scores of radii, (N,): errors relative to the uncalibrated expected errors."""
    temperature = None if places.output.logits is None else temperature or 1.0
    return places.error_km / compute_raw_expected_km(places.output, temperature)


def _compute_scores(places: LabelledOutput, temperature: float | None) -> FloatArray | None:
    """Returns the total probability of all cells that are more probable than the true cell, (N,)."""
    if places.output.logits is None or places.true_cell is None:
        return None
    scores = conformal.compute_mass_scores(apply_temperature(places.output.logits, temperature or 1.0))
    return scores[np.arange(len(scores)), places.true_cell]


def _count_covered(scores: FloatArray, calibration_scores: FloatArray) -> FloatArray:
    """Counts, for each level, the scores up to the threshold from the calibration; NaN if that is infinite."""
    quantiles = [conformal.compute_quantile(calibration_scores, float(level)) for level in NOMINAL_LEVELS]
    thresholds = np.array(quantiles)
    return np.where(np.isfinite(thresholds), (scores[None] <= thresholds[:, None]).sum(axis=1), np.nan)


def draw_coverage(path: Path, *, covered: dict[str, FloatArray], places: int) -> None:
    """Draws the covered share of test places against the nominal level, with Wilson's 95 % intervals."""
    with narrow_picture(path, 4.3) as figure:
        axes = add_axes(figure, left_in=0.65, bottom_in=0.55, width_in=NARROW_WIDTH_IN - 0.85, height_in=3.6)
        axes.plot((0, 1), (0, 1), color=MUTED, lw=1.0, ls=(0, (5, 2)), label="nominal")

        for name, counts in covered.items():
            finite = np.isfinite(counts)
            limits = [conformal.compute_interval_95(int(count), places) for count in counts[finite]]
            low, high = np.array(limits).reshape(-1, 2).T
            colour, dash = STYLES[name]
            axes.fill_between(NOMINAL_LEVELS[finite], low, high, color=colour, alpha=0.13, lw=0)
            share = counts[finite] / places
            axes.plot(NOMINAL_LEVELS[finite], share, color=colour, ls=dash, marker="o", ms=3, label=name)

        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="nominal level", ylabel="share of test places covered")
        axes.legend(loc="upper left")
