"""Distances and directions on the sphere, for NumPy arrays and torch tensors.

Coordinates are (latitude, longitude) in degrees, WGS 84. The Earth is a sphere: within Croatia, distances differ
from those on the ellipsoid by at most 0.3 %. All functions take and return degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pyproj
import torch

from geoguesser.arrays import FloatArray

EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius, (2a + b) / 3 of WGS 84
MIN_METRES_PER_DEGREE = 110_574.0  # of latitude, at the equator of the ellipsoid
WGS84 = pyproj.Geod(ellps="WGS84")

ArrayT = TypeVar("ArrayT", FloatArray, torch.Tensor)


def haversine_km(a_deg: ArrayT, b_deg: ArrayT) -> ArrayT:
    """Computes great-circle distances in km, from 0 to 20,015.

    Args:
        a_deg: (..., 2) latitude and longitude in degrees.
        b_deg: (..., 2), of the same kind (array or tensor); the leading axes broadcast.

    Source: the haversine formula, R. W. Sinnott, Sky and Telescope 68 (1984), 159.
    """
    # hav(d) = hav(lat_b - lat_a) + cos(lat_a) cos(lat_b) hav(lon_b - lon_a), with hav(x) = sin(x / 2)^2.
    xp = _get_library(a_deg)
    a, b = xp.deg2rad(a_deg), xp.deg2rad(b_deg)
    hav = xp.sin((b - a) / 2.0) ** 2
    hav_distance = hav[..., 0] + xp.cos(a[..., 0]) * xp.cos(b[..., 0]) * hav[..., 1]
    return 2.0 * EARTH_RADIUS_KM * xp.arcsin(xp.sqrt(xp.clip(hav_distance, 0.0, 1.0)))


def geodesic_m(origin_deg: tuple[float, float], coords_deg: Sequence[tuple[float, float]]) -> list[float]:
    """Computes distances in metres on the ellipsoid WGS 84 between one and N points, in degrees."""
    latitudes, longitudes = np.reshape(coords_deg, (-1, 2)).astype(np.float64).T
    origin = np.full((2, len(latitudes)), np.array(origin_deg)[:, None])
    return list(WGS84.inv(origin[1], origin[0], longitudes, latitudes)[2])


def chord_to_km(chord: ArrayT) -> ArrayT:
    """Converts chords, the straight distances between unit vectors (0 to 2), to great-circle distances in km.

    An angle theta has the chord 2 sin(theta / 2). Computed from differences of vectors, the result resolves metres
    even in float32; the arccos of their products does not.
    """
    xp = _get_library(chord)
    return 2.0 * EARTH_RADIUS_KM * xp.arcsin(xp.clip(chord / 2.0, None, 1.0))


def to_unit(coords_deg: ArrayT) -> ArrayT:
    """Converts coordinates (..., 2) in degrees to unit vectors (..., 3).

    x points to (0, 0), y to (0, 90 east), z to the north pole.
    """
    xp = _get_library(coords_deg)
    radians = xp.deg2rad(coords_deg)
    lat, lon = radians[..., 0], radians[..., 1]
    return xp.stack((xp.cos(lat) * xp.cos(lon), xp.cos(lat) * xp.sin(lon), xp.sin(lat)), -1)


def from_unit(vectors: ArrayT) -> ArrayT:
    """Converts vectors (..., 3) of any length to coordinates (..., 2) in degrees; the inverse of `to_unit`.

    Latitudes are from -90 to 90, longitudes from -180 to 180. The zero vector gives (0, 0).
    """
    xp = _get_library(vectors)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return xp.rad2deg(xp.stack((xp.arctan2(z, xp.hypot(x, y)), xp.arctan2(y, x)), -1))


def _get_library(values: object) -> Any:
    """Returns torch for tensors, otherwise NumPy. The functions used here have the same names in both."""
    return torch if isinstance(values, torch.Tensor) else np


def compute_chord(distance_m: float) -> float:
    """Computes the chord between two points of the unit sphere from their great-circle distance in metres.

    It is the inverse of `chord_to_km`. Distances beyond half the circumference give 2, the longest chord.
    """
    return float(2.0 * np.sin(np.minimum(distance_m / (2000.0 * EARTH_RADIUS_KM), np.pi / 2)))
