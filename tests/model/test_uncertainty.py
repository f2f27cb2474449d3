"""Uncertainty and conformal thresholds: hand-made posteriors, brute force, SciPy, and coverage by simulation."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from scipy.stats import binomtest
from shapely.geometry import MultiPolygon

from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import PlaneRegion
from geoguesser.model import conformal
from geoguesser.model.decoder import MeanDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.uncertainty import (
    MAX_DISTANCE_KM,
    MEAN_DISTANCE_IN_SQUARE,
    Calibration,
    HeadOutput,
    apply_temperature,
    compute_distances_km,
    compute_expected_km,
    compute_nll,
    decode_output,
    fit_temperature,
    restore_calibration,
)


def drawn_logits(count: int, cells: int, temperature: float, seed: int) -> tuple[Any, Any]:
    """Logits, and cells drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 3.0, (count, cells))
    true = apply_temperature(logits, temperature)
    cell = (true.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return logits, cell


def world_of(count: int, cells: int, seed: int, temperature: float = 2.0) -> tuple[HeadOutput, Any, Any]:
    """What an overconfident head says of places in a small world, their true cells and errors."""
    rng = np.random.default_rng(seed)
    points_deg = np.stack([rng.uniform(44, 46, cells), rng.uniform(14, 18, cells)], axis=-1)
    logits, cell = drawn_logits(count, cells, temperature, seed + 1)
    vectors = to_unit(points_deg)
    answers_deg = from_unit(apply_temperature(logits) @ vectors)
    true_deg = points_deg[cell] + rng.uniform(-0.2, 0.2, (count, 2))
    said = HeadOutput(answers_deg, logits, vectors, np.full(cells, 40.0))
    return said, cell, haversine_km(answers_deg, true_deg)


def part_of(said: HeadOutput, rows: Any) -> HeadOutput:
    assert said.logits is not None
    return HeadOutput(said.answers_deg[rows], said.logits[rows], said.vectors, said.sides_km)


def test_mass_scores_by_hand() -> None:
    posterior = np.array([[0.5, 0.2, 0.3], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    expected = [[0.0, 0.8, 0.5], [0.5, 0.0, 0.5], [0.0, 1.0, 1.0]]  # ties come in together
    np.testing.assert_allclose(conformal.compute_mass_scores(posterior), expected)


def test_mass_scores_are_their_definition() -> None:
    rng = np.random.default_rng(0)
    posterior = rng.integers(0, 5, (40, 7)) + 1e-9
    posterior /= posterior.sum(axis=1, keepdims=True)
    for row, scores in zip(posterior, conformal.compute_mass_scores(posterior), strict=True):
        np.testing.assert_allclose(scores, [row[row > one].sum() for one in row], atol=1e-12)


def test_the_quantile_is_the_right_order_statistic() -> None:
    scores = np.arange(19.0)[::-1]
    assert conformal.compute_quantile(scores, 0.95) == 18.0  # ceil(20 x 0.95) = 19: the largest
    assert conformal.compute_quantile(scores[:18], 0.95) == math.inf
    assert conformal.compute_quantile(scores, 0.9) == 17.0
    assert conformal.compute_quantile(scores, 0.5) == 9.0
    assert conformal.compute_quantile(np.array([3.0]), 0.5) == 3.0
    assert conformal.compute_quantile(np.zeros(0), 0.5) == math.inf


def test_sets_hold_the_most_probable_cell_and_grow() -> None:
    posterior = np.array([[0.9, 0.06, 0.04], [0.4, 0.35, 0.25]])
    scores = conformal.compute_mass_scores(posterior)
    sizes = [(scores <= at).sum(axis=1).tolist() for at in (0.0, 0.7, 0.93, math.inf)]
    assert sizes == [[1, 1], [1, 2], [2, 3], [3, 3]]


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (9, 10), (450, 500), (500, 500)])
def test_intervals_are_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert conformal.compute_interval_95(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_is_recovered_and_is_the_best_of_a_grid(temperature: float) -> None:
    logits, cell = drawn_logits(6000, 20, temperature, 3)
    found = fit_temperature(logits, cell)
    assert found == pytest.approx(temperature, rel=0.06)
    grid = np.geomspace(0.05, 20, 2001)
    assert found == pytest.approx(grid[np.argmin([compute_nll(logits, cell, one) for one in grid])], rel=4e-3)


def test_likelihood_is_torchs() -> None:
    logits, cell = drawn_logits(50, 6, 1.0, 5)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / 1.7, torch.from_numpy(cell))
    assert compute_nll(logits, cell, 1.7) == pytest.approx(float(expected), abs=1e-12)
    np.testing.assert_allclose(
        apply_temperature(logits, 1.7), torch.softmax(torch.from_numpy(logits) / 1.7, dim=1)
    )


def test_impossible_cells_and_single_cells_leave_a_finite_temperature() -> None:
    logits = np.log(np.array([[0.7, 0.3, 1e-300], [0.5, 0.5, 0.0 + 1e-320]]))
    logits[1, 2] = -np.inf
    assert math.isfinite(fit_temperature(logits, np.array([2, 2])))
    assert fit_temperature(np.zeros((4, 1)), np.zeros(4, dtype=int)) == 1.0
    assert fit_temperature(np.zeros((4, 3)), np.zeros(4, dtype=int)) == 1.0


def test_distances_are_haversines() -> None:
    rng = np.random.default_rng(1)
    points = np.stack([rng.uniform(-90, 90, 9), rng.uniform(-180, 180, 9)], axis=-1)
    answers = np.concatenate([points[:3], rng.uniform(-80, 80, (4, 2))])
    expected = haversine_km(answers[:, None], points[None])
    np.testing.assert_allclose(compute_distances_km(answers, to_unit(points)), expected, atol=1e-3)
    each = np.broadcast_to(to_unit(points), (7, 9, 3))
    np.testing.assert_allclose(compute_distances_km(answers, each), expected, atol=1e-3)


@pytest.mark.parametrize(("away", "tolerance"), [(0.0, 1e-3), (0.3, 0.08), (0.6, 0.08), (1.0, 0.04), (5.0, 0.01)])
def test_the_spread_inside_a_cell_is_near_a_uniform_places(away: float, tolerance: float) -> None:
    across, up = np.meshgrid(*[(np.arange(400) + 0.5) / 400 - 0.5] * 2)
    true = np.mean(
        [np.hypot(across - away * np.cos(turn), up - away * np.sin(turn)).mean() for turn in (0, 0.4, 0.8)]
    )
    found = compute_expected_km(np.ones((1, 1)), np.array([[40.0 * away]]), np.array([40.0]))[0] / 40.0
    assert found == pytest.approx(true, rel=tolerance)
    assert pytest.approx((math.sqrt(2) + math.asinh(1)) / 6, abs=1e-6) == MEAN_DISTANCE_IN_SQUARE


def test_coverage_by_simulation() -> None:
    """Over many draws of calibration and test places, with the temperature fitted on the former as well."""
    draws, places, new = 120, 40, 60
    hits = {f"{kind}_{level}": 0.0 for kind in ("set", "radius") for level in ("50", "90", "95")}
    said, cell, error_km = world_of(draws * (places + new), 12, 7)
    for draw in range(draws):
        rows = np.arange(draw * (places + new), (draw + 1) * (places + new))
        first, last = rows[:places], rows[places:]
        calibration = Calibration.fit(part_of(said, first), cell[first], error_km[first])
        found = calibration.describe_places(part_of(said, last), cell[last])
        for level in ("50", "90", "95"):
            hits[f"set_{level}"] += found[f"set_{level}_holds"].mean() / draws
            hits[f"radius_{level}"] += (error_km[last] <= found[f"radius_{level}_km"]).mean() / draws
    for name, share in hits.items():
        level = int(name.split("_")[1]) / 100
        assert level - 0.015 <= share, name
        if name.startswith("radius") or level >= 0.9:
            assert share <= level + 1 / (places + 1) + 0.02, name


def test_the_expected_error_has_the_right_mean_and_chunks_are_no_matter(monkeypatch) -> None:
    said, cell, error_km = world_of(300, 9, 11)
    calibration = Calibration.fit(said, cell, error_km)
    whole = calibration.describe_places(said, cell)
    assert whole["expected_error_km"].mean() == pytest.approx(error_km.mean(), rel=1e-9)
    assert np.corrcoef(whole["expected_error_km"], error_km)[0, 1] > 0.3
    monkeypatch.setattr("geoguesser.model.uncertainty.MAX_CHUNK_VALUES", 70)
    chunked = calibration.describe_places(said, cell)
    assert list(chunked) == list(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(chunked[name], values)
    np.testing.assert_allclose(whole["set_90_km2"], whole["set_90_cells"] * 1600.0)


@pytest.mark.parametrize(("count", "level"), [(20, 0.9), (36, 0.5), (163, 0.95)])
def test_usual_coverage_is_that_of_many_draws(count: int, level: float) -> None:
    draws = np.random.default_rng(2).random((4000, count))  # scores whose coverage is themselves
    true = [conformal.compute_quantile(scores, level) for scores in draws]
    assert conformal.compute_coverage_range(count, level) == pytest.approx(
        np.percentile(true, (2.5, 97.5)), abs=0.01
    )
    assert conformal.compute_coverage_range(18, 0.95) == (1.0, 1.0)


def test_higher_levels_have_larger_sets_and_probabilities_fit() -> None:
    said, cell, error_km = world_of(300, 9, 12)
    found = Calibration.fit(said, cell, error_km).describe_places(said)
    assert (found["set_50_cells"] <= found["set_90_cells"]).all()
    assert (found["set_90_cells"] <= found["set_95_cells"]).all()
    assert (found["radius_50_km"] < found["radius_90_km"]).all()
    assert found["cell_probability"].mean() == pytest.approx((found["cell"] == cell).mean(), abs=0.06)
    assert "set_90_holds" not in found


def test_few_calibration_places_know_no_high_radius() -> None:
    said, cell, error_km = world_of(8, 5, 13)
    calibration = Calibration.fit(said, cell, error_km)
    assert calibration.mass is not None
    assert calibration.mass["95"] is None
    found = calibration.describe_places(said)
    assert "radius_90_km" not in found
    assert "radius_50_km" in found
    assert (found["set_95_cells"] == 5).all()  # all there are


def test_state_is_plain_and_comes_back() -> None:
    said, cell, error_km = world_of(8, 5, 14)
    for calibration in (
        Calibration.fit(said, cell, error_km),
        Calibration.fit(HeadOutput(said.answers_deg), None, error_km),
    ):
        state = json.loads(json.dumps(calibration.state(), allow_nan=False))
        assert restore_calibration(state) == calibration


def test_one_cell_is_certain() -> None:
    said, _, error_km = world_of(30, 1, 15)
    calibration = Calibration.fit(said, np.zeros(30, dtype=int), error_km)
    found = calibration.describe_places(said, np.zeros(30, dtype=int))
    assert calibration.temperature == 1.0
    assert found["set_50_holds"].all()
    assert (found["cell_probability"] == 1.0).all()


def test_radii_end_at_the_antipode() -> None:
    said, cell, error_km = world_of(30, 4, 16)
    found = Calibration.fit(said, cell, 1000.0 * error_km).describe_places(said)
    assert (found["radius_95_km"] <= MAX_DISTANCE_KM).all()


REGION = PlaneRegion("Toyland", MultiPolygon([shapely.box(15.0, 45.0, 16.0, 45.7)]), "EPSG:3765")


def test_said_of_heads_with_and_without_cells() -> None:
    rng = np.random.default_rng(0)
    coords = np.stack([rng.uniform(45.0, 45.7, 40), rng.uniform(15.0, 16.0, 40)], axis=-1)
    head = ClassificationHead.fit(
        in_features=3,
        region=REGION,
        train_coords_deg=coords,
        grid=SquareGrid(size=9),
        loss=CrossEntropy(),
        decoder=MeanDecoder(temperature=0.5),
    )
    out = head(torch.randn(5, 3))
    said = decode_output(head, out)
    assert head.grid is not None
    assert said.logits is not None
    np.testing.assert_allclose(apply_temperature(said.logits), head.posterior(out).detach(), atol=1e-6)
    np.testing.assert_allclose(said.answers_deg, head.decode(out).detach(), atol=1e-9)
    assert said.sides_km is head.grid.class_sides_km
    given = decode_output(head, out, coords[:5])
    assert given.answers_deg is coords[:5] or (given.answers_deg == coords[:5]).all()
    plain = RegressionHead.fit(in_features=3, region=REGION, train_coords_deg=coords)
    found = decode_output(plain, plain(torch.randn(40, 3)))
    assert found.logits is None
    error_km = haversine_km(found.answers_deg, coords)
    calibration = Calibration.fit(found, None, error_km)
    known = calibration.describe_places(found)
    assert set(known) == {"radius_50_km", "radius_90_km", "radius_95_km"}
    assert calibration.scale == pytest.approx(error_km.mean())
    assert (known["radius_50_km"] == np.sort(error_km)[math.ceil(41 * 0.5) - 1]).all()


def test_distances_to_the_cells_of_a_network_are_good_to_a_few_metres():
    """Its points have 32 bits: taken as they are, an answer on a cell's own point would lie 2 km off it."""
    region = PlaneRegion("box", MultiPolygon([shapely.box(15.0, 45.0, 16.0, 46.0)]), "EPSG:3765")
    places = np.random.default_rng(0).uniform((45.0, 15.0), (46.0, 16.0), (300, 2))
    head = ClassificationHead.fit(
        in_features=4, region=region, train_coords_deg=places, grid=SquareGrid(size=100), loss=CrossEntropy(),
        decoder=MeanDecoder(),
    )  # fmt: skip
    assert head.grid is not None
    points_deg = head.grid.class_points_deg
    said = decode_output(head, torch.zeros(len(points_deg), head.output_size), points_deg)
    assert said.vectors is not None
    np.testing.assert_allclose(np.diag(compute_distances_km(points_deg, said.vectors)), 0.0, atol=0.2)
    some = np.roll(points_deg, 1, axis=0)
    np.testing.assert_allclose(
        np.diag(compute_distances_km(some, said.vectors)), haversine_km(some, points_deg), atol=0.003
    )
