"""Confidence intervals and p-values of means, medians and differences over places and seeds.

docs/compare.md explains each interval and its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.bootstrap import BootstrapMean, Resampling, compute_tail_share

# For an interval of a median, a share or a difference.
MIN_PLACES = 20

# Among fewer errors, rare large ones may be missing, and no interval of their mean has its nominal coverage.
MIN_PLACES_FOR_MEAN = 40

# Part of the way towards Student's t that a margin over places goes if there is a margin over seeds. The estimated
# variance of seeds is never below 0, so that it widens intervals by chance, and less symmetry is needed.
SYMMETRY_WITH_SEEDS = 0.25

BISECTIONS = 40


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval, whose limits are None if there are too few places."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SeedNoise:
    """Contribution of the seeds to the variance of a mean over seeds.

    Attributes:
        observed_variance: Variance of that mean, estimated from the means of the seeds.
        place_variance: The part due to places, which the interval over places contains already.
        degrees_of_freedom: Of the observed variance; fractional if two groups of seeds are combined.
    """

    observed_variance: float
    place_variance: float
    degrees_of_freedom: float

    @property
    def variance(self) -> float:
        """Variance due to seeds, at least 0."""
        return max(0.0, self.observed_variance - self.place_variance)

    def compute_margin(self, alpha: float) -> float:
        """Returns half the width of Student's t interval with confidence 1 - alpha."""
        if self.variance == 0.0:
            return 0.0
        return float(stats.t.ppf(1.0 - alpha / 2.0, self.degrees_of_freedom) * np.sqrt(self.variance))


def compute_seed_noise(errors: FloatArray) -> SeedNoise | None:
    """Estimates the contribution of seeds from the errors of S seeds on the same N places.

    Model: the error of seed s at place i is mu + a_s + b_i + e_si, with independent effects of seeds a, effects of
    places b and residuals e. The means of the seeds have variance

        Var(a) + Var(e) / N                                                                                    (1)

    around their common mean (b cancels out). Var(e) is estimated by the residuals of rows and columns,

        sum over s, i of (y_si - y_s. - y_.i + y_..)^2 / ((S - 1) (N - 1)),                                    (2)

    and Var(e) / N is the part of (1) that the interval over places holds already. Both are divided by S for the
    mean over seeds. N is at least 2; for a single seed the result is None.

    Source: two-way random-effects analysis of variance, H. Scheffé, "The Analysis of Variance" (1959),
    section 7.4.
    """
    seeds, places = errors.shape
    if seeds < 2:
        return None

    means = errors.mean(axis=1)
    residual = errors - means[:, None] - errors.mean(axis=0) + errors.mean()
    place_variance = float((residual**2).sum() / ((seeds - 1) * (places - 1) * places))
    return SeedNoise(float(means.var(ddof=1)) / seeds, place_variance / seeds, seeds - 1)


def combine_seed_noise(a: SeedNoise | None, b: SeedNoise | None) -> SeedNoise | None:
    """Combines the seed noise of the two sides of a difference; None, for a side with one seed, does not count.

    Independent variances add: v = v_a + v_b. The sum has v^2 / (v_a^2 / f_a + v_b^2 / f_b) degrees of freedom.

    Source: B. L. Welch, Biometrika 34 (1947), 28, and F. E. Satterthwaite, Biometrics Bulletin 2 (1946), 110.
    """
    if a is None or b is None:
        return a or b

    total = a.observed_variance + b.observed_variance
    freedom = a.degrees_of_freedom + b.degrees_of_freedom
    if total > 0.0:
        parts = (side.observed_variance**2 / side.degrees_of_freedom for side in (a, b))
        freedom = total**2 / sum(parts)
    return SeedNoise(total, a.place_variance + b.place_variance, freedom)


def compute_mean_interval(pivot: BootstrapMean, confidence: float, seeds: SeedNoise | None = None) -> Interval:
    """Returns the interval of a mean over places, and over seeds if their noise is given."""
    below, above = _compute_margins(pivot, 1.0 - confidence, seeds)
    return Interval(pivot.value, pivot.value - below, pivot.value + above)


def _compute_margins(pivot: BootstrapMean, alpha: float, seeds: SeedNoise | None) -> tuple[float, float]:
    """Returns the distances of the limits below and above the mean.

    Margins of independent sources are added as squares, on each side separately.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in
    Medicine 27 (2008), 1693 (method of variance estimates recovery).
    """
    if seeds is None:
        return pivot.compute_margins(alpha)
    below, above = pivot.compute_margins(alpha, symmetrise=SYMMETRY_WITH_SEEDS)
    margin = seeds.compute_margin(alpha)
    return float(np.hypot(below, margin)), float(np.hypot(above, margin))


def compute_median_interval(resampling: Resampling, values: FloatArray, confidence: float) -> Interval:
    """Returns the interval of the median of (N,) values over places: bootstrap percentiles with widened tails."""
    tail = compute_tail_share(1.0 - confidence, resampling.units - 1)
    low, high = np.quantile(resampling.medians(values), (tail, 1.0 - tail))
    return Interval(float(np.median(values)), float(low), float(high))


def compute_p_value(pivot: BootstrapMean, seeds: SeedNoise | None = None) -> float:
    """Returns the two-sided p-value of a mean: the largest alpha whose interval still contains 0.

    Therefore p is below 0.05 exactly if the 95 % interval of `compute_mean_interval` excludes 0. It is at least
    1 / (B + 1), because B resamples resolve no less; 0 if all places differ by the same amount.
    """
    if pivot.value == 0.0:
        return 1.0
    if pivot.standard_error == 0.0 and (seeds is None or seeds.variance == 0.0):
        return 0.0

    # Bisection: the margin towards 0 shrinks as alpha grows.
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        alpha = (low + high) / 2.0
        below, above = _compute_margins(pivot, alpha, seeds)
        if (below if pivot.value > 0 else above) >= abs(pivot.value):
            low = alpha
        else:
            high = alpha

    resolution = 1.0 / (1 + len(pivot.studentised)) if pivot.standard_error else 0.0
    return max(resolution, low)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number, so that the family-wise error rate is controlled.

    The k-th smallest of m p-values (k from 0) is multiplied by m - k; the running maximum keeps their order.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979), 65.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * np.asarray(p_values, dtype=float)[order]))
    return adjusted.tolist()
