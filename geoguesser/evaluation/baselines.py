"""Baselines that a run must beat. They learn from the training places; validation selects the ridge strength.

In all of them `train_deg` is (M, 2), `val_deg` (V, 2), `test_deg` (N, 2), in degrees, and `diagonal_km` is the
diagonal of the region, for the game score. They return a summary of the errors of the test places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoguesser.arrays import ByteArray, FloatArray, IntArray
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.median import spherical_median
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.metrics import summarise_errors

PooledFeatures = npt.NDArray[np.float32]
MEDIAN_CANDIDATES = 1000
MAX_CHUNK_PLACES = 256

# Per training place, so that a strength means the same for any number of places. Features have deviation 1.
RIDGE_STRENGTHS = tuple(10.0**power for power in range(-2, 3))


def evaluate_constant(train_deg: FloatArray, test_deg: FloatArray, diagonal_km: float) -> dict[str, Any]:
    """Evaluates the geometric median of the training places, the constant of least mean distance.

    The summary also holds the point as `latitude` and `longitude` in degrees.
    """
    # Equal weights name no heaviest places. In a random order, the candidates for a start are a random sample,
    # which finds the best of several minima around the world.
    places = torch.from_numpy(to_unit(np.random.default_rng(0).permutation(train_deg)))
    weights = torch.ones((1, len(places)), dtype=torch.float64)
    median = spherical_median(weights, places, tolerance_km=1e-4, candidates=MEDIAN_CANDIDATES)
    point = from_unit(median.numpy())[0]

    summary = summarise_errors(haversine_km(test_deg, point), diagonal_km)
    return summary | {"latitude": float(point[0]), "longitude": float(point[1])}


def evaluate_nearest_views(
    train_deg: FloatArray, test_deg: FloatArray, train_views: ByteArray, test_views: ByteArray, diagonal_km: float
) -> dict[str, Any]:
    """Evaluates the training place with the most similar views, by Euclidean distance of 8 x 8 thumbnails.

    Each view is standardised first, so that brightness and contrast do not decide. Thumbnails are uint8, of shape
    (M, 4, 3, 8, 8) and (N, 4, 3, 8, 8).
    """
    train, test = _standardise_views(train_views), _standardise_views(test_views)

    # |test - train|^2 = |test|^2 - 2 test . train + |train|^2. Its first term is the same for all training places.
    nearest = _find_best(train, test, np.sum(train * train, axis=1))
    return summarise_errors(haversine_km(test_deg, train_deg[nearest]), diagonal_km)


def _standardise_views(thumbnails: ByteArray) -> PooledFeatures:
    flat = thumbnails.reshape(len(thumbnails), 4, -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= flat.std(axis=2, keepdims=True) + 1.0
    return flat.reshape(len(thumbnails), -1)


def _find_best(train: PooledFeatures, test: PooledFeatures, penalty: PooledFeatures | float) -> IntArray:
    """Returns (N,) the training place that maximises 2 test . train - penalty, in chunks of test places."""
    chunks = np.split(test, range(MAX_CHUNK_PLACES, len(test), MAX_CHUNK_PLACES))
    return np.concatenate([np.argmax(2.0 * (chunk @ train.T) - penalty, axis=1) for chunk in chunks])


def pool_views(features: Tensor, mask: Tensor) -> PooledFeatures:
    """Returns (N, D) means of (N, 4, D) features over the views present; zeros for a place without views."""
    weights = mask.to(features.dtype)
    weights /= weights.sum(dim=1, keepdim=True).clamp(min=1.0)
    return torch.einsum("nvd,nv->nd", features, weights).numpy()


def standardise(train: PooledFeatures, *others: PooledFeatures) -> list[PooledFeatures]:
    """Scales (M, D) features of training places, then those of others, by mean and deviation of the former.

    Constant features become 0.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation < 1e-6] = 1.0
    return [(features - mean) / deviation for features in (train, *others)]


def evaluate_nearest_features(
    train_deg: FloatArray, test_deg: FloatArray, train: PooledFeatures, test: PooledFeatures, diagonal_km: float
) -> dict[str, Any]:
    """Evaluates the training place with the most similar features of `standardise`, by cosine similarity."""
    directions = train / np.maximum(np.linalg.norm(train, axis=1, keepdims=True), 1e-12)
    return summarise_errors(haversine_km(test_deg, train_deg[_find_best(directions, test, 0.0)]), diagonal_km)


def evaluate_ridge(
    train_deg: FloatArray,
    val_deg: FloatArray,
    test_deg: FloatArray,
    features: Sequence[PooledFeatures],
    region: Region,
) -> dict[str, Any]:
    """Evaluates ridge regression from features to metres of the CRS, or to unit vectors for the world.

    The strength of least mean validation error is used, and points off the region are moved to its land. Features
    are (M, D), (V, D) and (N, D), from `standardise`, with V at least 1. The summary also holds the `strength` per
    training place.
    """
    train, val, test = features
    targets = region.to_space(train_deg)
    mean, scale = targets.mean(axis=0), float(targets.std()) or 1.0
    strengths = [len(train) * strength for strength in RIDGE_STRENGTHS]
    weights = fit_ridge(train, (targets - mean) / scale, strengths)

    val_km = [haversine_km(_to_degrees(region, val @ fit * scale + mean), val_deg).mean() for fit in weights]
    best = int(np.argmin(val_km))

    predicted_deg = region.snap(_to_degrees(region, test @ weights[best] * scale + mean))
    summary = summarise_errors(haversine_km(predicted_deg, test_deg), region.diagonal_km)
    return summary | {"strength": RIDGE_STRENGTHS[best]}


def fit_ridge(x: PooledFeatures, y: FloatArray, strengths: list[float]) -> list[FloatArray]:
    """Fits the weights w that minimise |x w - y|^2 + strength |w|^2, for each strength.

    With D features and M places, the solution is

        w = (x' x + strength I)^-1 x' y    (primal, D x D)
          = x' (x x' + strength I)^-1 y    (dual, M x M),

    because (x' x + s I) x' = x' (x x' + s I). The smaller matrix is factorised by Cholesky once per strength, in
    32 bits: at 1,280 features an eigendecomposition takes as long as 50 factorisations.

    Args:
        x: (M, D) features of mean 0, so that no intercept is needed.
        y: (M, d) targets of mean 0. Weights are (D, d).
        strengths: Penalties, each above 0.

    Source: C. Saunders, A. Gammerman and V. Vovk, "Ridge Regression Learning Algorithm in Dual Variables",
    ICML 1998.
    """
    primal = len(x) >= x.shape[1]
    gram = torch.from_numpy(x.T @ x if primal else x @ x.T)
    right = torch.from_numpy(x.T @ y.astype(np.float32) if primal else y.astype(np.float32))

    diagonal, weights = gram.diagonal().clone(), []
    for strength in strengths:
        gram.diagonal().copy_(diagonal + strength)
        solution = torch.cholesky_solve(right, torch.linalg.cholesky(gram)).numpy()
        weights.append((solution if primal else x.T @ solution).astype(np.float64))
    return weights


def _to_degrees(region: Region, points: FloatArray) -> FloatArray:
    """Returns (N, 2) degrees. A plane's points are clipped to the land's bounds: far off, a CRS has no inverse."""
    if isinstance(region, PlaneRegion):
        west, south, east, north = region.land_m.bounds
        points = np.clip(points, (west, south), (east, north))
    return region.from_space(points)
