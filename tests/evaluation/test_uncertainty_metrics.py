"""Metrics of uncertainty against cases worked by hand, scikit-learn and brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss
from support.head_outputs import draw_output
from support.pictures import draw_picture

from geoguesser.evaluation.uncertainty_metrics import (
    compute_abstention,
    compute_calibration_error,
    compute_reliability,
    summarise_uncertainty,
)
from geoguesser.model.uncertainty import Calibration, HeadOutput, apply_temperature
from geoguesser.reporting.run import uncertainty_plots


def summarise(calibrating: int, testing: int, cells: int) -> dict[str, Any]:
    calibration = Calibration.fit(*draw_output(calibrating, cells, 1))
    output, cell, error_km = draw_output(testing, cells, 2)
    return summarise_uncertainty(calibration, calibration.describe_places(output, cell), output, cell, error_km)


def test_reliability_by_hand() -> None:
    confidence = np.array([0.9, 0.2, 0.8, 0.3])
    curve = compute_reliability(confidence, np.array([True, False, False, True]), bins=2)
    assert curve["places"] == [2, 2]
    np.testing.assert_allclose(curve["confidence"], [0.25, 0.85])
    assert curve["correct"] == [0.5, 0.5]
    assert compute_calibration_error(curve) == pytest.approx(0.3)
    curve = compute_reliability(np.array([0.4]), np.array([True]))
    assert curve == {"places": [1], "confidence": [0.4], "correct": [1.0]}


def test_summary_agrees_with_the_columns() -> None:
    calibration = Calibration.fit(*draw_output(400, 12, 3))
    output, cell, error_km = draw_output(500, 12, 4)
    columns = calibration.describe_places(output, cell)
    part = summarise_uncertainty(calibration, columns, output, cell, error_km)
    json.dumps(part, allow_nan=False)

    assert part["radii"]["90"]["coverage"] == pytest.approx((error_km <= columns["radius_90_km"]).mean())
    assert part["radii"]["90"]["low"] < part["radii"]["90"]["coverage"] < part["radii"]["90"]["high"]
    assert part["sets"]["95"]["cells_mean"] == pytest.approx(columns["set_95_cells"].mean())
    assert part["sets"]["95"]["km2_mean"] == pytest.approx(1600 * columns["set_95_cells"].mean())

    after = apply_temperature(output.logits, calibration.temperature)  # type: ignore[arg-type]
    assert part["nll_after"] == pytest.approx(log_loss(cell, after, labels=range(12)), rel=1e-6)
    assert part["nll_after"] < part["nll_before"]
    assert part["ece_after"] < part["ece_before"]
    assert part["expected_error_km_mean"] == pytest.approx(error_km.mean(), rel=0.2)


def test_abstention_by_hand() -> None:
    error_km = np.array([40.0, 10.0, 20.0, 30.0])
    abstention = compute_abstention(np.array([4.0, 1.0, 3.0, 2.0]), error_km)
    assert abstention["refused"][0] == 0.0
    assert abstention["refused"][-1] == 0.9
    assert abstention["error_km_mean"][0] == abstention["random_area_km"] == 25.0

    # 30 % of four places: the most uncertain one is refused.
    assert abstention["error_km_mean"][3] == pytest.approx(60 / 3)
    assert abstention["error_km_mean"][-1] == 10.0
    assert abstention["error_km_median"][5] == 20.0
    assert abstention["area_km"] == pytest.approx((10 + 20 + 20 + 25) / 4)
    assert abstention["oracle_area_km"] == pytest.approx((10 + 15 + 20 + 25) / 4)


def test_abstention_with_a_single_place_and_with_random_expectations() -> None:
    assert compute_abstention(np.ones(1), np.array([7.0]))["error_km_mean"] == [7.0] * 10
    error_km = np.random.default_rng(0).exponential(50.0, 2000)
    abstention = compute_abstention(np.random.default_rng(1).random(2000), error_km)
    assert abstention["area_km"] == pytest.approx(abstention["random_area_km"], rel=0.05)
    assert abstention["oracle_area_km"] < abstention["area_km"]


@pytest.mark.parametrize(("calibrating", "testing", "cells"), [(60, 300, 9), (3, 1, 4), (25, 2, 1)])
def test_pictures_of_many_and_few_places(tmp_path: Path, calibrating: int, testing: int, cells: int) -> None:
    part = json.loads(json.dumps(summarise(calibrating, testing, cells), allow_nan=False))
    draw_picture(tmp_path, uncertainty_plots.draw_calibration, uncertainty=part)
    abstention = part["abstention"]
    draw_picture(tmp_path, uncertainty_plots.draw_abstention, abstention=abstention, title="Some $title")


def test_a_head_without_cells_has_only_radii(tmp_path: Path) -> None:
    error_km = np.random.default_rng(0).exponential(50.0, 40)
    output = HeadOutput(np.zeros((40, 2)))
    calibration = Calibration.fit(output, None, error_km)
    part = summarise_uncertainty(calibration, calibration.describe_places(output), output, None, error_km)
    for name in ("temperature", "nll_after", "ece_before", "reliability", "sets", "abstention"):
        assert part[name] is None
    assert part["expected_error_km_mean"] is None
    assert part["radii"]["50"]["km_mean"] == part["radii"]["50"]["km_median"]
    draw_picture(tmp_path, uncertainty_plots.draw_calibration, uncertainty=part)
