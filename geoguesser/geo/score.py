"""Scores of distances: the game score, and the shares of errors within radii."""

from __future__ import annotations

import numpy as np

from geoguesser.arrays import FloatArray

WORLD_DIAGONAL_KM = 14_927.0  # D of GeoGuessr's world map, whose score is 5000 exp(-d / 1492.7 km)
SHARE_RADII_KM = (1, 5, 10, 25, 50, 100, 200)  # for a country
# Street, city, region, country, continent: N. Vo et al., "Revisiting IM2GPS in the Deep Learning Era" (2017).
BENCHMARK_RADII_KM = (1, 25, 200, 750, 2500)


def compute_game_score(error_km: FloatArray, diagonal_km: float) -> FloatArray:
    """Computes game scores (N,) of errors (N,) in km, 5000 exp(-10 d / D) with the diagonal D of the map in km."""
    return 5000.0 * np.exp(-10.0 * error_km / diagonal_km)


def compute_shares_within(error_km: FloatArray, radii_km: tuple[int, ...] = SHARE_RADII_KM) -> dict[str, float]:
    """Computes the shares of errors within radii in km, keyed by the radius."""
    return {str(radius): float(np.mean(error_km <= radius)) for radius in radii_km}
