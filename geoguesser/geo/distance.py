"""Distances and directions on the sphere, for NumPy arrays and torch tensors alike.

Coordinates are (latitude, longitude) in degrees, WGS 84. The Earth is a sphere here: against the
ellipsoid the error is at most 0.3 % within Croatia. Radians never leave a function.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from geoguesser.arrays import FloatArray

EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius, (2a + b) / 3 of WGS 84

ArrayT = TypeVar("ArrayT", FloatArray, torch.Tensor)


def haversine_km(a_deg: ArrayT, b_deg: ArrayT) -> ArrayT:
    """Computes great-circle distances.

    Args:
        a_deg: (..., 2) latitude and longitude in degrees.
        b_deg: (..., 2), of the same kind (array or tensor); the leading axes broadcast.

    Returns:
        (...) distance in km, from 0 to 20,015.

    Source: the haversine formula, R. W. Sinnott, Sky and Telescope 68 (1984), 159.
    """
    if isinstance(a_deg, torch.Tensor):
        return _haversine_torch(a_deg, b_deg)

    # hav(d) = hav(lat_b - lat_a) + cos(lat_a) cos(lat_b) hav(lon_b - lon_a), with hav(x) = sin(x / 2)^2.
    a, b = np.radians(a_deg), np.radians(b_deg)
    hav = np.sin((b - a) / 2.0) ** 2
    hav_distance = hav[..., 0] + np.cos(a[..., 0]) * np.cos(b[..., 0]) * hav[..., 1]
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(hav_distance, 0.0, 1.0)))


def _haversine_torch(a_deg: torch.Tensor, b_deg: torch.Tensor) -> torch.Tensor:
    """Computes `haversine_km` for tensors."""
    a, b = torch.deg2rad(a_deg), torch.deg2rad(b_deg)
    hav = torch.sin((b - a) / 2.0) ** 2
    hav_distance = hav[..., 0] + torch.cos(a[..., 0]) * torch.cos(b[..., 0]) * hav[..., 1]
    return 2.0 * EARTH_RADIUS_KM * torch.asin(torch.sqrt(hav_distance.clamp(0.0, 1.0)))


def chord_to_km(chord: ArrayT) -> ArrayT:
    """Converts chords, the straight distances between unit vectors (0 to 2), to great-circle distances in km.

    An angle theta has the chord 2 sin(theta / 2). Computed from differences of vectors, the result resolves metres
    even in float32; the arccos of their products does not.
    """
    if isinstance(chord, torch.Tensor):
        return 2.0 * EARTH_RADIUS_KM * torch.asin((chord / 2.0).clamp(max=1.0))
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2.0, 1.0))


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


def compute_chord(distance_m: float) -> float:
    """Chord length between two points on the unit sphere, given their great-circle distance in metres.

    It is the inverse of `chord_to_km`. Distances beyond half the circumference give 2, the longest chord.
    """
    return float(2.0 * np.sin(np.minimum(distance_m / (2000.0 * EARTH_RADIUS_KM), np.pi / 2)))
