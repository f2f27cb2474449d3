"""Metrics of a run's uncertainty on its test places: the part `uncertainty` of result.json.

Nothing is fitted here; model/uncertainty.py fits on calibration places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.model.conformal import compute_coverage_range, compute_interval_95
from geoguesser.model.uncertainty import LEVELS, Calibration, HeadOutput, apply_temperature, compute_nll

DEFAULT_BINS = 10
REFUSED_SHARES = tuple(number / 10 for number in range(10))

# Columns of predictions_test.csv, if they are known.
PREDICTION_COLUMNS = (
    "expected_error_km",
    *(f"radius_{level}_km" for level in LEVELS),
    "cell",
    "cell_probability",
    *(f"set_{level}_cells" for level in LEVELS),
)

# Column -> (N,) values of the test places.
UncertaintyColumns = dict[str, npt.NDArray[Any]]


def explain_missing_calibration(*, fraction: float, min_places: int, val_places: int) -> dict[str, Any]:
    """Returns the part `uncertainty` of a run without calibration, with the reason."""
    reason = "calibration.fraction is 0: no validation place is used for calibration."
    if fraction != 0.0:
        reason = (
            f"{fraction:.0%} of {val_places} validation places are too few for calibration: both parts must "
            f"hold calibration.min_places={min_places} places. All of them selected the weights."
        )
    return {"calibration_places": 0, "reason": reason}


def summarise_uncertainty(
    calibration: Calibration,
    columns: UncertaintyColumns,
    output: HeadOutput,
    cell: IntArray | None,
    error_km: FloatArray,
) -> dict[str, Any]:
    """Computes the part `uncertainty` of result.json.

    The columns are calibrated values of the N test places, `cell` is their (N,) true cells. For a head without
    cells it is None, and the entries that need cells are null.
    """
    expected_km = columns.get("expected_error_km")
    return {
        "calibration_places": calibration.places,
        "reason": None,
        "temperature": calibration.temperature,
        **_summarise_probabilities(calibration, output, cell),
        "sets": _summarise_sets(columns, calibration.places) if "set_50_cells" in columns else None,
        "radii": _summarise_radii(columns, error_km, calibration.places),
        "expected_error_km_mean": None if expected_km is None else float(expected_km.mean()),
        "abstention": None if expected_km is None else compute_abstention(expected_km, error_km),
    }


def _summarise_probabilities(
    calibration: Calibration, output: HeadOutput, cell: IntArray | None
) -> dict[str, Any]:
    names = (f"{kind}_{when}" for kind in ("nll", "ece") for when in ("before", "after"))
    summary: dict[str, Any] = {**dict.fromkeys(names), "reliability": None}
    if output.logits is None or cell is None or calibration.temperature is None:
        return summary

    summary["reliability"] = {}
    correct = output.logits.argmax(axis=1) == cell
    for when, temperature in (("before", 1.0), ("after", calibration.temperature)):
        curve = compute_reliability(apply_temperature(output.logits, temperature).max(axis=1), correct)
        summary[f"nll_{when}"] = compute_nll(output.logits, cell, temperature)
        summary[f"ece_{when}"] = compute_calibration_error(curve)
        summary["reliability"][when] = curve
    return summary


def compute_reliability(
    confidence: FloatArray, correct: BoolArray, bins: int = DEFAULT_BINS
) -> dict[str, list[Any]]:
    """Computes a reliability curve over at most `bins` bins of equal numbers of places.

    It compares (N,) probabilities of the most probable cells, N at least 1, with whether these are the true cells:
    places, confidence and correct are the count and the two means of each bin, by ascending confidence.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return {
        "places": [len(part) for part in parts],
        "confidence": [float(confidence[part].mean()) for part in parts],
        "correct": [float(correct[part].mean()) for part in parts],
    }


def compute_calibration_error(curve: dict[str, list[Any]]) -> float:
    """Returns the expected calibration error: the mean of |confidence - accuracy| over bins, weighted by places.

    Source: M. P. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    gaps = np.abs(np.subtract(curve["confidence"], curve["correct"]))
    return float(np.average(gaps, weights=curve["places"]))


def summarise_coverage(holds: BoolArray) -> dict[str, Any]:
    """Returns the share of N sets or radii that contain the true place, with its 95 % interval."""
    low, high = compute_interval_95(int(holds.sum()), len(holds))
    return {"coverage": float(holds.mean()), "low": low, "high": high}


def _summarise_sets(columns: UncertaintyColumns, places: int) -> dict[str, Any]:
    return {
        level: {
            **summarise_coverage(columns[f"set_{level}_holds"]),
            "usual": list(compute_coverage_range(places, LEVELS[level])),
            "cells_mean": float(columns[f"set_{level}_cells"].mean()),
            "km2_mean": float(columns[f"set_{level}_km2"].mean()),
        }
        for level in LEVELS
    }


def _summarise_radii(columns: UncertaintyColumns, error_km: FloatArray, places: int) -> dict[str, Any]:
    summary: dict[str, Any] = dict.fromkeys(LEVELS)
    for level in LEVELS:
        radius_km = columns.get(f"radius_{level}_km")
        if radius_km is not None:
            summary[level] = {
                **summarise_coverage(error_km <= radius_km),
                "usual": list(compute_coverage_range(places, LEVELS[level])),
                "km_mean": float(radius_km.mean()),
                "km_median": float(np.median(radius_km)),
            }
    return summary


def compute_abstention(expected_km: FloatArray, error_km: FloatArray) -> dict[str, Any]:
    """Computes risk-coverage curves: the errors that remain if the most uncertain places are refused.

    The area is the mean of the remaining mean error over all numbers of answered places, from N down to a tenth.
    An oracle refuses the places of largest error; refusing at random leaves the mean error as it is. Expected and
    true errors are (N,), N at least 1.

    Returns:
        refused: shares of refused places; error_km_mean and error_km_median of the answered places at each share,
        and oracle_km_mean; area_km, oracle_area_km and random_area_km.

    Source: Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural Networks", arXiv 1705.08500, for
    curves of risk by coverage.
    """
    by_expected = error_km[np.argsort(expected_km, kind="stable")]
    oracle = np.sort(error_km)

    # The small number keeps 0.3 * 10 places at 3 despite rounding.
    count = len(error_km)
    answered = [max(1, count - int(share * count + 1e-9)) for share in REFUSED_SHARES]
    return {
        "refused": list(REFUSED_SHARES),
        "error_km_mean": [float(by_expected[:number].mean()) for number in answered],
        "error_km_median": [float(np.median(by_expected[:number])) for number in answered],
        "oracle_km_mean": [float(oracle[:number].mean()) for number in answered],
        "area_km": _compute_area_km(by_expected, answered[-1]),
        "oracle_area_km": _compute_area_km(oracle, answered[-1]),
        "random_area_km": float(error_km.mean()),
    }


def _compute_area_km(ordered_km: FloatArray, min_answered: int) -> float:
    means = np.cumsum(ordered_km) / np.arange(1, len(ordered_km) + 1)
    return float(means[min_answered - 1 :].mean())
