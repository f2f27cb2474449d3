"""Bootstrap against explicit loops, textbook formulas and SciPy's own bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from geoguesser.errors import ConfigError
from geoguesser.evaluation.bootstrap import BootstrapSettings, Resampling, _compute_weighted_medians


def make_errors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 20.0, count)


def draw_counts(seed: int) -> np.ndarray:
    return np.concatenate(list(Resampling(np.arange(50), samples=300, seed=seed).iter_counts()))


def test_draws_depend_only_on_the_seed_and_not_on_chunks(monkeypatch):
    counts = draw_counts(3)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(draw_counts(3), counts)
    assert not np.array_equal(draw_counts(4), counts)

    values = make_errors(50)
    whole = Resampling(np.arange(50), samples=300, seed=3)
    studentised, medians = whole.mean(values).studentised, whole.medians(values)
    monkeypatch.setattr("geoguesser.evaluation.bootstrap.MAX_CHUNK_SIZE", 50 * 7)
    monkeypatch.setattr("geoguesser.evaluation.bootstrap.MAX_CACHED_COUNTS", 0)
    np.testing.assert_array_equal(draw_counts(3), counts)
    cut = Resampling(np.arange(50), samples=300, seed=3)
    np.testing.assert_allclose(cut.mean(values).studentised, studentised)
    np.testing.assert_allclose(cut.medians(values), medians)


def test_standard_error_over_single_places_is_the_usual_one():
    values = make_errors(40)
    pivot = Resampling(np.arange(40), samples=1000, seed=0).mean(values)
    assert pivot.value == pytest.approx(values.mean())
    assert pivot.standard_error == pytest.approx(stats.sem(values))
    assert pivot.degrees_of_freedom == 39


def test_studentised_means_are_those_of_a_loop():
    values, unit = make_errors(12), np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5])
    resampling = Resampling(unit, samples=1000, seed=1)
    studentised = []
    for counts in np.concatenate(list(resampling.iter_counts())):
        drawn = [values[unit == number] for number in range(6) for _ in range(int(counts[number]))]
        mean = np.concatenate(drawn).mean()
        sums = np.array([(block - mean).sum() for block in drawn])
        error = np.sqrt(6 / 5 * (sums**2).sum()) / sum(map(len, drawn))
        if error > 1e-6 * resampling.mean(values).standard_error:
            studentised.append((mean - values.mean()) / error)
    np.testing.assert_allclose(resampling.mean(values).studentised, np.sort(studentised), rtol=1e-6, atol=1e-9)


def test_limits_are_the_farther_ones_or_go_a_part_of_the_way_to_students_t():
    values = make_errors(25)
    pivot = Resampling(np.arange(25), samples=5000, seed=0).mean(values)
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    cut = stats.norm.cdf(stats.t.ppf(0.025, 24))
    pivot_high, pivot_low = values.mean() - stats.sem(values) * np.quantile(pivot.studentised, (cut, 1 - cut))

    # The values are skewed: the upper limit is farther away, the lower limit nearer.
    assert pivot_high > high + 0.5
    assert pivot_low > low + 0.5

    for share, lower in ((1.0, low), (0.5, (pivot_low + low) / 2), (0.0, pivot_low)):
        below, above = pivot.compute_margins(0.05, symmetrise=share)
        assert values.mean() + above == pytest.approx(pivot_high)
        assert values.mean() - below == pytest.approx(lower)
    assert pivot.compute_margins(0.05) == pivot.compute_margins(0.05, symmetrise=1.0)


def test_limits_of_many_places_agree_with_scipy():
    values = make_errors(2000)
    resampling = Resampling(np.arange(2000), samples=4000, seed=0)
    below, above = resampling.mean(values).compute_margins(0.05)
    mean_limits = (values.mean() - below, values.mean() + above)
    median_limits = np.quantile(resampling.medians(values), (0.025, 0.975))

    for statistic, method, (low, high) in (
        (np.mean, "percentile", mean_limits),
        (np.median, "percentile", median_limits),
    ):
        scipys = stats.bootstrap((values,), statistic, n_resamples=4000, method=method, rng=1).confidence_interval
        assert low == pytest.approx(scipys.low, abs=0.15 * (scipys.high - scipys.low))
        assert high == pytest.approx(scipys.high, abs=0.15 * (scipys.high - scipys.low))


@pytest.mark.parametrize("count", [7, 8])
def test_the_median_of_equal_weights_is_the_usual_one(count: int):
    values = np.sort(make_errors(count))
    np.testing.assert_allclose(_compute_weighted_medians(values, np.ones((1, count))), [np.median(values)])
    weights = np.array([[0.0, 0.0, 5.0, *[0.0] * (count - 3)]])
    assert _compute_weighted_medians(values, weights)[0] == pytest.approx(values[2], abs=values[3] - values[1])


def test_equal_values_have_no_spread():
    pivot = Resampling(np.arange(20), samples=1000, seed=0).mean(np.full(20, 3.7))
    assert (pivot.value, pivot.standard_error) == (pytest.approx(3.7), 0.0)
    assert pivot.compute_margins(0.05) == (0.0, 0.0)


def test_few_values_that_differ_give_finite_limits():
    values = np.zeros(20)
    values[3] = 5.0
    below, above = Resampling(np.arange(20), samples=5000, seed=0).mean(values).compute_margins(0.05)
    assert np.isfinite([below, above]).all()
    assert 0.25 - below < 0.0 < 0.25 + above


def test_blocks_of_correlated_places_have_wider_limits():
    random = np.random.default_rng(0)
    unit = np.repeat(np.arange(80), 5)
    values = 50.0 + 20.0 * random.normal(size=80)[unit] + random.normal(size=400)
    blocks = Resampling(unit, samples=2000, seed=0).mean(values)
    places = Resampling(np.arange(400), samples=2000, seed=0).mean(values)
    assert blocks.standard_error / places.standard_error == pytest.approx(np.sqrt(5), rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": 2}, r"^confidence must be a number from 0\.5"),
        ({"samples": 3}, r"^bootstrap\.samples must be an integer from 1000"),
        ({"block_km": -1}, r"^bootstrap\.block_km must be a number from 0 to 5000"),
    ],
)
def test_settings_are_checked(changes: dict[str, float], message: str):
    def read(values: dict) -> BootstrapSettings:
        confidence = values.pop("confidence", 0.95)
        return BootstrapSettings.from_config({"confidence": confidence, "bootstrap": values})

    defaults = {"samples": 5000, "seed": 0, "block_km": None}
    assert read({**defaults}) == BootstrapSettings()
    assert read(defaults | {"block_km": 20}).block_km == 20.0
    with pytest.raises(ConfigError, match=message):
        read(defaults | changes)
