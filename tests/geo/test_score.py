"""Scores against values computed by hand."""

from __future__ import annotations

import math

import numpy as np

from geoguesser.geo.score import SHARE_RADII_KM, WORLD_DIAGONAL_KM, compute_game_score, compute_shares_within


def test_the_worlds_score_is_geoguessrs() -> None:
    # 5000 exp(-d / 1492.7 km)
    errors = np.array([0.0, 1492.7, 2 * 1492.7, 1000.0])
    expected = [5000.0, 5000 / math.e, 5000 / math.e**2, 5000 * math.exp(-1000 / 1492.7)]
    np.testing.assert_allclose(compute_game_score(errors, WORLD_DIAGONAL_KM), expected, rtol=1e-12)


def test_shares_within_counts_the_radius_itself() -> None:
    errors = np.array([0.5, 1.0, 1.5, 10.0, 24.9, 25.1, 300.0, 200.0])
    shares = np.array([2, 3, 4, 5, 6, 6, 7]) / 8
    assert compute_shares_within(errors) == dict(zip(map(str, SHARE_RADII_KM), shares, strict=True))
    assert SHARE_RADII_KM == (1, 5, 10, 25, 50, 100, 200)
