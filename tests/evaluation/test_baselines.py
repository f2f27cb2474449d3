"""Baselines against SciPy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from geoguesser.evaluation.baselines import (
    RIDGE_STRENGTHS,
    evaluate_constant,
    evaluate_nearest_features,
    evaluate_nearest_views,
    evaluate_ridge,
    fit_ridge,
    pool_views,
    standardise,
)
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region, country, world
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.metrics import summarise_errors

DIAGONAL_KM = 500.0


def draw_places(count: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(2.0, 0.5, count) + 43.0, rng.gamma(2.0, 1.0, count) + 14.0], axis=-1)


@pytest.mark.parametrize("seed", range(3))
def test_best_constant_is_scipys_minimum(seed: int) -> None:
    train, test = draw_places(80, seed), draw_places(30, seed + 100)
    summary = evaluate_constant(train, test, DIAGONAL_KM)

    def mean_km(point: Any) -> float:
        return float(haversine_km(train, np.asarray(point)).mean())

    best = minimize(mean_km, train.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    assert best.success
    point = np.array([summary["latitude"], summary["longitude"]])
    assert float(haversine_km(point, best.x)) < 0.01
    assert mean_km(point) <= best.fun + 1e-6
    assert mean_km(train.mean(axis=0)) > best.fun + 0.1
    expected = summarise_errors(haversine_km(test, best.x), DIAGONAL_KM)
    assert summary["error_km_mean"] == pytest.approx(expected["error_km_mean"], rel=1e-4)
    assert summary["share_within_km"] == expected["share_within_km"]


def standardise_views(thumbnails: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    views = thumbnails.astype(np.float64).reshape(-1, 3 * 8 * 8)
    scaled = [(view - view.mean()) / (view.std() + 1.0) for view in views]
    return np.stack(scaled).reshape(len(thumbnails), -1)


def test_nearest_views_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    train_pixels = rng.integers(0, 256, (60, 4, 3, 8, 8), dtype=np.uint8)

    # More than one chunk.
    test_pixels = rng.integers(0, 256, (300, 4, 3, 8, 8), dtype=np.uint8)
    train, test = draw_places(60, 1), draw_places(300, 2)
    chosen = (
        NearestNeighbors(n_neighbors=1)
        .fit(standardise_views(train_pixels))
        .kneighbors(standardise_views(test_pixels), return_distance=False)[:, 0]
    )
    assert len(set(chosen)) > 10
    expected = summarise_errors(haversine_km(test, train[chosen]), DIAGONAL_KM)
    assert evaluate_nearest_views(train, test, train_pixels, test_pixels, DIAGONAL_KM) == expected


def test_brightness_and_contrast_do_not_decide() -> None:
    rng = np.random.default_rng(3)
    train_pixels = rng.integers(50, 150, (20, 4, 3, 8, 8), dtype=np.uint8)

    # A view without contrast has no deviation.
    train_pixels[7] = 100
    test_pixels = (train_pixels[::-1] * 1.4 + 30).astype(np.uint8)
    train = draw_places(20, 4)
    summary = evaluate_nearest_views(train, train[::-1], train_pixels, test_pixels, DIAGONAL_KM)
    assert summary["error_km_mean"] == pytest.approx(0.0, abs=1e-6)


def make_features(coords_deg: np.ndarray[Any, Any], size: int, seed: int) -> np.ndarray[Any, Any]:
    """Returns noisy features of the position, of which one is constant."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(0.0, 1.0, (2, size))
    centred = coords_deg - (44.0, 16.0)
    features = centred @ mixing + rng.normal(0.0, 2.0, (len(coords_deg), size)) + 5.0
    features[:, 0] = 3.0
    return features.astype(np.float32)


def test_features_are_pooled_and_standardised() -> None:
    features, mask = torch.randn(30, 4, 7), torch.rand(30, 4) < 0.7
    mask[0] = False
    np.testing.assert_allclose(pool_views(features, mask), MeanFusion(7)(features, mask), atol=1e-6)
    train, other = make_features(draw_places(50, 0), 9, 1), make_features(draw_places(20, 1), 9, 2)
    scaler = StandardScaler().fit(train)
    for scaled, features in zip(standardise(train, other), (train, other), strict=True):
        np.testing.assert_allclose(scaled, scaler.transform(features), atol=1e-4)


def test_nearest_features_agree_with_scikit_learn() -> None:
    train, test = draw_places(70, 1), draw_places(300, 2)
    scaled = standardise(make_features(train, 12, 3), make_features(test, 12, 4))
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(scaled[0])
    chosen = search.kneighbors(scaled[1], return_distance=False)[:, 0]
    summary = evaluate_nearest_features(train, test, *scaled, DIAGONAL_KM)
    assert summary == summarise_errors(haversine_km(test, train[chosen]), DIAGONAL_KM)


@pytest.mark.parametrize(("count", "size"), [(200, 30), (40, 90)])
def test_ridge_weights_agree_with_scikit_learn(count: int, size: int) -> None:
    x = standardise(make_features(draw_places(count, 5), size, 6))[0]
    x -= x.mean(axis=0)
    y = draw_places(count, 5) - draw_places(count, 5).mean(axis=0)
    for strength, weights in zip((0.5, 100.0), fit_ridge(x, y, [0.5, 100.0]), strict=True):
        expected = Ridge(alpha=strength, fit_intercept=False).fit(x.astype(np.float64), y).coef_.T
        np.testing.assert_allclose(weights, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("land", [country("HRV"), world()], ids=["plane", "sphere"])
def test_ridge_has_the_strength_of_least_validation_error(land: Region) -> None:
    train, val, test = draw_places(150, 7), draw_places(60, 8), draw_places(50, 9)
    parts = [make_features(coords, 40, seed) for seed, coords in enumerate((train, val, test))]
    scaled = standardise(*parts)
    summary = evaluate_ridge(train, val, test, tuple(scaled), land)

    space, mean = land.to_space(train), land.to_space(train).mean(axis=0)
    errors = {}
    for strength in RIDGE_STRENGTHS:
        model = Ridge(alpha=strength * len(train)).fit(scaled[0].astype(np.float64), space)
        np.testing.assert_allclose(model.intercept_, mean, rtol=1e-3)
        errors[strength] = haversine_km(land.from_space(model.predict(scaled[1])), val).mean()
    assert summary["strength"] == min(errors, key=errors.get)

    model = Ridge(alpha=summary["strength"] * len(train)).fit(scaled[0].astype(np.float64), space)
    predicted_deg = land.snap(land.from_space(model.predict(scaled[2])))
    assert summary["error_km_mean"] == pytest.approx(haversine_km(predicted_deg, test).mean(), rel=2e-3)


def test_ridge_of_a_single_training_place_predicts_it() -> None:
    train, test = np.array([[45.5, 16.0]]), draw_places(4, 3)
    scaled, others = standardise(np.ones((1, 5), dtype=np.float32), np.ones((4, 5), dtype=np.float32))
    summary = evaluate_ridge(train, test, test, (scaled, others, others), country("HRV"))
    assert summary["error_km_mean"] == pytest.approx(haversine_km(test, train[0]).mean(), abs=1e-3)
