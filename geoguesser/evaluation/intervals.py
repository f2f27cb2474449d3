"""Intervals: what a mean, a median or a difference may be, given few places and few seeds. Pure statistics.

Nothing here knows of runs or files. docs/compare.md says what each interval means and where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.bootstrap import BootstrapMean, Resampling, compute_tail_share

MIN_PLACES = 20  # for an interval of a median, a share or a difference
SYMMETRY_WITH_SEEDS = (
    0.25  # of the way to Student's t: the seeds' part, which is never below 0, widens by chance alone
)
MIN_PLACES_FOR_MEAN = (
    40  # of errors: with fewer, rare large misses may be lacking, and no interval holds what it says
)


@dataclass(frozen=True)
class Interval:
    """A figure and what it may be.

    Attributes:
        value: The figure.
        low: The lower limit; None where there are too few places for one.
        high: The upper limit; None with the lower one.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SeedNoise:
    """What the draw of seeds adds to the uncertainty of a mean over them.

    Attributes:
        observed_variance: Variance of that mean as the seeds' own means show it.
        place_variance: How much of it the places' own noise puts there.
        degrees_of_freedom: Degrees of freedom, not a whole number where two groups of seeds are taken together.
    """

    observed_variance: float
    place_variance: float
    degrees_of_freedom: float

    @property
    def variance(self) -> float:
        """What is left for the seeds; at least 0."""
        return max(0.0, self.observed_variance - self.place_variance)

    def compute_margin(self, miss: float) -> float:
        """Half the width of Student's t interval that is missed as seldom as `miss` says."""
        if self.variance == 0.0:
            return 0.0
        return float(stats.t.ppf(1.0 - miss / 2.0, self.degrees_of_freedom) * np.sqrt(self.variance))


def compute_seed_noise(errors: FloatArray) -> SeedNoise | None:
    """What seeds add, from the errors of several seeds on the same places.

    In a table of seeds by places the variance of the seeds' means holds a part that the places' own noise
    puts there; that part is in the interval over places already.

    Args:
        errors: (S, N) one row per seed, N at least 2.

    Returns:
        None for a single seed, of which nobody can know.

    Source: the two-way random-effects analysis of variance, H. Scheffé, "The Analysis of Variance" (1959),
    section 7.4.
    """
    seeds, places = errors.shape
    if seeds < 2:
        return None
    means = errors.mean(axis=1)
    rest = errors - means[:, None] - errors.mean(axis=0) + errors.mean()
    own = float((rest**2).sum() / ((seeds - 1) * (places - 1) * places))
    return SeedNoise(float(means.var(ddof=1)) / seeds, own / seeds, seeds - 1)


def combine_seed_noise(a: SeedNoise | None, b: SeedNoise | None) -> SeedNoise | None:
    """The seeds' part of a difference: of both sides, or of the one that is known; None where neither is.

    Source: B. L. Welch, Biometrika 34 (1947), 28, and F. E. Satterthwaite, Biometrics Bulletin 2 (1946), 110.
    """
    if a is None or b is None:
        return a or b
    total = a.observed_variance + b.observed_variance
    freedom = a.degrees_of_freedom + b.degrees_of_freedom
    if total > 0.0:
        freedom = total**2 / (
            a.observed_variance**2 / a.degrees_of_freedom + b.observed_variance**2 / b.degrees_of_freedom
        )
    return SeedNoise(total, a.place_variance + b.place_variance, freedom)


def compute_mean_interval(pivot: BootstrapMean, confidence: float, seeds: SeedNoise | None = None) -> Interval:
    """The interval of a mean over places, and with `seeds` over seeds too.

    Distances of the limits from two independent sources add by their squares.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in
    Medicine 27 (2008), 1693 (the method of variance estimates recovery).
    """
    below, above, more = _reaches(pivot, 1.0 - confidence, seeds)
    return Interval(
        pivot.value, pivot.value - float(np.hypot(below, more)), pivot.value + float(np.hypot(above, more))
    )


def _reaches(pivot: BootstrapMean, miss: float, seeds: SeedNoise | None) -> tuple[float, float, float]:
    """How far the places' part of an interval goes below and above the mean, and the seeds' part on both sides."""
    if seeds is None:
        return *pivot.compute_margins(miss), 0.0
    return *pivot.compute_margins(miss, symmetrise=SYMMETRY_WITH_SEEDS), seeds.compute_margin(miss)


def compute_median_interval(resampling: Resampling, values: FloatArray, confidence: float) -> Interval:
    """The interval of the median of (N,) values over places: widened percentiles of the bootstrap."""
    cut = compute_tail_share(1.0 - confidence, resampling.units - 1)
    low, high = np.quantile(resampling.medians(values), (cut, 1.0 - cut))
    return Interval(float(np.median(values)), float(low), float(high))


def compute_p_value(pivot: BootstrapMean, seeds: SeedNoise | None = None) -> float:
    """How seldom an interval may miss until it just holds 0: the two-sided p-value of `compute_mean_interval`.

    So p is below 0.05 exactly where the 95 % interval leaves out 0.

    Returns:
        From 1 / (B + 1) to 1, for B resamples cannot say less; 0 where all places differ by the same.
    """
    if pivot.value == 0.0:
        return 1.0
    if pivot.standard_error == 0.0 and (seeds is None or seeds.variance == 0.0):
        return 0.0
    least = 1.0 / (1 + len(pivot.studentised))
    low, high = 0.0, 1.0
    for _ in range(40):  # the limits move inwards as `miss` grows
        miss = (low + high) / 2.0
        below, above, more = _reaches(pivot, miss, seeds)
        towards = below if pivot.value > 0 else above
        if float(np.hypot(towards, more)) >= abs(pivot.value):
            low = miss
        else:
            high = miss
    return max(least if pivot.standard_error else 0.0, low)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """p-values that allow for their number: among all of them, one is below 0.05 by chance in 5 % at most.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979), 65.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [0.0] * len(p_values)
    most = 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = most
    return adjusted
