"""Spherical medians against SciPy's minimiser, by hand, and by conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from geoguesser.geo.distance import EARTH_RADIUS_KM, chord_to_km, from_unit, haversine_km, to_unit
from geoguesser.geo.median import fixed_step_median, spherical_median


def median_deg(weights: np.ndarray, points_deg: np.ndarray, **settings: float) -> np.ndarray:
    """Returns medians (B, 2) in degrees, in float64."""
    vectors = torch.from_numpy(to_unit(np.asarray(points_deg, dtype=float)))
    return from_unit(spherical_median(torch.from_numpy(np.atleast_2d(weights)), vectors, **settings).numpy())


def expected_km(weights: np.ndarray, points_deg: np.ndarray, at: np.ndarray) -> float:
    return float(weights @ haversine_km(points_deg, np.asarray(at, dtype=float)))


def least_km(weights: np.ndarray, points_deg: np.ndarray, starts: list[np.ndarray]) -> float:
    """Returns the least expected distance of given points and of minima by Nelder and Mead."""

    def at(place: np.ndarray) -> float:
        latitude = np.clip(place[0], -90, 90)
        return expected_km(weights, points_deg, np.array([latitude, (place[1] + 180) % 360 - 180]))

    options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 4000}
    result = [minimize(at, start, method="Nelder-Mead", options=options).fun for start in starts]
    return min([*result, *(expected_km(weights, points_deg, point) for point in points_deg)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    spread=st.sampled_from([0.001, 1.0, 5.0, 30.0]),
    sharp=st.sampled_from([0.05, 0.5, 5.0]),
    west=st.sampled_from([-179.0, 16.0, 175.0]),
)
def test_no_point_is_better(seed: int, count: int, spread: float, sharp: float, west: float) -> None:
    """Also across the date line, and where most of the weight lies on one point."""
    random = np.random.default_rng(seed)
    points = np.stack(
        (random.uniform(45 - spread, 45 + spread, count), random.uniform(west, west + spread, count)), 1
    )
    points[:, 1] = (points[:, 1] + 180) % 360 - 180
    weights = random.dirichlet(np.full(count, sharp), 3) + 1e-12
    weights /= weights.sum(axis=1, keepdims=True)
    result = median_deg(weights, points)
    for weight, place in zip(weights, result, strict=True):
        best = least_km(weight, points, [points[weight.argmax()], place])
        assert expected_km(weight, points, place) <= best + 2e-2  # in flat valleys the last steps are short


def test_a_point_with_half_of_the_weight_is_the_median_itself() -> None:
    points = np.array([[45.0, 16.0], [46.0, 17.0], [44.0, 18.0], [43.5, 14.0]])
    result = median_deg(np.array([[0.52, 0.2, 0.2, 0.08], [0.0, 1.0, 0.0, 0.0], [0.1, 0.1, 0.7, 0.1]]), points)
    np.testing.assert_allclose(result, points[[0, 1, 2]], atol=1e-9)


def test_on_a_line_it_is_the_weighted_median() -> None:
    equator = np.array([[0.0, longitude] for longitude in (0.0, 1.0, 5.0, 20.0)])
    result = median_deg(np.array([[0.3, 0.3, 0.2, 0.2], [0.1, 0.1, 0.2, 0.6]]), equator)
    np.testing.assert_allclose(result, [[0.0, 1.0], [0.0, 20.0]], atol=1e-7)


def test_two_halves_of_the_world_give_the_better_one() -> None:
    """Zagreb's cluster holds 60 %: the answer is there, not in between as the mean's."""
    zagreb = np.array([45.8, 16.0]) + np.array([[0, 0], [0.5, 0], [0, 0.5]])
    sydney = np.array([-33.9, 151.2]) + np.array([[0, 0], [0.5, 0]])
    result = median_deg(np.array([[0.2, 0.2, 0.2, 0.2, 0.2]]), np.concatenate((zagreb, sydney)))
    assert haversine_km(result[0], zagreb[0]) < 100


def test_poles_and_antipodes() -> None:
    ring = np.array([[89.0, longitude] for longitude in (0.0, 90.0, 180.0, -90.0)])
    assert median_deg(np.full(4, 0.25), ring)[0, 0] == pytest.approx(90.0, abs=1e-6)
    opposite = np.array([[0.0, 0.0], [0.0, 180.0]])
    result = median_deg(np.array([[0.7, 0.3]]), opposite)
    np.testing.assert_allclose(result, [[0.0, 0.0]], atol=1e-6)
    assert np.isfinite(median_deg(np.array([[0.5, 0.5]]), opposite)).all()


def test_rows_do_not_touch_each_other_and_types_are_kept() -> None:
    random = np.random.default_rng(1)
    vectors = torch.from_numpy(to_unit(random.uniform((42, 13), (46, 19), (50, 2)))).float()
    weights = torch.softmax(torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 3, dim=-1)
    together = spherical_median(weights, vectors)
    assert together.dtype == torch.float32
    alone = torch.cat([spherical_median(row[None], vectors) for row in weights])
    assert float(haversine_km(from_unit(together.double()), from_unit(alone.double())).max()) < 0.01
    scaled = spherical_median(weights * 7.0, vectors)
    assert float(haversine_km(from_unit(together.double()), from_unit(scaled.double())).max()) < 0.01


@pytest.mark.parametrize("count", [1, 5, 60, 700])
def test_each_row_may_have_its_own_points(count: int) -> None:
    random = np.random.default_rng(count)
    points = random.uniform((42.0, 13.0), (46.5, 19.5), (4, count, 2))
    weights = random.dirichlet(np.full(count, 0.3), 4)
    together = spherical_median(torch.from_numpy(weights), torch.from_numpy(to_unit(points)))
    for weight, point, row in zip(weights, points, from_unit(together.numpy()), strict=True):
        assert haversine_km(row, median_deg(weight, point)[0]) < 0.003


@pytest.mark.parametrize(
    ("count", "sharp", "candidates"),
    [(1000, 0.02, 4), (1000, 0.3, 4), (1000, 3.0, 4), (191, 1e9, 1000), (500, 1e9, 1000), (1500, 1e9, 1000)],
)
def test_many_points_are_all_weighed(count: int, sharp: float, candidates: int) -> None:
    """More than those that are searched first, also where the heaviest of them hold little of the weight."""
    random = np.random.default_rng(int(100 * sharp) % 997)
    points = random.uniform((42.0, 13.0), (46.5, 19.5), (count, 2))
    weights = random.dirichlet(np.full(count, sharp), 3)
    for weight, place in zip(weights, median_deg(weights, points, candidates=candidates), strict=True):
        best = least_km(weight, points, [points[weight.argmax()], place])
        assert expected_km(weight, points, place) <= best + 1e-3


@pytest.mark.parametrize("count", [2, 3, 60, 400])
def test_around_the_world_no_place_nearby_is_better(count: int) -> None:
    """There may be several minima there, and the search ends in one."""
    random = np.random.default_rng(count)
    points = from_unit(random.normal(size=(count, 3)))
    weights = random.dirichlet(np.full(count, 0.5), 32)
    result = median_deg(weights, points)
    for _ in range(40):
        shift = random.normal(size=(32, 3)) * 10.0 ** random.uniform(-2.0, 2.0) / EARTH_RADIUS_KM
        nearby = from_unit(to_unit(result) + shift)
        for weight, place, other in zip(weights, result, nearby, strict=True):
            assert expected_km(weight, points, place) <= expected_km(weight, points, other) + 1e-4


def apart_m(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 1000.0 * chord_to_km((a - b).norm(dim=-1))


@pytest.mark.parametrize("count", [1, 2, 9, 53, 205])
@pytest.mark.parametrize("sharp", [0.0, 1.0, 4.0, 20.0])
def test_a_fixed_number_of_steps_finds_the_same_in_a_country(count: int, sharp: float) -> None:
    random = np.random.default_rng(count)
    places_deg = np.stack([random.uniform(42.5, 46.5, count), random.uniform(13.5, 19.5, count)], axis=-1)
    vectors = torch.from_numpy(to_unit(places_deg))
    logits = torch.from_numpy(sharp * random.standard_normal((200, count)))
    near = torch.from_numpy(random.integers(count, size=100))
    logits[:100] -= sharp * (vectors - vectors[near][:, None]).norm(dim=-1) / 0.01  # falls off from some cell
    weights = torch.softmax(logits, dim=-1)
    separate = torch.nn.functional.normalize(
        vectors + 0.003 * torch.from_numpy(random.standard_normal((200, count, 3))), dim=-1
    )
    for points in (vectors, separate):
        exact = spherical_median(weights, points, tolerance_km=1e-6)
        assert float(apart_m(fixed_step_median(weights, points), exact).max()) < 1.0


def test_a_fixed_number_of_steps_sees_a_point_with_half_of_the_weight() -> None:
    vectors = torch.from_numpy(to_unit(np.array([[45.0, 15.0], [45.5, 16.0], [44.0, 17.0]])))
    for half in (0.499, 0.5, 0.501, 1.0):
        weights = torch.tensor([[half, 0.6 * (1.0 - half), 0.4 * (1.0 - half)]], dtype=torch.float64)
        exact = spherical_median(weights, vectors, tolerance_km=1e-6)
        assert float(apart_m(fixed_step_median(weights, vectors), exact).max()) < 0.1


def test_around_the_world_more_steps_come_nearer() -> None:
    random = np.random.default_rng(0)
    places_deg = np.stack([np.degrees(np.arcsin(random.uniform(-1, 1, 240))), random.uniform(-180, 180, 240)], -1)
    vectors = torch.from_numpy(to_unit(places_deg))
    weights = torch.softmax(torch.from_numpy(4.0 * random.standard_normal((400, 240))), dim=-1)
    exact = spherical_median(weights, vectors)
    off_m = [apart_m(fixed_step_median(weights, vectors, steps=steps), exact) for steps in (2, 8, 64)]
    shares = [float((error > 10.0).double().mean()) for error in off_m]
    assert shares[0] > shares[2]
    assert shares[2] < 0.03


@pytest.mark.parametrize("seed", range(8))
def test_around_the_world_many_candidates_beat_every_point_of_a_raster(seed: int) -> None:
    random = np.random.default_rng(seed)
    coords = from_unit(random.normal(size=(int(random.integers(3, 40)), 3)))
    lat, lon = np.meshgrid(np.arange(-88, 89, 4.0), np.arange(-180, 180, 4.0))
    raster = np.stack((lat.ravel(), lon.ravel()), axis=-1)
    least = haversine_km(raster[:, None], coords[None]).mean(axis=1).min()
    (result,) = median_deg(np.ones(len(coords)), coords, candidates=1000)
    assert haversine_km(result, coords).mean() <= least + 1e-3


def test_the_search_leaves_a_point_that_is_nearly_the_answer() -> None:
    # An angle just below 120 degrees: the answer lies near the vertex, where plain Weiszfeld stalls.
    triangle, weights = np.array([(0.0, 0.0), (10.0, 17.0), (10.0, -17.0)]), np.full(3, 1 / 3)
    best = least_km(weights, triangle, [np.array((1.0, 0.0))])
    assert best < expected_km(weights, triangle, triangle[0]) - 0.1
    assert expected_km(weights, triangle, median_deg(weights, triangle)[0]) <= best + 1e-3
