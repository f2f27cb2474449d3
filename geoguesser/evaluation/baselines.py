"""Baselines: what a run must beat, computed from the training places alone (a ridge's strength on validation)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoguesser.arrays import FloatArray
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.median import spherical_median
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.metrics import summarise_errors

PooledFeatures = npt.NDArray[np.float32]
MEDIAN_CANDIDATES = 1000
RIDGE_STRENGTHS = tuple(10.0**power for power in range(-2, 3))  # per training place; features have deviation 1


def evaluate_constant(train_deg: FloatArray, test_deg: FloatArray, diagonal_km: float) -> dict[str, Any]:
    """Always answering the training places' geometric median, the best constant for the mean distance.

    Args:
        train_deg: (M, 2) training places.
        test_deg: (N, 2) test places.
        diagonal_km: For the game score.

    Returns:
        The error summary, and the point itself.
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
    return summarise_errors(haversine_km(test_deg, train_deg[np.concatenate(chosen)]), diagonal_km)


def _standardised(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    flat = thumbnails.reshape(len(thumbnails), 4, -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= flat.std(axis=2, keepdims=True) + 1.0
    return flat.reshape(len(thumbnails), -1)


def pool_views(features: Tensor, mask: Tensor) -> PooledFeatures:
    """(N, 4, D) features of views and their (N, 4) mask -> (N, D) the mean of the views that are there."""
    weights = mask.to(features.dtype)
    weights /= weights.sum(dim=1, keepdim=True).clamp(min=1.0)
    return torch.einsum("nvd,nv->nd", features, weights).numpy()


def standardise(train: PooledFeatures, *others: PooledFeatures) -> list[PooledFeatures]:
    """The training places' (M, D) features at mean 0 and deviation 1; others' by the same mean and deviation."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation < 1e-6] = 1.0
    return [(one - mean) / deviation for one in (train, *others)]


def evaluate_nearest_features(
    train_deg: FloatArray, test_deg: FloatArray, train: PooledFeatures, test: PooledFeatures, diagonal_km: float
) -> dict[str, Any]:
    """Answering with the training place whose features point most nearly the same way (cosine similarity).

    Args:
        train_deg: (M, 2) training places.
        test_deg: (N, 2) test places.
        train: (M, D) from `standardise`.
        test: (N, D) likewise.
        diagonal_km: For the game score.
    """
    towards = train / np.maximum(np.linalg.norm(train, axis=1, keepdims=True), 1e-12)
    chosen = [np.argmax(test[start : start + 256] @ towards.T, axis=1) for start in range(0, len(test), 256)]
    return summarise_errors(haversine_km(test_deg, train_deg[np.concatenate(chosen)]), diagonal_km)


def evaluate_ridge(
    train_deg: FloatArray,
    val_deg: FloatArray,
    test_deg: FloatArray,
    features: tuple[PooledFeatures, PooledFeatures, PooledFeatures],
    region: Region,
) -> dict[str, Any]:
    """Ridge regression from features to CRS metres (for the world to unit vectors); answers at sea go to the land.

    Args:
        train_deg: (M, 2) training places.
        val_deg: (V, 2) validation places, V at least 1; the strength is that of their least mean error.
        test_deg: (N, 2) test places.
        features: (M, D), (V, D) and (N, D), from `standardise`.
        region: Whose space is regressed to.

    Returns:
        The error summary, and the strength per training place.
    """
    train, val, test = features
    space = region.to_space(train_deg)
    mean, unit = space.mean(axis=0), float(space.std()) or 1.0
    weights = fit_ridge(train, (space - mean) / unit, [len(train) * one for one in RIDGE_STRENGTHS])
    errors = [haversine_km(_answers(region, val @ one * unit + mean), val_deg).mean() for one in weights]
    best = int(np.argmin(errors))
    answers = region.snap(_answers(region, test @ weights[best] * unit + mean))
    summary = summarise_errors(haversine_km(answers, test_deg), region.diagonal_km)
    return summary | {"strength": RIDGE_STRENGTHS[best]}


def fit_ridge(x: PooledFeatures, y: FloatArray, strengths: list[float]) -> list[FloatArray]:
    """The (D, d) weights that minimise |x w - y|^2 + strength |w|^2, for each strength.

    Args:
        x: (M, D) of mean 0, so that no intercept is needed.
        y: (M, d) of mean 0.
        strengths: Each above 0.

    Solved by Cholesky's factors of the smaller Gram matrix, once per strength, in 32 bits: at 1,280 features an
    eigendecomposition takes as long as 50 of these.
    """
    primal = len(x) >= x.shape[1]
    gram = torch.from_numpy(x.T @ x if primal else x @ x.T)
    right = torch.from_numpy(x.T @ y.astype(np.float32) if primal else y.astype(np.float32))
    diagonal, found = gram.diagonal().clone(), []
    for strength in strengths:
        gram.diagonal().copy_(diagonal + strength)
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(gram)).numpy()
        found.append((solved if primal else x.T @ solved).astype(np.float64))
    return found


def _answers(region: Region, points: FloatArray) -> FloatArray:
    """(N, 2) in degrees; in the plane from within the land's bounding box, for far off a CRS has no inverse."""
    if isinstance(region, PlaneRegion):
        west, south, east, north = region.land_m.bounds
        points = np.clip(points, (west, south), (east, north))
    return region.from_space(points)
