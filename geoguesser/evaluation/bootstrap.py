"""Bootstrap of means and medians over places, or over map blocks whose places have correlated errors.

Notation. Place i has the value y_i and belongs to unit g (a place or a block). Unit g has n_g places, and there
are G units. A resample draws G units with replacement: unit g is drawn c_g times.

Mean. The mean m = sum_i y_i / sum_g n_g is a ratio of sums over units. With the residual sums

    r_g = sum over i in g of (y_i - m),

its linearised standard error is

    se = sqrt(G / (G - 1) sum_g r_g^2) / sum_g n_g,                                                             (1)

which for units of one place is the usual standard error of a mean. The mean m* of a resample differs from m by

    d = m* - m = sum_g c_g r_g / sum_g c_g n_g,                                                                 (2)

its residual sums are r_g - d n_g, and so its own standard error is (1) with

    sum_g c_g (r_g - d n_g)^2 = sum_g c_g r_g^2 - 2 d sum_g c_g r_g n_g + d^2 sum_g c_g n_g^2.                  (3)

All sums in (2) and (3) are products of the counts c with the columns n, r, r^2, r n and n^2.

Interval. The bootstrap-t takes the distribution of (m* - m) / se* for that of (m - truth) / se. A margin above the
mean therefore follows from the lower tail of the resamples, and a margin below it from the upper tail.

Sources:
    W. G. Cochran, "Sampling Techniques" (1977), section 9A.4: means over units of unequal size.
    B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5: the bootstrap-t.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.errors import check_int, check_mapping, check_number

# In float64 numbers: 32 MB at once, and 64 MB of counts that all runs on the same places share.
MAX_CHUNK_SIZE = 4_000_000
MAX_CACHED_COUNTS = 8_000_000


@dataclass(frozen=True)
class BootstrapSettings:
    """Settings of the intervals.

    Attributes:
        confidence: Confidence level of all intervals, between 0.5 and 1.
        samples: Number of bootstrap samples; `seed` is theirs.
        block_km: Side of the map blocks that are resampled, as for `make_units`.
    """

    confidence: float = 0.95
    samples: int = 5000
    seed: int = 0
    block_km: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BootstrapSettings:
        """Reads the keys `confidence` and `bootstrap` of a config; raises `ConfigError` if one is out of range."""
        bootstrap = check_mapping("bootstrap", config["bootstrap"], ("samples", "seed", "block_km"))
        block_km = bootstrap["block_km"]
        return cls(
            confidence=check_number("confidence", config["confidence"], low=0.5, high=0.999),
            samples=check_int("bootstrap.samples", bootstrap["samples"], low=1000, high=1_000_000),
            seed=check_int("bootstrap.seed", bootstrap["seed"], low=0),
            block_km=None if block_km is None else check_number("bootstrap.block_km", block_km, low=0, high=5000),
        )


@dataclass(frozen=True)
class BootstrapMean:
    """A mean with its standard error and the bootstrap distribution of its studentised error.

    Attributes:
        standard_error: Standard error (1); 0 if all values are equal.
        degrees_of_freedom: G - 1.
        studentised: (B,) ascending values of (m* - m) / se*, one per resample.
    """

    value: float
    standard_error: float
    degrees_of_freedom: int
    studentised: FloatArray

    def compute_margins(self, alpha: float, *, symmetrise: float = 1.0) -> tuple[float, float]:
        """Returns the distances of the limits of an interval below and above the mean.

        Each limit is the farther of two. Student's t is right for symmetric values, but too narrow above the mean
        of right-skewed values such as errors. The bootstrap-t, with tails as for percentiles, is right for skewed
        values, but too narrow for few values with heavy tails such as differences of errors. Taking the farther
        limit is a choice of this project; benchmarks/intervals.py measures its coverage.

        Args:
            alpha: Probability that the interval misses the truth, between 0 and 1: 0.05 for 95 %.
            symmetrise: Where Student's t is farther, the part of the way towards it, from 0 to 1.
        """
        if self.standard_error == 0.0:
            return 0.0, 0.0
        student = float(stats.t.ppf(1.0 - alpha / 2.0, self.degrees_of_freedom))
        if not len(self.studentised):
            return student * self.standard_error, student * self.standard_error

        tail = compute_tail_share(alpha, self.degrees_of_freedom)
        low, high = np.quantile(self.studentised, (tail, 1.0 - tail)).tolist()
        below, above = (quantile + symmetrise * max(0.0, student - quantile) for quantile in (high, -low))
        return below * self.standard_error, above * self.standard_error


class Resampling:
    """Resamples of one set of places, shared by all runs that were tested on it, so that they are comparable.

    `unit` is (N,) the unit of each place, numbered from 0 without gaps. N and the number of units are at least 2.
    """

    def __init__(self, unit: IntArray, *, samples: int, seed: int) -> None:
        self.unit = np.asarray(unit, dtype=np.int64)
        self.sizes = np.bincount(self.unit)
        self.samples, self.seed = samples, seed
        self._cached = list(self._draw_counts()) if samples * self.units <= MAX_CACHED_COUNTS else None

    @property
    def units(self) -> int:
        return len(self.sizes)

    def iter_counts(self) -> Iterator[FloatArray]:
        """Yields (b, G) counts of each unit in each resample, in chunks of resamples."""
        return self._draw_counts() if self._cached is None else iter(self._cached)

    def _draw_counts(self) -> Iterator[FloatArray]:
        random, units = np.random.default_rng(self.seed), self.units
        chunk_rows = max(1, MAX_CHUNK_SIZE // units)

        for start in range(0, self.samples, chunk_rows):
            rows = min(chunk_rows, self.samples - start)
            drawn = random.integers(units, size=(rows, units))

            # Offsets by row make one call of bincount count all rows.
            drawn += units * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * units)
            yield counts.reshape(rows, units).astype(np.float64)

    def mean(self, values: FloatArray) -> BootstrapMean:
        """Bootstraps the mean of (N,) values, by the equations of the module docstring."""
        values = np.asarray(values, dtype=np.float64)
        sizes, units = self.sizes.astype(np.float64), self.units
        value = float(values.mean())
        residual = np.bincount(self.unit, weights=values - value, minlength=units)

        # Equation (1).
        factor = units / (units - 1)
        error = float(np.sqrt(factor * (residual**2).sum()) / sizes.sum())
        if error <= 1e-12 * max(1.0, abs(value)):
            return BootstrapMean(value, 0.0, units - 1, np.zeros(0))

        # Equations (2) and (3) for all resamples. Rounding may turn a sum of squares of zero negative.
        columns = np.stack((sizes, residual, residual**2, residual * sizes, sizes**2), axis=1)
        n, r, rr, rn, nn = np.concatenate([counts @ columns for counts in self.iter_counts()]).T
        shift = r / n
        errors = np.sqrt(np.maximum(factor * (rr - 2.0 * shift * rn + shift**2 * nn), 0.0)) / n

        # A resample of equal values has no standard error to divide by.
        varied = errors > 1e-6 * error
        return BootstrapMean(value, error, units - 1, np.sort(shift[varied] / errors[varied]))

    def medians(self, values: FloatArray) -> FloatArray:
        """Returns (B,) medians of the resamples of (N,) values, in the order of the resamples.

        The weighted distribution is interpolated linearly between neighbouring values, so that a median of few
        places does not jump. With equal weights it is the usual median.
        """
        values = np.asarray(values, dtype=np.float64)
        order = np.argsort(values, kind="stable")
        ascending, unit = values[order], self.unit[order]

        chunk_rows = max(1, MAX_CHUNK_SIZE // len(values))
        medians = [
            _compute_weighted_medians(ascending, counts[start : start + chunk_rows][:, unit])
            for counts in self.iter_counts()
            for start in range(0, len(counts), chunk_rows)
        ]
        return np.concatenate(medians)


def compute_tail_share(alpha: float, degrees_of_freedom: int) -> float:
    """Returns the share below which bootstrap percentiles are cut: Phi(t_(alpha / 2)).

    Plain percentiles are as narrow as if the spread of the population were known. Student's t is wider by the
    uncertainty of the spread; the normal distribution function turns its quantile into a share.

    Source: T. C. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015),
    371, section 5.3, without its factor sqrt(n / (n - 1)), which corrects the spread of plain means.
    """
    return float(stats.norm.cdf(stats.t.ppf(alpha / 2.0, degrees_of_freedom)))


def _compute_weighted_medians(ascending: FloatArray, weights: FloatArray) -> FloatArray:
    """Returns (b,) medians of (N,) ascending values with (b, N) weights.

    Value i stands at the middle of its weight, w_1 + .. + w_(i-1) + w_i / 2, and the median stands at half of the
    total. Between two values the position is interpolated linearly.
    """
    middles = np.cumsum(weights, axis=1)
    half = middles[:, -1] / 2.0
    middles -= weights / 2.0

    after = np.clip((middles < half[:, None]).sum(axis=1), 1, len(ascending) - 1)
    rows = np.arange(len(weights))
    low, high = middles[rows, after - 1], middles[rows, after]

    share = np.clip(np.divide(half - low, high - low, out=np.zeros(len(rows)), where=high > low), 0.0, 1.0)
    return ascending[after - 1] + share * (ascending[after] - ascending[after - 1])
