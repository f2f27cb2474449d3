"""Distances by pyproj on a sphere of the same radius as the package's."""

from __future__ import annotations

import numpy as np
import pyproj

from geoguesser.geo.distance import EARTH_RADIUS_KM

SPHERE = pyproj.Geod(a=EARTH_RADIUS_KM * 1000.0, f=0.0)


def compute_geod_km(a: np.ndarray, b: np.ndarray, geod: pyproj.Geod = SPHERE) -> np.ndarray:
    """Returns distances of places (..., 2) in degrees, whose leading axes broadcast."""
    a, b = np.broadcast_arrays(a, b)
    return geod.inv(a[..., 1], a[..., 0], b[..., 1], b[..., 0])[2] / 1000.0
