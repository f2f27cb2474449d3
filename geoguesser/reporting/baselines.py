"""Baselines: what a run must beat, computed from the training places alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.geo.distance import FloatArray, geometric_median_deg, haversine_km
from geoguesser.model.metrics import error_summary


def best_constant(train_deg: FloatArray, test_deg: FloatArray, diagonal_km: float) -> dict[str, Any]:
    """Always answering the training places' geometric median, the best constant for the mean distance.

    Args:
        train_deg: (M, 2) training places.
        test_deg: (N, 2) test places.
        diagonal_km: For the game score.

    Returns:
        The error summary, and the point itself.
    """
    point = geometric_median_deg(train_deg)
    summary = error_summary(haversine_km(test_deg, point), diagonal_km)
    return summary | {"latitude": float(point[0]), "longitude": float(point[1])}


def nearest(
    train_deg: FloatArray,
    test_deg: FloatArray,
    train_thumbnails: npt.NDArray[np.uint8],
    test_thumbnails: npt.NDArray[np.uint8],
    diagonal_km: float,
) -> dict[str, Any]:
    """Answering with the training place whose views look most alike: 8 x 8 thumbnails, Euclidean distance.

    Each view is brought to mean 0 and deviation 1 first, so that weather does not decide.

    Args:
        train_deg: (M, 2) training places.
        test_deg: (N, 2) test places.
        train_thumbnails: (M, 4, 3, 8, 8).
        test_thumbnails: (N, 4, 3, 8, 8).
        diagonal_km: For the game score.
    """
    train, test = _standardised(train_thumbnails), _standardised(test_thumbnails)
    squares = np.sum(train * train, axis=1)
    chosen = [
        np.argmin(squares - 2.0 * (test[start : start + 256] @ train.T), axis=1)
        for start in range(0, len(test), 256)
    ]
    return error_summary(haversine_km(test_deg, train_deg[np.concatenate(chosen)]), diagonal_km)


def _standardised(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    flat = thumbnails.reshape(len(thumbnails), 4, -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= flat.std(axis=2, keepdims=True) + 1.0
    return flat.reshape(len(thumbnails), -1)
