"""Baselines against SciPy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.neighbors import NearestNeighbors

from geoguesser.geo.distance import haversine_km
from geoguesser.model.metrics import error_summary
from geoguesser.reporting.baselines import best_constant, nearest

DIAGONAL_KM = 500.0


def places(count: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(2.0, 0.5, count) + 43.0, rng.gamma(2.0, 1.0, count) + 14.0], axis=-1)


@pytest.mark.parametrize("seed", range(3))
def test_best_constant_is_scipys_minimum(seed: int) -> None:
    train, test = places(80, seed), places(30, seed + 100)
    found = best_constant(train, test, DIAGONAL_KM)

    def mean_km(point: Any) -> float:
        return float(haversine_km(train, np.asarray(point)).mean())

    best = minimize(mean_km, train.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    assert best.success
    point = np.array([found["latitude"], found["longitude"]])
    assert float(haversine_km(point, best.x)) < 0.01
    assert mean_km(point) <= best.fun + 1e-6
    assert mean_km(train.mean(axis=0)) > best.fun + 0.1  # the mean would be worse
    expected = error_summary(haversine_km(test, best.x), DIAGONAL_KM)
    assert found["error_km_mean"] == pytest.approx(expected["error_km_mean"], rel=1e-4)
    assert found["share_within_km"] == expected["share_within_km"]


def standardised(thumbnails: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    views = thumbnails.astype(np.float64).reshape(-1, 3 * 8 * 8)
    found = [(view - view.mean()) / (view.std() + 1.0) for view in views]
    return np.stack(found).reshape(len(thumbnails), -1)


def test_nearest_is_scikit_learns_neighbour() -> None:
    rng = np.random.default_rng(0)
    train_pixels = rng.integers(0, 256, (60, 4, 3, 8, 8), dtype=np.uint8)
    test_pixels = rng.integers(0, 256, (300, 4, 3, 8, 8), dtype=np.uint8)  # more than one chunk
    train, test = places(60, 1), places(300, 2)
    chosen = (
        NearestNeighbors(n_neighbors=1)
        .fit(standardised(train_pixels))
        .kneighbors(standardised(test_pixels), return_distance=False)[:, 0]
    )
    assert len(set(chosen)) > 10
    expected = error_summary(haversine_km(test, train[chosen]), DIAGONAL_KM)
    assert nearest(train, test, train_pixels, test_pixels, DIAGONAL_KM) == expected


def test_weather_does_not_decide() -> None:
    rng = np.random.default_rng(3)
    train_pixels = rng.integers(50, 150, (20, 4, 3, 8, 8), dtype=np.uint8)
    test_pixels = (train_pixels[::-1] * 1.4 + 30).astype(np.uint8)  # brighter, with more contrast
    train = places(20, 4)
    found = nearest(train, train[::-1], train_pixels, test_pixels, DIAGONAL_KM)
    assert found["error_km_mean"] == pytest.approx(0.0, abs=1e-6)


def test_views_without_any_contrast_are_no_problem() -> None:
    flat = np.full((3, 4, 3, 8, 8), 7, dtype=np.uint8)
    train = places(3, 5)
    found = nearest(train, train[:1], flat, flat[:1], DIAGONAL_KM)
    assert found["error_km_mean"] == pytest.approx(0.0, abs=1e-6)
