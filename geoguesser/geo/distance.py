"""Distances and directions on the sphere, for NumPy arrays and torch tensors alike.

Coordinates are (latitude, longitude) in degrees, WGS 84. The Earth is a sphere here: against the
ellipsoid the error is at most 0.3 % within Croatia. Radians never leave a function.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius, (2a + b) / 3 of WGS 84

FloatArray = npt.NDArray[np.float64]
ArrayT = TypeVar("ArrayT", FloatArray, torch.Tensor)


def haversine_km(a_deg: ArrayT, b_deg: ArrayT) -> ArrayT:
    """Great-circle distance.

    Args:
        a_deg: (..., 2) latitude and longitude in degrees.
        b_deg: (..., 2), of the same kind (array or tensor); the leading axes broadcast.

    Returns:
        (...) distance in km, from 0 to 20,015.

    Source: the haversine formula, R. W. Sinnott, Sky and Telescope 68 (1984), 159.
    """
    if isinstance(a_deg, torch.Tensor):
        return _haversine_torch(a_deg, b_deg)
    a, b = np.radians(a_deg), np.radians(b_deg)
    half = np.sin((b - a) / 2.0) ** 2
    chord = half[..., 0] + np.cos(a[..., 0]) * np.cos(b[..., 0]) * half[..., 1]
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0)))


def _haversine_torch(a_deg: torch.Tensor, b_deg: torch.Tensor) -> torch.Tensor:
    a, b = torch.deg2rad(a_deg), torch.deg2rad(b_deg)
    half = torch.sin((b - a) / 2.0) ** 2
    chord = half[..., 0] + torch.cos(a[..., 0]) * torch.cos(b[..., 0]) * half[..., 1]
    return 2.0 * EARTH_RADIUS_KM * torch.asin(torch.sqrt(chord.clamp(0.0, 1.0)))


def to_unit(coords_deg: ArrayT) -> ArrayT:
    """Turns coordinates into unit vectors.

    Args:
        coords_deg: (..., 2) latitude and longitude in degrees.

    Returns:
        (..., 3) unit vectors: x to (0, 0), y to (0, 90 east), z to the north pole.
    """
    if isinstance(coords_deg, torch.Tensor):
        lat, lon = torch.deg2rad(coords_deg).unbind(-1)
        parts = (torch.cos(lat) * torch.cos(lon), torch.cos(lat) * torch.sin(lon), torch.sin(lat))
        return torch.stack(parts, dim=-1)
    lat, lon = np.moveaxis(np.radians(coords_deg), -1, 0)
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)), axis=-1)


def from_unit(vectors: ArrayT) -> ArrayT:
    """Turns vectors of any length above 0 into coordinates; the inverse of `to_unit`.

    Args:
        vectors: (..., 3). The zero vector gives (0, 0).

    Returns:
        (..., 2) latitude from -90 to 90 and longitude from -180 to 180, in degrees.
    """
    if isinstance(vectors, torch.Tensor):
        x, y, z = vectors.unbind(-1)
        return torch.rad2deg(torch.stack((torch.atan2(z, torch.hypot(x, y)), torch.atan2(y, x)), dim=-1))
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.stack((np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)), axis=-1))


def geometric_median_deg(coords_deg: FloatArray, *, tolerance_km: float = 1e-4) -> FloatArray:
    """The point with the least mean great-circle distance to the given ones: the best constant answer.

    Args:
        coords_deg: (N, 2) latitude and longitude in degrees, N at least 1.
        tolerance_km: Stops when a step is shorter than this.

    Returns:
        (2,) latitude and longitude in degrees.

    Source: Weiszfeld's algorithm on the sphere (Fletcher et al., NeuroImage 45 (2009), S143), in
    the tangent plane at each step, with a start at the given point of least mean distance among at
    most 1,000 of them, so that it does not stall far from the answer.
    """
    vectors = to_unit(coords_deg)
    starts = vectors[:: max(1, len(vectors) // 1000)]
    means = np.stack([_angles(vectors, start).mean() for start in starts])
    best = starts[np.argmin(means)]
    best_mean = float(means.min())
    point = from_unit(vectors.mean(axis=0))
    here = to_unit(point) if np.linalg.norm(vectors.mean(axis=0)) > 1e-9 else best
    if _angles(vectors, here).mean() > best_mean:
        here = _nudged(best, vectors)
    for _ in range(1000):
        angle = _angles(vectors, here)
        tangent = vectors - np.sum(vectors * here, axis=-1, keepdims=True) * here
        length = np.linalg.norm(tangent, axis=-1)
        apart = length > 1e-12
        if not apart.any():
            break
        directions = tangent[apart] / length[apart, None]
        step = directions.sum(axis=0) / np.sum(1.0 / np.maximum(angle[apart], 1e-12))
        size = float(np.linalg.norm(step))
        if size > 0:
            here = np.cos(size) * here + np.sin(size) * step / size
            here /= np.linalg.norm(here)
        if size * EARTH_RADIUS_KM < tolerance_km:
            break
    found = here if _angles(vectors, here).mean() <= best_mean else best
    return from_unit(found)


def _angles(vectors: FloatArray, point: FloatArray) -> FloatArray:
    cross = np.linalg.norm(np.cross(vectors, point), axis=-1)
    return np.arctan2(cross, vectors @ point)


def _nudged(point: FloatArray, vectors: FloatArray) -> FloatArray:
    """A start 1 m off a data point, towards the mean: Weiszfeld's step is undefined at a data point."""
    towards = vectors.mean(axis=0) - point
    moved = point + 1e-3 / EARTH_RADIUS_KM * towards / max(float(np.linalg.norm(towards)), 1e-12)
    return moved / np.linalg.norm(moved)
