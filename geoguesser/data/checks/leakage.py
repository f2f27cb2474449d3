"""Distances between the places of each split and the training places, and a warning if they are too small."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geoguesser.arrays import FloatArray
from geoguesser.data.splits import SPLIT_NAMES
from geoguesser.geo.distance import chord_to_km, to_unit

# Distances in metres within which test places are counted.
LEAKAGE_RADII_M = (50, 500, 5000)

# Distance in metres -> largest share of the test places that may lie so near to a training place. Within 50 m,
# most of a place has been seen in training: the same street, and often the same houses.
MAX_NEAR_SHARES = {50: 0.01, 500: 0.1}


def compute_nearest_training_km(coords_deg: FloatArray, splits: npt.NDArray[Any]) -> FloatArray:
    """Computes (N,) the distance in km from each of (N, 2) places to the nearest other training place.

    It is infinite if there is no other training place.
    """
    vectors = to_unit(coords_deg)
    is_train = splits == "train"
    chords = np.full(len(coords_deg), np.inf)
    if is_train.any():
        tree = cKDTree(vectors[is_train])
        chords[~is_train] = tree.query(vectors[~is_train], workers=-1)[0]

        # The nearest training place of a training place is the place itself, so that the second one counts.
        if is_train.sum() > 1:
            nearest: Any = tree.query(vectors[is_train], k=2, workers=-1)[0]
            chords[is_train] = nearest[:, 1]

    return np.where(np.isinf(chords), np.inf, chord_to_km(chords))


def audit_split(coords_deg: FloatArray, splits: npt.NDArray[Any]) -> dict[str, Any]:
    """Summarises the distances of (N, 2) places to the nearest training place for each split.

    Returns:
        Split -> number of places, quartiles of the distance in km, and number of places within 50, 500 and 5,000
        m; and `warnings`, a list of sentences.
    """
    distance_km = compute_nearest_training_km(coords_deg, splits)
    audit: dict[str, Any] = {}
    for name in SPLIT_NAMES:
        split_km = distance_km[(splits == name) & np.isfinite(distance_km)]
        if len(split_km) == 0:
            continue

        quartiles = [round(float(value), 4) for value in np.percentile(split_km, (25, 50, 75))]
        audit[name] = {
            "places": len(split_km),
            "nearest_training_km": dict(zip(("p25", "p50", "p75"), quartiles, strict=True)),
            "within_m": {str(metres): int((split_km <= metres / 1000.0).sum()) for metres in LEAKAGE_RADII_M},
        }

    audit["warnings"] = _warn_near_test(audit.get("test"))
    return audit


def _warn_near_test(test: dict[str, Any] | None) -> list[str]:
    if test is None:
        return []
    for metres, max_share in MAX_NEAR_SHARES.items():
        near, places = test["within_m"][str(metres)], test["places"]
        if near > max_share * places:
            return [
                f"{near:,} of {places:,} test places ({near / places:.0%}) lie within {metres} m of a training "
                "place: their error is smaller than that of a new place would be. split=blocks keeps splits apart."
            ]
    return []
