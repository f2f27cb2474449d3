"""Calibration, sets and radii against definitions, SciPy and simulated coverage."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from support.head_outputs import draw_logits, draw_output
from support.toy_run import draw_places, fit_head

from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.geo.grid import SquareGrid
from geoguesser.model.decoder import MeanDecoder
from geoguesser.model.heads.regression import RegressionHead
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

PLACES_DEG = draw_places(300)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_fitted_temperature_is_the_true_one_and_the_best_of_a_grid(temperature: float) -> None:
    logits, cell = draw_logits(6000, 20, temperature, 3)
    fitted = fit_temperature(logits, cell)
    assert fitted == pytest.approx(temperature, rel=0.06)
    candidates = np.geomspace(0.05, 20, 2001)
    best = candidates[np.argmin([compute_nll(logits, cell, candidate) for candidate in candidates])]
    assert fitted == pytest.approx(best, rel=4e-3)


def test_the_likelihood_is_torchs() -> None:
    logits, cell = draw_logits(50, 6, 1.0, 5)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / 1.7, torch.from_numpy(cell))
    assert compute_nll(logits, cell, 1.7) == pytest.approx(float(expected), abs=1e-12)
    np.testing.assert_allclose(
        apply_temperature(logits, 1.7), torch.softmax(torch.from_numpy(logits) / 1.7, dim=1)
    )


def test_impossible_cells_and_single_cells_have_a_finite_temperature() -> None:
    logits = np.log(np.array([[0.7, 0.3, 1e-300], [0.5, 0.5, 1e-320]]))
    logits[1, 2] = -np.inf
    assert math.isfinite(fit_temperature(logits, np.array([2, 2])))
    assert fit_temperature(np.zeros((4, 1)), np.zeros(4, dtype=int)) == 1.0
    assert fit_temperature(np.zeros((4, 3)), np.zeros(4, dtype=int)) == 1.0


def test_distances_are_haversines() -> None:
    random = np.random.default_rng(1)
    points_deg = np.stack([random.uniform(-90, 90, 9), random.uniform(-180, 180, 9)], axis=-1)
    answers_deg = np.concatenate([points_deg[:3], random.uniform(-80, 80, (4, 2))])
    expected = haversine_km(answers_deg[:, None], points_deg[None])
    vectors = to_unit(points_deg)
    np.testing.assert_allclose(compute_distances_km(answers_deg, vectors), expected, atol=1e-3)
    by_place = np.broadcast_to(vectors, (7, 9, 3))
    np.testing.assert_allclose(compute_distances_km(answers_deg, by_place), expected, atol=1e-3)


@pytest.mark.parametrize(("away", "tolerance"), [(0.0, 1e-3), (0.3, 0.08), (0.6, 0.08), (1.0, 0.04), (5.0, 0.01)])
def test_the_expected_error_in_a_cell_is_near_that_of_uniform_places(away: float, tolerance: float) -> None:
    east, north = np.meshgrid(*[(np.arange(400) + 0.5) / 400 - 0.5] * 2)
    angles = (0, 0.4, 0.8)
    expected = np.mean([np.hypot(east - away * np.cos(a), north - away * np.sin(a)).mean() for a in angles])
    computed = compute_expected_km(np.ones((1, 1)), np.array([[40.0 * away]]), np.array([40.0]))[0] / 40.0
    assert computed == pytest.approx(expected, rel=tolerance)
    assert pytest.approx((math.sqrt(2) + math.asinh(1)) / 6, abs=1e-6) == MEAN_DISTANCE_IN_SQUARE


def test_coverage_by_simulation() -> None:
    """Draws calibration and test places many times. The temperature is fitted on the calibration places too."""
    draws, places, new = 120, 40, 60
    hits = {f"{kind}_{level}": 0.0 for kind in ("set", "radius") for level in ("50", "90", "95")}
    output, cell, error_km = draw_output(draws * (places + new), 12, 7)
    for start in range(0, draws * (places + new), places + new):
        middle, stop = start + places, start + places + new
        calibration = Calibration.fit(
            output.slice_places(start, middle), cell[start:middle], error_km[start:middle]
        )
        columns = calibration.describe_places(output.slice_places(middle, stop), cell[middle:stop])
        for level in ("50", "90", "95"):
            hits[f"set_{level}"] += columns[f"set_{level}_holds"].mean() / draws
            hits[f"radius_{level}"] += (error_km[middle:stop] <= columns[f"radius_{level}_km"]).mean() / draws

    for name, share in hits.items():
        level = int(name.split("_")[1]) / 100
        assert level - 0.015 <= share, name
        if name.startswith("radius") or level >= 0.9:
            assert share <= level + 1 / (places + 1) + 0.02, name


def test_columns_of_places_are_consistent_and_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    output, cell, error_km = draw_output(300, 9, 11)
    calibration = Calibration.fit(output, cell, error_km)
    columns = calibration.describe_places(output, cell)
    assert columns["expected_error_km"].mean() == pytest.approx(error_km.mean(), rel=1e-9)
    assert np.corrcoef(columns["expected_error_km"], error_km)[0, 1] > 0.3
    assert columns["cell_probability"].mean() == pytest.approx((columns["cell"] == cell).mean(), abs=0.06)

    # Higher levels have larger sets and radii.
    assert (columns["set_50_cells"] <= columns["set_90_cells"]).all()
    assert (columns["set_90_cells"] <= columns["set_95_cells"]).all()
    assert (columns["radius_50_km"] < columns["radius_90_km"]).all()
    np.testing.assert_allclose(columns["set_90_km2"], columns["set_90_cells"] * 1600.0)

    monkeypatch.setattr("geoguesser.model.uncertainty.MAX_CHUNK_VALUES", 70)
    chunked = calibration.describe_places(output, cell)
    assert list(chunked) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(chunked[name], values)


def test_few_calibration_places_give_no_radius_of_a_high_level() -> None:
    output, cell, error_km = draw_output(8, 5, 13)
    calibration = Calibration.fit(output, cell, error_km)
    assert calibration.mass["95"] is None
    columns = calibration.describe_places(output)
    assert "radius_90_km" not in columns
    assert "set_90_holds" not in columns
    assert "radius_50_km" in columns
    assert (columns["set_95_cells"] == 5).all()


def test_a_single_cell_is_certain() -> None:
    calibration = Calibration.fit(*draw_output(30, 1, 15))
    columns = calibration.describe_places(*draw_output(30, 1, 15)[:2])
    assert calibration.temperature == 1.0
    assert columns["set_50_holds"].all()
    assert (columns["cell_probability"] == 1.0).all()


def test_radii_end_at_the_antipode() -> None:
    output, cell, error_km = draw_output(30, 4, 16)
    columns = Calibration.fit(output, cell, 1000.0 * error_km).describe_places(output)
    assert (columns["radius_95_km"] <= MAX_DISTANCE_KM).all()


def test_state_is_plain_and_restores_the_calibration() -> None:
    output, cell, error_km = draw_output(8, 5, 14)
    for calibration in (
        Calibration.fit(output, cell, error_km),
        Calibration.fit(HeadOutput(output.answers_deg), None, error_km),
    ):
        state = json.loads(json.dumps(calibration.state(), allow_nan=False))
        assert restore_calibration(state) == calibration


def test_the_output_of_a_head_with_cells() -> None:
    head = fit_head(3, PLACES_DEG, decoder=MeanDecoder(temperature=0.5))
    out = head(torch.randn(5, 3))
    output = decode_output(head, out)
    np.testing.assert_allclose(apply_temperature(output.logits), head.posterior(out).detach(), atol=1e-6)
    np.testing.assert_allclose(output.answers_deg, head.decode(out).detach(), atol=1e-9)
    assert output.sides_km is head.grid.class_sides_km
    np.testing.assert_array_equal(decode_output(head, out, PLACES_DEG[:5]).answers_deg, PLACES_DEG[:5])


def test_a_head_without_cells_has_radii_of_one_size() -> None:
    head = fit_head(3, PLACES_DEG, RegressionHead)
    output = decode_output(head, head(torch.randn(40, 3)))
    assert output.logits is None

    error_km = haversine_km(output.answers_deg, PLACES_DEG[:40])
    calibration = Calibration.fit(output, None, error_km)
    columns = calibration.describe_places(output)
    assert set(columns) == {"radius_50_km", "radius_90_km", "radius_95_km"}
    assert calibration.scale == pytest.approx(error_km.mean())
    assert (columns["radius_50_km"] == np.sort(error_km)[math.ceil(41 * 0.5) - 1]).all()


def test_distances_to_the_cells_of_a_network_are_right_to_a_few_metres() -> None:
    """The network's vectors are float32. Without normalisation, an answer would lie 2 km off its cell's point."""
    head = fit_head(3, PLACES_DEG, grid=SquareGrid(size=100))
    points_deg = head.grid.class_points_deg
    output = decode_output(head, torch.zeros(len(points_deg), head.output_size), points_deg)
    np.testing.assert_allclose(np.diag(compute_distances_km(points_deg, output.vectors)), 0.0, atol=0.2)

    others_deg = np.roll(points_deg, 1, axis=0)
    distances_km = np.diag(compute_distances_km(others_deg, output.vectors))
    np.testing.assert_allclose(distances_km, haversine_km(others_deg, points_deg), atol=0.003)
