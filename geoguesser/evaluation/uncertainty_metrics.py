"""How sure a run's answers are, measured on its test places: the `uncertainty` part of result.json.

What is fitted is fitted in model/uncertainty.py, on calibration places; here nothing is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.model.conformal import compute_coverage_range, interval_95
from geoguesser.model.uncertainty import LEVELS, Calibration, HeadOutput, apply_temperature, compute_nll

DEFAULT_BINS = 10
REFUSED_SHARES = tuple(number / 10 for number in range(10))  # shares of the places, the most uncertain first
PREDICTION_COLUMNS = (  # of predictions_test.csv, where they are known
    "expected_error_km",
    *(f"radius_{level}_km" for level in LEVELS),
    "cell",
    "cell_probability",
    *(f"set_{level}_cells" for level in LEVELS),
)

Known = dict[str, npt.NDArray[Any]]


def explain_missing_calibration(*, fraction: float, min_places: int, val_places: int) -> dict[str, Any]:
    """Returns the part `uncertainty` of a run without calibration, with the reason.

    Args:
        fraction: `calibration.fraction`.
        min_places: `calibration.min_places`.
        val_places: Number of validation places.
    """
    if fraction == 0.0:
        reason = "calibration.fraction is 0: no validation place serves calibration."
    else:
        reason = (
            f"{fraction:.0%} of {val_places} validation places are too few for calibration: both parts must "
            f"hold calibration.min_places={min_places} places. All of them chose the weights."
        )
    return {"calibration_places": 0, "reason": reason}


def summarise_uncertainty(
    calibration: Calibration, known: Known, said: HeadOutput, cell: IntArray | None, error_km: FloatArray
) -> dict[str, Any]:
    """The `uncertainty` part of result.json; a head without cells has null for what needs them.

    Args:
        calibration: What the calibration places taught.
        known: What `Calibration.of_places` says of the N test places.
        said: What the head says of them.
        cell: (N,) their true cells; None for a head without.
        error_km: (N,) their errors.
    """
    part: dict[str, Any] = {
        "calibration_places": calibration.places,
        "reason": None,
        "temperature": calibration.temperature,
        **_probabilities(calibration, said, cell),
        "sets": _sets(known, calibration.places) if "set_50_cells" in known else None,
        "radii": _radii(known, error_km, calibration.places),
        "expected_error_km_mean": None,
        "abstention": None,
    }
    if "expected_error_km" in known:
        part["expected_error_km_mean"] = float(known["expected_error_km"].mean())
        part["abstention"] = compute_abstention(known["expected_error_km"], error_km)
    return part


def _probabilities(calibration: Calibration, said: HeadOutput, cell: IntArray | None) -> dict[str, Any]:
    found: dict[str, Any] = {f"{kind}_{when}": None for kind in ("nll", "ece") for when in ("before", "after")}
    found["reliability"] = None
    if said.logits is None or cell is None or calibration.temperature is None:
        return found
    found["reliability"] = {}
    correct = said.logits.argmax(axis=1) == cell
    for when, temperature in (("before", 1.0), ("after", calibration.temperature)):
        curve = compute_reliability(apply_temperature(said.logits, temperature).max(axis=1), correct)
        found[f"nll_{when}"] = compute_nll(said.logits, cell, temperature)
        found[f"ece_{when}"] = compute_calibration_error(curve)
        found["reliability"][when] = curve
    return found


def compute_reliability(
    confidence: FloatArray, correct: BoolArray, bins: int = DEFAULT_BINS
) -> dict[str, list[Any]]:
    """How often answers of about one confidence are right, in bins of equal numbers of places.

    Args:
        confidence: (N,) probabilities of the most probable cells, N at least 1.
        correct: (N,) whether these are the true ones.
        bins: How many bins; no more than there are places.

    Returns:
        places, confidence and correct: the count and the two means of each bin, by ascending confidence.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return {
        "places": [len(part) for part in parts],
        "confidence": [float(confidence[part].mean()) for part in parts],
        "correct": [float(correct[part].mean()) for part in parts],
    }


def compute_calibration_error(curve: dict[str, list[Any]]) -> float:
    """The expected calibration error: the mean gap between confidence and share of right answers, by places.

    Source: M. P. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    gaps = np.abs(np.subtract(curve["confidence"], curve["correct"]))
    return float(np.average(gaps, weights=curve["places"]))


def _coverage(holds: BoolArray, level: str, places: int) -> dict[str, Any]:
    low, high = interval_95(int(holds.sum()), len(holds))
    usual = compute_coverage_range(places, LEVELS[level])
    return {"coverage": float(holds.mean()), "low": low, "high": high, "usual": list(usual)}


def _sets(known: Known, places: int) -> dict[str, Any]:
    return {
        level: {
            **_coverage(known[f"set_{level}_holds"], level, places),
            "cells_mean": float(known[f"set_{level}_cells"].mean()),
            "km2_mean": float(known[f"set_{level}_km2"].mean()),
        }
        for level in LEVELS
    }


def _radii(known: Known, error_km: FloatArray, places: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for level in LEVELS:
        radius_km = known.get(f"radius_{level}_km")
        if radius_km is None:
            found[level] = None
            continue
        sizes = {"km_mean": float(radius_km.mean()), "km_median": float(np.median(radius_km))}
        found[level] = _coverage(error_km <= radius_km, level, places) | sizes
    return found


def compute_abstention(expected_km: FloatArray, error_km: FloatArray) -> dict[str, Any]:
    """What errors remain where the places of largest expected error are refused an answer.

    Args:
        expected_km: (N,) expected errors, N at least 1.
        error_km: (N,) true errors.

    Returns:
        refused: the shares; error_km_mean and error_km_median of the places kept at each, oracle_km_mean with the
        truly worst refused. area_km: the mean error kept, averaged over all numbers kept down to a tenth;
        oracle_area_km likewise; random_area_km, of refusing at random, is the mean error.
    """
    by_expected = error_km[np.argsort(expected_km, kind="stable")]
    oracle = np.sort(error_km)
    count = len(error_km)
    kept = [max(1, count - int(share * count + 1e-9)) for share in REFUSED_SHARES]
    return {
        "refused": list(REFUSED_SHARES),
        "error_km_mean": [float(by_expected[:number].mean()) for number in kept],
        "error_km_median": [float(np.median(by_expected[:number])) for number in kept],
        "oracle_km_mean": [float(oracle[:number].mean()) for number in kept],
        "area_km": _area_km(by_expected, kept[-1]),
        "oracle_area_km": _area_km(oracle, kept[-1]),
        "random_area_km": float(error_km.mean()),
    }


def _area_km(ordered_km: FloatArray, fewest: int) -> float:
    means = np.cumsum(ordered_km) / np.arange(1, len(ordered_km) + 1)
    return float(means[fewest - 1 :].mean())
