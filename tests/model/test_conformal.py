"""Conformal thresholds, mass scores and intervals against definitions, SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from geoguesser.model import conformal


def test_mass_scores_are_their_definition() -> None:
    posterior = np.random.default_rng(0).integers(0, 5, (40, 7)) + 1e-9
    posterior /= posterior.sum(axis=1, keepdims=True)
    for row, scores in zip(posterior, conformal.compute_mass_scores(posterior), strict=True):
        np.testing.assert_allclose(scores, [row[row > value].sum() for value in row], atol=1e-12)


def test_the_quantile_is_the_right_order_statistic() -> None:
    scores = np.arange(19.0)[::-1]
    assert conformal.compute_quantile(scores, 0.95) == 18.0  # ceil(20 x 0.95) = 19: the largest
    assert conformal.compute_quantile(scores[:18], 0.95) == math.inf
    assert conformal.compute_quantile(scores, 0.9) == 17.0
    assert conformal.compute_quantile(scores, 0.5) == 9.0
    assert conformal.compute_quantile(np.array([3.0]), 0.5) == 3.0
    assert conformal.compute_quantile(np.zeros(0), 0.5) == math.inf


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (9, 10), (450, 500), (500, 500)])
def test_intervals_are_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert conformal.compute_interval_95(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("count", "level"), [(20, 0.9), (36, 0.5), (163, 0.95)])
def test_the_range_of_coverage_is_that_of_many_draws(count: int, level: float) -> None:
    # The coverage of a threshold on uniform scores is the threshold.
    draws = np.random.default_rng(2).random((4000, count))
    coverage = [conformal.compute_quantile(scores, level) for scores in draws]
    expected = pytest.approx(np.percentile(coverage, (2.5, 97.5)), abs=0.01)
    assert conformal.compute_coverage_range(count, level) == expected
    assert conformal.compute_coverage_range(18, 0.95) == (1.0, 1.0)
