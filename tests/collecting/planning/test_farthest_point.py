"""Farthest-first selection against a direct implementation, and its guarantees."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from geoguesser.collecting.planning.farthest_point import select_farthest_first
from geoguesser.geo.distance import haversine_km, to_unit


def draw_coords(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform((42, 13), (47, 20), (count, 2))


def select_directly(candidates: np.ndarray, existing: np.ndarray, count: int) -> list[int]:
    """Selects with all distances in one matrix, one candidate after another."""
    points = to_unit(candidates)
    nearest = cdist(points, to_unit(existing)).min(axis=1)
    chosen = []
    for _ in range(count):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def test_equals_the_direct_implementation() -> None:
    candidates, existing = draw_coords(1500, 0), draw_coords(20, 1)
    chosen, gaps_km = select_farthest_first(candidates, existing, max_count=300)
    assert chosen.tolist() == select_directly(candidates, existing, 300)
    assert (np.diff(gaps_km) <= 1e-9).all()
    first = haversine_km(candidates[chosen[0]], existing).min()
    np.testing.assert_allclose(gaps_km[0], first, rtol=1e-9)


def test_it_stops_at_the_spacing_and_where_no_candidate_is_left() -> None:
    candidates, existing = draw_coords(3000, 2), draw_coords(5, 3)
    chosen, gaps_km = select_farthest_first(candidates, existing, max_count=3000, spacing_m=30_000)
    assert 30 < len(chosen) < 3000
    assert gaps_km[-1] >= 30.0
    remaining_km = haversine_km(candidates[:, None], np.concatenate((existing, candidates[chosen]))[None]).min(
        axis=1
    )
    assert remaining_km.max() < 30.0
    distinct, _ = select_farthest_first(np.repeat(draw_coords(4, 4), 3, axis=0), existing, max_count=100)
    assert len(distinct) == 4  # a repeated point leaves no gap
