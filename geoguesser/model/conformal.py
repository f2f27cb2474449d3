"""Split-conformal prediction: thresholds that hold for a new place with a known probability, whatever the model.

Scores of calibration places, which neither trained nor chose the model, are compared with a new place's. If these
places and the new one are exchangeable (drawn alike, in any order), the new score is at most the threshold with at
least the nominal probability. Pure functions of arrays.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv

from geoguesser.arrays import FloatArray

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


def compute_quantile(scores: FloatArray, level: float) -> float:
    """The threshold for a level: the ceil((n + 1) level)-th smallest of n scores, infinite where n is too small.

    Args:
        scores: (n,) of the calibration places.
        level: The nominal probability, from 0 to 1.

    Source: A. N. Angelopoulos and S. Bates, "A Gentle Introduction to Conformal Prediction", arXiv 2107.07511.
    """
    rank = _rank(len(scores), level)
    if rank > len(scores):
        return math.inf
    return float(np.sort(scores)[rank - 1])


def compute_mass_scores(posterior: FloatArray) -> FloatArray:
    """(N, K) probabilities -> (N, K) for each cell the mass of all cells that are more probable.

    A place's set are the cells whose score is at most a `quantile` of the true cells' scores: always the most
    probable one, whose score is 0, then on down; cells that tie come in together. So the cell in which the mass is
    reached belongs to the set, and nothing is drawn at random at its edge: that can only add coverage.

    Source: Y. Romano, M. Sesia, E. Candes, "Classification with Valid and Adaptive Coverage", arXiv 2006.02544,
    without its randomisation.
    """
    order = np.argsort(-posterior, axis=1, kind="stable")
    ranked = np.take_along_axis(posterior, order, axis=1)
    before = np.zeros_like(ranked)
    np.cumsum(ranked[:, :-1], axis=1, out=before[:, 1:])
    before[:, 1:][ranked[:, 1:] == ranked[:, :-1]] = 0.0  # a tie has the mass before its first cell
    scores = np.empty_like(before)
    np.put_along_axis(scores, order, np.maximum.accumulate(before, axis=1), axis=1)
    return scores


def compute_coverage_range(count: int, level: float) -> tuple[float, float]:
    """Where the true coverage of a threshold lies for 95 of 100 draws of calibration places.

    Over draws it is distributed as Beta(rank, count + 1 - rank), so few calibration places may promise badly.

    Args:
        count: The number of calibration places.
        level: The nominal probability.

    Source: V. Vovk, "Conditional validity of inductive conformal predictors", arXiv 1209.2673.
    """
    rank = _rank(count, level)
    if rank > count:
        return 1.0, 1.0
    low, high = betaincinv(rank, count + 1 - rank, (0.025, 0.975))
    return float(low), float(high)


def _rank(count: int, level: float) -> int:
    return max(1, math.ceil((count + 1) * level - 1e-9))  # 20 x 0.95 is a little more than 19 in binary


def compute_interval_95(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: `hits` of `count`, which is at least 1.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209.
    """
    return compute_wilson_interval(hits / count, count, Z_95)


def compute_wilson_interval(share: float, count: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        share: From 0 to 1.
        count: Of how many independent cases, above 0; not a whole number where it is an effective one.
        z: The normal distribution's (or Student's) point for the confidence.
    """
    square = z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return 0.0 if share == 0 else low, 1.0 if share == 1 else high  # exactly: rounding misses it by 1e-16
