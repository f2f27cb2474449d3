"""Metrics of predictions: values by an independent geodesy, coverage of intervals, counts of calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from support.geodesics import compute_geod_km

from geoguesser.evaluation.bootstrap import BootstrapSettings, Resampling
from geoguesser.evaluation.metrics import (
    compute_cell_accuracy,
    compute_metrics,
    compute_prediction_coverage,
    compute_share_interval,
)
from geoguesser.geo.grid import SquareGrid
from geoguesser.inference.predictions import Predictions
from geoguesser.reporting.evaluation import print_evaluation

SETTINGS = BootstrapSettings(samples=1000, block_km=0.0)


def draw_points(count: int, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = np.stack([rng.uniform(45.2, 45.9, count), rng.uniform(15.8, 18.5, count)], axis=-1)
    return true + rng.normal(0, spread, true.shape), true


def test_values_agree_with_an_independent_geodesy(croatia):
    predicted, true = draw_points(200)
    km = compute_geod_km(predicted, true)
    metrics = compute_metrics(predicted, true, croatia, SETTINGS)
    assert metrics["places"] == 200
    assert metrics["error_km"]["mean"]["value"] == pytest.approx(km.mean(), rel=1e-9)
    assert metrics["error_km"]["median"]["value"] == pytest.approx(np.median(km), rel=1e-9)
    assert metrics["error_km"]["p90"] == pytest.approx(np.percentile(km, 90), rel=1e-9)

    assert list(metrics["share_within_km"]) == ["1", "5", "10", "25", "50", "100", "200", "750", "2500"]
    for radius, share in metrics["share_within_km"].items():
        assert share["value"] == (km <= float(radius)).mean()
        assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1

    country = 5000 * np.exp(-10 * km / croatia.diagonal_km)
    assert metrics["score"]["country"]["value"] == pytest.approx(country.mean())
    assert metrics["score"]["world"]["value"] == pytest.approx((5000 * np.exp(-km / 1492.7)).mean())

    parts = list(metrics["by_part"].values())
    assert sum(part["places"] * part["error_km_mean"] for part in parts) / 200 == pytest.approx(km.mean())
    assert parts == sorted(parts, key=lambda part: -part["error_km_mean"])

    half = 1.96 * km.std(ddof=1) / np.sqrt(200)
    limits = [metrics["error_km"]["mean"][end] for end in ("low", "high")]
    assert limits == pytest.approx([km.mean() - half, km.mean() + half], rel=0.03)
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(("count", "has_median", "has_mean"), [(1, 0, 0), (19, 0, 0), (39, 1, 0), (40, 1, 1)])
def test_intervals_need_enough_places(croatia, count: int, has_median: bool, has_mean: bool):
    metrics = compute_metrics(*draw_points(count), croatia, SETTINGS)
    assert (metrics["error_km"]["median"]["low"] is not None) == has_median
    assert (metrics["share_within_km"]["25"]["high"] is not None) == has_median
    assert (metrics["error_km"]["mean"]["low"] is not None) == has_mean
    assert (metrics["score"]["country"]["low"] is not None) == has_mean


def test_places_beyond_the_crs_and_blocks(croatia):
    predicted, true = draw_points(19)
    true[0] = (-33.9, 151.2)
    assert compute_metrics(predicted, true, croatia, SETTINGS)["error_km"]["mean"]["value"] > 800
    metrics = compute_metrics(*draw_points(400), croatia, BootstrapSettings(samples=1000))
    assert "blocks of" in metrics["units"]


def test_share_interval_of_independent_places_is_wilsons():
    hits = np.arange(300) < 240
    interval = compute_share_interval(hits, Resampling(np.arange(300), samples=1000, seed=0), 0.95)
    exact = binomtest(240, 300).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=0.002)
    assert compute_share_interval(hits, None, 0.95).low is None


def test_share_interval_of_clustered_places_covers():
    rng, resampling = np.random.default_rng(0), Resampling(np.repeat(np.arange(60), 5), samples=1000, seed=0)
    covered = 0
    for _ in range(300):
        hits = np.repeat(rng.random(60) < 0.8, 5)
        interval = compute_share_interval(hits, resampling, 0.95)
        covered += interval.low <= 0.8 <= interval.high
    assert covered / 300 > 0.92

    interval = compute_share_interval(np.zeros(300, bool), resampling, 0.95)
    assert (interval.low, interval.value) == (0.0, 0.0)
    assert interval.high == pytest.approx(binomtest(0, 60).proportion_ci(method="wilson").high, abs=0.01)


def test_coverage_and_cell_accuracy_are_counted(croatia):
    predicted, true = draw_points(300, spread=0.2)
    grid = SquareGrid(size=30).fit(croatia, true)
    cell = grid.assign(true)
    posterior = np.random.default_rng(1).dirichlet(np.full(grid.num_cells, 0.1), len(true))
    posterior[:100] = np.eye(grid.num_cells)[cell[:100]]
    inside = np.eye(grid.num_cells, dtype=bool)[cell]
    inside[:60] = False

    on_land, expected_km, radius_km = np.ones(300, bool), np.full(300, 20.0), np.full(300, 25.0)
    predictions = Predictions(predicted, on_land, grid, posterior, expected_km, {"90": radius_km}, {"50": inside})
    coverage = compute_prediction_coverage(predictions, true)
    share = float((compute_geod_km(predicted, true) <= 25).mean())
    assert coverage["radii"]["90"]["coverage"] == share
    assert coverage["radii"]["90"]["low"] < share < coverage["radii"]["90"]["high"]
    assert coverage["sets"]["50"]["coverage"] == 0.8
    assert coverage["expected_error_km_mean"] == 20.0

    accuracy = compute_cell_accuracy(predictions, true)
    assert accuracy["cell_top1"] == (posterior.argmax(axis=1) == cell).mean()
    assert accuracy["cell_top5"] >= accuracy["cell_top1"] >= 1 / 3

    points_only = Predictions(predicted, on_land)
    assert compute_prediction_coverage(points_only, true) is None
    assert compute_cell_accuracy(points_only, true) is None


def test_counts_are_printed(croatia, capsys):
    point = np.array([[45.5, 16.0]])
    metrics = compute_metrics(point, point, croatia, SETTINGS)
    assert metrics["units"] == "1 place"

    counts = {"places_with_broken_views": 1, "predictions_of_no_place": 2, "left out: bad_row": 1}
    print_evaluation(metrics | {"counts": counts}, Path("folder"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 place, ")
    expected = ["1 place with broken views", "2 predictions of no place", "1 left out: bad row", "Folder: folder"]
    assert lines[-4:] == expected
