"""Coverage at every level: how often what is promised to hold the true place does, where nothing was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.model import conformal
from geoguesser.model.uncertainty import HeadOutput, apply_temperature, compute_raw_expected_km
from geoguesser.reporting.comparison.plots import SHARP_DPI, WIDTH_IN
from geoguesser.reporting.style import BLUE, GREEN, MUTED, ORANGE, add_axes, picture

NOMINAL = np.arange(1, 20) / 20  # 5 % to 95 %
MASS, SETS, RADII = "cells by their probability", "sets of cells", "radii"
STYLES = {MASS: (BLUE, "-"), SETS: (ORANGE, "--"), RADII: (GREEN, "-.")}


@dataclass(frozen=True)
class LabelledOutput:
    """Places whose truth is known.

    Attributes:
        said: What the head says of them.
        cell: (N,) their true cells; None for a head without.
        error_km: (N,) the errors of the answers.
    """

    said: HeadOutput
    cell: IntArray | None
    error_km: FloatArray


def compute_coverage(
    test: LabelledOutput, held_out: LabelledOutput | None, temperature: float | None
) -> dict[str, FloatArray]:
    """Name -> (19,) how many test places are held at each of the `NOMINAL` levels; NaN where none is promised.

    `cells by their probability`: the most probable cells that together have so much of it. `sets of cells` and
    `radii`: those that hold so many of the calibration places (model/conformal.py).

    Args:
        test: The places that are counted.
        held_out: The calibration places; None where they are no longer there.
        temperature: Of the probabilities; None where nothing calibrated them.
    """
    found: dict[str, FloatArray] = {}
    own = _scores(test, temperature)
    if own is not None:
        found[MASS] = np.array([(own < level).sum() for level in NOMINAL], dtype=np.float64)
    if held_out is None:
        return found
    taught = _scores(held_out, temperature)
    if own is not None and taught is not None:
        found[SETS] = _held(own, taught)
    raw, taught_raw = (compute_raw_expected_km(one.said, _warm(one, temperature)) for one in (test, held_out))
    found[RADII] = _held(test.error_km / raw, held_out.error_km / taught_raw)
    return found


def _warm(places: LabelledOutput, temperature: float | None) -> float | None:
    return None if places.said.logits is None else temperature or 1.0


def _scores(places: LabelledOutput, temperature: float | None) -> FloatArray | None:
    """(N,) the mass of all cells that are more probable than the true one."""
    if places.said.logits is None or places.cell is None:
        return None
    scores = conformal.compute_mass_scores(apply_temperature(places.said.logits, temperature or 1.0))
    return scores[np.arange(len(scores)), places.cell]


def _held(scores: FloatArray, taught: FloatArray) -> FloatArray:
    most = np.array([conformal.compute_quantile(taught, float(level)) for level in NOMINAL])
    return np.where(np.isfinite(most), (scores[None] <= most[:, None]).sum(axis=1), np.nan)


def draw_coverage(path: Path, *, held: dict[str, FloatArray], places: int) -> None:
    """Draws the share that is held against the share that is promised, with Wilson's 95 % intervals.

    Args:
        path: The PNG to write.
        held: As `coverage` gives it.
        places: How many test places there are.
    """
    with picture(path, 4.3, width_in=WIDTH_IN, dpi=SHARP_DPI) as figure:
        axes = add_axes(figure, 0.65, 0.55, WIDTH_IN - 0.85, 3.6)
        axes.plot((0, 1), (0, 1), color=MUTED, lw=1.0, ls=(0, (5, 2)), label="as promised")
        for name, counts in held.items():
            there = np.isfinite(counts)
            ends = [conformal.interval_95(int(count), places) for count in counts[there]]
            low, high = np.array(ends).reshape(-1, 2).T
            colour, dash = STYLES[name]
            axes.fill_between(NOMINAL[there], low, high, color=colour, alpha=0.13, lw=0)
            axes.plot(NOMINAL[there], counts[there] / places, color=colour, ls=dash, marker="o", ms=3, label=name)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("promised")
        axes.set_ylabel("share of test places held")
        axes.legend(loc="upper left")
