"""Split-conformal prediction: thresholds that hold for a new place with a known probability, for any model.

Let s_1 ... s_n be scores of calibration places, which neither trained nor chose the model, and s that of a new
place. If the n + 1 places are exchangeable, the rank of s among all scores is uniform. So s is at most the r-th
smallest of s_1 ... s_n with probability at least r / (n + 1), and r = ceil((n + 1) level) gives the level.

Given the calibration places, the probability varies: without ties it is distributed as Beta(r, n + 1 - r), the
distribution of the r-th order statistic of n uniform variables.

Sources:
    A. N. Angelopoulos and S. Bates, "A Gentle Introduction to Conformal Prediction", arXiv 2107.07511.
    V. Vovk, "Conditional validity of inductive conformal predictors", arXiv 1209.2673: the Beta distribution.
    Y. Romano, M. Sesia and E. Candes, "Classification with Valid and Adaptive Coverage", arXiv 2006.02544: the
        mass score, here without randomisation.
    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209: intervals of shares.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv

from geoguesser.arrays import FloatArray

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution

# (n + 1) level may exceed an integer by rounding: 20 x 0.95 is more than 19 in binary.
RANK_SLACK = 1e-9


def compute_quantile(scores: FloatArray, level: float) -> float:
    """Returns the ceil((n + 1) level)-th smallest of scores (n,) of calibration places, infinite for small n."""
    rank = _compute_rank(len(scores), level)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def compute_mass_scores(posterior: FloatArray) -> FloatArray:
    """Returns, for each cell, the total probability (N, K) of all cells that are more probable.

    The set of a place holds the cells whose score is at most a quantile of the true cells' scores. It starts with
    the most probable cell, whose score is 0, and ends with the cell in which the total reaches the quantile. Cells
    of equal probability enter together. Including that last cell without randomisation can only add coverage.
    """
    order = np.argsort(-posterior, axis=1, kind="stable")
    ranked = np.take_along_axis(posterior, order, axis=1)
    mass = np.zeros_like(ranked)
    np.cumsum(ranked[:, :-1], axis=1, out=mass[:, 1:])

    # Of equally probable cells, each has the total before the first of them.
    mass[:, 1:][ranked[:, 1:] == ranked[:, :-1]] = 0.0
    scores = np.empty_like(mass)
    np.put_along_axis(scores, order, np.maximum.accumulate(mass, axis=1), axis=1)
    return scores


def compute_coverage_range(count: int, level: float) -> tuple[float, float]:
    """Returns the range of the true coverage for 95 % of all draws of `count` calibration places."""
    rank = _compute_rank(count, level)
    if rank > count:
        return 1.0, 1.0
    low, high = betaincinv(rank, count + 1 - rank, (0.025, 0.975))
    return float(low), float(high)


def _compute_rank(count: int, level: float) -> int:
    return max(1, math.ceil((count + 1) * level - RANK_SLACK))


def compute_interval_95(hits: int, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of the share `hits` / `count`, with `count` at least 1."""
    return compute_wilson_interval(hits / count, count, Z_95)


def compute_wilson_interval(share: float, count: float, z: float) -> tuple[float, float]:
    """Returns Wilson's interval of a share p of n cases, of which n may be an effective number.

    Its limits are the values q at which p is z standard deviations away: |p - q| = z sqrt(q (1 - q) / n), a
    quadratic equation in q. z is a quantile of the normal distribution or Student's for the confidence level.
    """
    square = z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)

    # Rounding misses the exact limits of shares 0 and 1 by 1e-16.
    return 0.0 if share == 0 else low, 1.0 if share == 1 else high
