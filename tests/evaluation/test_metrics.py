"""Evaluated: figures by hand, intervals that cover, calibration that is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pyproj import Geod
from scipy.stats import binomtest

from geoguesser.evaluation.bootstrap import BootstrapSettings, Resampling
from geoguesser.evaluation.metrics import (
    compute_cell_accuracy,
    compute_coverage,
    compute_metrics,
    compute_share_interval,
)
from geoguesser.geo.grid import SquareGrid
from geoguesser.inference.predictions import Predictions
from geoguesser.reporting.evaluation import print_evaluation

SPHERE = Geod(a=6371008.8, f=0.0)
SETTINGS = BootstrapSettings(samples=1000, block_km=0.0)


def drawn(count: int, seed: int = 0, spread: float = 0.3):
    rng = np.random.default_rng(seed)
    true = np.stack([rng.uniform(45.2, 45.9, count), rng.uniform(15.8, 18.5, count)], axis=-1)
    return true + rng.normal(0, spread, true.shape), true


def test_figures_are_those_of_an_independent_geodesy(croatia):
    predicted, true = drawn(200)
    found = compute_metrics(predicted, true, croatia, SETTINGS)
    _, _, metres = SPHERE.inv(true[:, 1], true[:, 0], predicted[:, 1], predicted[:, 0])
    km = np.asarray(metres) / 1000
    assert found["places"] == 200
    assert found["error_km"]["mean"]["value"] == pytest.approx(km.mean(), rel=1e-9)
    assert found["error_km"]["median"]["value"] == pytest.approx(np.median(km), rel=1e-9)
    assert found["error_km"]["p90"] == pytest.approx(np.percentile(km, 90), rel=1e-9)
    assert list(found["share_within_km"]) == ["1", "5", "10", "25", "50", "100", "200", "750", "2500"]
    for radius, share in found["share_within_km"].items():
        assert share["value"] == (km <= float(radius)).mean()
        assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    country = 5000 * np.exp(-10 * km / croatia.diagonal_km)
    assert found["score"]["country"]["value"] == pytest.approx(country.mean())
    assert found["score"]["world"]["value"] == pytest.approx((5000 * np.exp(-km / 1492.7)).mean())
    parts = found["by_part"].values()
    assert sum(one["places"] * one["error_km_mean"] for one in parts) / 200 == pytest.approx(km.mean())
    means = [one["error_km_mean"] for one in parts]
    assert means == sorted(means, reverse=True)
    low, high = (found["error_km"]["mean"][end] for end in ("low", "high"))
    half = 1.96 * km.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((km.mean() - half, km.mean() + half), rel=0.03)
    json.dumps(found, allow_nan=False)


def test_few_places_get_no_interval_and_far_ones_a_sphere(croatia):
    predicted, true = drawn(19)
    found = compute_metrics(predicted, true, croatia, SETTINGS)
    assert found["error_km"]["mean"]["low"] is None
    assert found["share_within_km"]["25"]["high"] is None
    assert compute_metrics(predicted[:1], true[:1], croatia, SETTINGS)["places"] == 1
    some = compute_metrics(*drawn(39), croatia, SETTINGS)
    assert some["error_km"]["mean"]["low"] is None  # of so few places a mean has none, a median has
    assert some["score"]["country"]["low"] is None
    assert some["error_km"]["median"]["low"] < some["error_km"]["median"]["value"]
    assert some["share_within_km"]["25"]["low"] is not None
    assert compute_metrics(*drawn(40), croatia, SETTINGS)["error_km"]["mean"]["low"] is not None
    true[0] = (-33.9, 151.2)  # Sydney, far beyond the reach of a Croatian CRS
    far = compute_metrics(predicted, true, croatia, SETTINGS)
    assert far["error_km"]["mean"]["value"] > 800
    blocks = compute_metrics(*drawn(400), croatia, BootstrapSettings(samples=1000))
    assert "blocks of" in blocks["units"]


def test_share_intervals_cover():
    """Of independent places the usual binomial interval; of clustered ones a wider one that covers."""
    hits_of = np.arange(300) < 240
    found = compute_share_interval(hits_of, Resampling(np.arange(300), samples=1000, seed=0), 0.95)
    exact = binomtest(240, 300).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.002)
    unit = np.repeat(np.arange(60), 5)
    rng, covered = np.random.default_rng(0), 0
    wide = Resampling(unit, samples=1000, seed=0)
    for _ in range(300):
        hit = np.repeat(rng.random(60) < 0.8, 5)  # all places of a block share their luck
        one = compute_share_interval(hit, wide, 0.95)
        covered += one.low <= 0.8 <= one.high
    assert covered / 300 > 0.92
    none = compute_share_interval(np.zeros(300, bool), wide, 0.95)
    assert (none.low, none.value) == (0.0, 0.0)
    assert none.high == pytest.approx(binomtest(0, 60).proportion_ci(method="wilson").high, abs=0.01)
    assert compute_share_interval(hits_of, None, 0.95).low is None


def test_how_sure_it_was_is_counted(croatia):
    predicted, true = drawn(300, spread=0.2)
    grid = SquareGrid(size=30).fit(croatia, true)
    cell = grid.assign(true)
    rng = np.random.default_rng(1)
    posterior = rng.dirichlet(np.full(grid.num_cells, 0.1), len(true))
    posterior[:100] = np.eye(grid.num_cells)[cell[:100]]
    inside = np.eye(grid.num_cells, dtype=bool)[cell]
    inside[:60] = False
    answers = Predictions(
        predicted,
        np.ones(300, bool),
        grid,
        posterior,
        np.full(300, 20.0),
        {"90": np.full(300, 25.0)},
        {"50": inside},
    )
    found = compute_coverage(answers, true)
    _, _, metres = SPHERE.inv(true[:, 1], true[:, 0], predicted[:, 1], predicted[:, 0])
    share = float((np.asarray(metres) <= 25_000).mean())
    assert found["radii"]["90"]["coverage"] == share
    assert found["radii"]["90"]["low"] < share < found["radii"]["90"]["high"]
    assert found["sets"]["50"]["coverage"] == 0.8
    assert found["expected_error_km_mean"] == 20.0
    told = compute_cell_accuracy(answers, true)
    assert told["cell_top1"] == (posterior.argmax(axis=1) == cell).mean()
    assert told["cell_top5"] >= told["cell_top1"] >= 1 / 3
    bare = Predictions(predicted, np.ones(300, bool))
    assert compute_coverage(bare, true) is None
    assert compute_cell_accuracy(bare, true) is None


def test_printed_counts_of_one_are_singular(croatia, capsys):
    one = np.array([[45.5, 16.0]])
    found = compute_metrics(one, one, croatia, SETTINGS)
    counts = {"places_with_broken_views": 1, "predictions_of_no_place": 1, "left out: bad_row": 1}
    print_evaluation(found | {"counts": counts}, Path("folder"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 place, ")
    assert lines[-4:] == [
        "1 place with broken views",
        "1 prediction of no place",
        "1 left out: bad row",
        "Folder: folder",
    ]
    assert found["units"] == "1 place"
