"""Intervals against textbook formulas, and their coverage in simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from geoguesser.evaluation.bootstrap import Resampling
from geoguesser.evaluation.intervals import (
    SYMMETRY_WITH_SEEDS,
    SeedNoise,
    adjust_holm,
    combine_seed_noise,
    compute_mean_interval,
    compute_median_interval,
    compute_p_value,
    compute_seed_noise,
)


def test_coverage_of_few_skewed_errors_and_their_differences_is_about_nominal():
    random, draws = np.random.default_rng(30), Resampling(np.arange(30), samples=2000, seed=0)
    covered: dict[str, list[bool]] = {}
    for _ in range(400):
        place = random.gamma(1.0, 30.0, 30)
        a, b = place + random.gamma(1.0, 10.0, 30), place + 10.0 * random.gamma(1.0, 1.0, 30)

        for name, interval, truth in (
            ("mean", compute_mean_interval(draws.mean(place), 0.95), 30.0),
            ("median", compute_median_interval(draws, place, 0.95), 30.0 * np.log(2.0)),
            ("difference", compute_mean_interval(draws.mean(a - b), 0.95), 0.0),
            ("median difference", compute_median_interval(draws, a - b, 0.95), 0.0),
        ):
            covered.setdefault(name, []).append(interval.low <= truth <= interval.high)

    # 400 simulations distinguish 95 % from 91 % and 99 %: four standard errors are 4.4 points.
    for name, hits in covered.items():
        assert 0.91 <= np.mean(hits) <= 0.99, name


def test_p_is_below_5_percent_exactly_if_the_interval_excludes_0():
    random, draws = np.random.default_rng(0), Resampling(np.arange(30), samples=2000, seed=0)
    for seeds in (None, SeedNoise(0.05, 0.01, 3.0)):
        seen = set()
        for shift in np.linspace(-0.8, 0.8, 23):
            pivot = draws.mean(random.normal(size=30) + shift)
            interval = compute_mean_interval(pivot, 0.95, seeds)
            assert (compute_p_value(pivot, seeds) < 0.05) == (not interval.low <= 0.0 <= interval.high)
            seen.add(compute_p_value(pivot, seeds) < 0.05)
        assert seen == {True, False}


def test_p_of_symmetric_values_is_near_students():
    values = np.random.default_rng(5).normal(size=200) + 0.15
    pivot = Resampling(np.arange(200), samples=5000, seed=0).mean(values)
    assert compute_p_value(pivot) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=0.3)


def test_p_of_constant_and_of_large_differences():
    draws = Resampling(np.arange(20), samples=1000, seed=0)
    assert compute_p_value(draws.mean(np.zeros(20))) == 1.0
    assert compute_p_value(draws.mean(np.full(20, 2.0))) == 0.0
    assert 0.0 < compute_p_value(draws.mean(np.full(20, 2.0)), SeedNoise(1.0, 0.0, 2)) < 1.0

    # Values that vary have no p below what the number of resamples resolves.
    large = 100.0 + np.random.default_rng(0).normal(size=20)
    assert compute_p_value(draws.mean(large)) >= 1 / 1001


def test_holm_is_the_textbooks():
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([]) == []
    assert adjust_holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_seed_noise_agrees_with_the_analysis_of_variance():
    table = np.random.default_rng(0).normal(size=(4, 50)) + 3.0 * np.arange(4)[:, None]
    seeds, places = table.shape
    between = places * table.mean(axis=1).var(ddof=1)
    rest = ((table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()) ** 2).sum()
    component = (between - rest / ((seeds - 1) * (places - 1))) / places
    noise = compute_seed_noise(table)
    assert noise.observed_variance - noise.place_variance == pytest.approx(component / seeds)
    assert noise.degrees_of_freedom == 3


def test_equal_seeds_add_nothing_and_one_seed_has_no_noise():
    place = np.random.default_rng(0).gamma(2.0, 10.0, 30)
    same = compute_seed_noise(np.stack([place] * 3))
    assert same.variance == pytest.approx(0.0, abs=1e-20)
    assert compute_seed_noise(place[None]) is None
    pivot = Resampling(np.arange(30), samples=1000, seed=0).mean(place)
    below, above = pivot.compute_margins(0.05, symmetrise=SYMMETRY_WITH_SEEDS)
    interval = compute_mean_interval(pivot, 0.95, same)
    assert (interval.low, interval.high) == pytest.approx((pivot.value - below, pivot.value + above))


def test_margins_are_added_as_squares():
    pivot = Resampling(np.arange(30), samples=1000, seed=0).mean(np.random.default_rng(0).normal(size=30))
    interval = compute_mean_interval(pivot, 0.95, SeedNoise(6.0, 2.0, 5.0))
    half = stats.t.ppf(0.975, 5) * 2.0
    below, above = pivot.compute_margins(0.05, symmetrise=SYMMETRY_WITH_SEEDS)
    assert interval.value - interval.low == pytest.approx(np.hypot(below, half))
    assert interval.high - interval.value == pytest.approx(np.hypot(above, half))


def test_noise_of_two_sides_is_that_of_welch_and_satterthwaite():
    first, second = SeedNoise(1.0, 0.25, 2), SeedNoise(3.0, 0.5, 4)
    combined = combine_seed_noise(first, second)
    assert combined.variance == 4.0 - 0.75
    assert combined.degrees_of_freedom == pytest.approx(16.0 / (1.0 / 2 + 9.0 / 4))
    assert combine_seed_noise(None, None) is None
    assert combine_seed_noise(first, None) == first
    assert combine_seed_noise(SeedNoise(0.0, 0.0, 2), SeedNoise(0.0, 0.0, 4)) == SeedNoise(0.0, 0.0, 6)
    assert SeedNoise(1.0, 2.0, 3).compute_margin(0.05) == 0.0


def test_the_median_lies_in_its_interval_and_confidence_widens_it():
    values, draws = np.random.default_rng(0).gamma(1.0, 30.0, 40), Resampling(np.arange(40), samples=2000, seed=0)
    narrow, wide = compute_median_interval(draws, values, 0.8), compute_median_interval(draws, values, 0.99)
    assert wide.low < narrow.low < np.median(values) < narrow.high < wide.high
