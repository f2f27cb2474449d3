"""Audit: how far the places of each split lie from the training places, and whether a test would flatter.

One function for data straight from files and from a store.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geoguesser.arrays import FloatArray
from geoguesser.data.splits import NAMES
from geoguesser.geo.distance import chord_to_km, to_unit

WITHIN_M = (50, 500, 5000)
# A place this near to a training place is mostly seen already: the same street, often the same houses.
FLATTERS = {50: 0.01, 500: 0.1}  # metres -> the share of test places that is too many


def compute_nearest_training_km(coords_deg: FloatArray, splits: npt.NDArray[Any]) -> FloatArray:
    """(N,) great-circle distance of each place to the nearest training place, of a training place to another.

    Infinite where there is none.

    Args:
        coords_deg: (N, 2).
        splits: (N,) train, val, test or unused.
    """
    vectors = to_unit(coords_deg)
    train = splits == "train"
    chords = np.full(len(coords_deg), np.inf)
    if train.any():
        tree = cKDTree(vectors[train])
        chords[~train] = tree.query(vectors[~train], workers=-1)[0]
        if train.sum() > 1:
            nearest: Any = tree.query(vectors[train], k=2, workers=-1)[0]
            chords[train] = nearest[:, 1]
    return np.where(np.isinf(chords), np.inf, chord_to_km(chords))


def audit_split(coords_deg: FloatArray, splits: npt.NDArray[Any]) -> dict[str, Any]:
    """What a split is worth.

    Args:
        coords_deg: (N, 2).
        splits: (N,) train, val, test or unused.

    Returns:
        Split -> places, quartiles of the distance to the nearest training place in km, and how many lie
        within 50, 500 and 5,000 m of one; and `warnings`, sentences for people.
    """
    distance_km = compute_nearest_training_km(coords_deg, splits)
    found: dict[str, Any] = {}
    for name in NAMES:
        own = distance_km[splits == name]
        own = own[np.isfinite(own)]
        if len(own) == 0:
            continue
        quartiles = np.percentile(own, (25, 50, 75))
        found[name] = {
            "places": len(own),
            "nearest_training_km": {
                key: round(float(value), 4) for key, value in zip(("p25", "p50", "p75"), quartiles, strict=True)
            },
            "within_m": {str(metres): int((own <= metres / 1000.0).sum()) for metres in WITHIN_M},
        }
    found["warnings"] = _warnings(found)
    return found


def _warnings(found: dict[str, Any]) -> list[str]:
    test = found.get("test")
    if test is None:
        return []
    for metres, most in FLATTERS.items():
        near = test["within_m"][str(metres)]
        if near > most * test["places"]:
            return [
                f"{near:,} of {test['places']:,} test places ({near / test['places']:.0%}) lie within {metres} m "
                "of a training place: their error flatters what a new place would get. "
                "split=blocks keeps splits apart."
            ]
    return []
