"""Bootstrap: how far a mean or a median of errors would stray, had other places been tested. Pure statistics.

What is drawn are units: places, or blocks of the map with all their places, where near places share their luck.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from geoguesser.arrays import FloatArray, IntArray

MAX_CHUNK_SIZE = 4_000_000  # numbers at once: 32 MB
MAX_CACHED_COUNTS = 8_000_000  # draws that are small enough to be kept for all runs on the same places


@dataclass(frozen=True)
class BootstrapMean:
    """A mean, its standard error, and how (mean - truth) / error is distributed, by the bootstrap.

    Attributes:
        value: The mean.
        standard_error: Its standard error; 0 where all values are the same.
        degrees_of_freedom: Degrees of freedom: units less one.
        studentised: (B,) ascending: (mean* - mean) / error* of each resample.
    """

    value: float
    standard_error: float
    degrees_of_freedom: int
    studentised: FloatArray

    def compute_margins(self, miss: float, *, symmetrise: float = 1.0) -> tuple[float, float]:
        """How far the limits of an interval lie below and above the mean.

        Each limit is the farther one of two: Student's t, right for values that lie evenly about their mean
        but too narrow above the mean of skewed ones, as errors are; and the bootstrap-t (widened as percentiles
        are), right for skewed values but too narrow for few values with heavy tails, as differences of errors.

        Args:
            miss: How seldom the interval may miss the truth, above 0 and below 1: 0.05 for 95 %.
            symmetrise: Where Student's t lies farther, how much of the way to it is gone, from 0 to 1.

        Returns:
            Two distances, at least 0.

        Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5 for the
        bootstrap-t. Taking the farther one is our own choice: benchmarks/intervals.py shows what it covers.
        """
        if self.standard_error == 0.0:
            return 0.0, 0.0
        even = float(stats.t.ppf(1.0 - miss / 2.0, self.degrees_of_freedom))
        below = above = even
        if len(self.studentised):
            cut = compute_tail_share(miss, self.degrees_of_freedom)
            low, high = np.quantile(self.studentised, (cut, 1.0 - cut))
            below, above = (own + symmetrise * max(0.0, even - own) for own in (float(high), -float(low)))
        return below * self.standard_error, above * self.standard_error


class Resampling:
    """The draws for one set of places: the same for all runs that were tested on it, so that they compare.

    Args:
        unit: (N,) the unit of each place, numbered from 0 without gaps; N at least 2, of 2 units or more.
        samples: How many resamples.
        seed: Draws them.
    """

    def __init__(self, unit: IntArray, *, samples: int, seed: int) -> None:
        self.unit = np.asarray(unit, dtype=np.int64)
        self.sizes = np.bincount(self.unit)
        self.samples, self.seed = samples, seed
        self._kept = list(self._draw()) if samples * self.units <= MAX_CACHED_COUNTS else None

    @property
    def units(self) -> int:
        """How many units there are to draw from."""
        return len(self.sizes)

    def iter_counts(self) -> Iterator[FloatArray]:
        """(b, G) how often each resample holds each of the G units, some resamples at a time."""
        return iter(self._kept) if self._kept is not None else self._draw()

    def _draw(self) -> Iterator[FloatArray]:
        random, units = np.random.default_rng(self.seed), self.units
        step = max(1, MAX_CHUNK_SIZE // units)
        for start in range(0, self.samples, step):
            rows = min(step, self.samples - start)
            drawn = random.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * units)
            yield counts.reshape(rows, units).astype(np.float64)

    def mean(self, values: FloatArray) -> BootstrapMean:
        """The mean of (N,) values, as a ratio of sums over units, with its linearised standard error.

        Source: W. G. Cochran, "Sampling Techniques" (1977), section 9A.4, for units of unequal size; with the
        factor G / (G - 1). Where each unit is one place it is the usual standard error of a mean.
        """
        values = np.asarray(values, dtype=np.float64)
        sizes, units = self.sizes.astype(np.float64), self.units
        value = float(values.mean())
        rest = np.bincount(self.unit, weights=values - value, minlength=units)
        factor = units / (units - 1)
        error = float(np.sqrt(factor * (rest**2).sum()) / sizes.sum())
        if error <= 1e-12 * max(1.0, abs(value)):
            return BootstrapMean(value, 0.0, units - 1, np.zeros(0))
        moments = np.stack((sizes, rest, rest**2, rest * sizes, sizes**2), axis=1)
        count, first, second, cross, square = np.concatenate([draw @ moments for draw in self.iter_counts()]).T
        moved = first / count
        spread = np.sqrt(np.maximum(factor * (second - 2.0 * moved * cross + moved**2 * square), 0.0)) / count
        known = spread > 1e-6 * error  # a resample of equal values has no error to measure by
        return BootstrapMean(value, error, units - 1, np.sort(moved[known] / spread[known]))

    def medians(self, values: FloatArray) -> FloatArray:
        """(B,) the median of each resample of (N,) values, in the order of the draws.

        The weighted distribution is taken as straight between neighbouring values, so that a median of few
        places does not jump from one to the next; with equal weights it is the usual median.
        """
        values = np.asarray(values, dtype=np.float64)
        order = np.argsort(values, kind="stable")
        ordered, unit = values[order], self.unit[order]
        step = max(1, MAX_CHUNK_SIZE // len(values))
        found = [
            _weighted_medians(ordered, draw[start : start + step][:, unit])
            for draw in self.iter_counts()
            for start in range(0, len(draw), step)
        ]
        return np.concatenate(found)


def compute_tail_share(miss: float, freedom: int) -> float:
    """The share below which percentiles of a bootstrap are cut, so that few units miss no more often.

    Percentiles are as narrow as if the spread were known; Student's t says how much wider they must be.

    Source: T. C. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69
    (2015), 371, section 5.3, without its factor sqrt(n / (n - 1)), which is for the spread of plain means.
    """
    return float(stats.norm.cdf(stats.t.ppf(miss / 2.0, freedom)))


def _weighted_medians(ordered: FloatArray, weights: FloatArray) -> FloatArray:
    """(N,) ascending values and (b, N) weights -> (b,) medians, straight between the middles of the weights."""
    middles = np.cumsum(weights, axis=1)
    half = middles[:, -1] / 2.0
    middles -= weights / 2.0
    after = np.clip((middles < half[:, None]).sum(axis=1), 1, len(ordered) - 1)
    rows = np.arange(len(weights))
    low, high = middles[rows, after - 1], middles[rows, after]
    share = np.clip(np.divide(half - low, high - low, out=np.zeros(len(rows)), where=high > low), 0.0, 1.0)
    return ordered[after - 1] + share * (ordered[after] - ordered[after - 1])
