"""Split-conformal prediction: thresholds that hold for a new place with a known probability, whatever the model.

Scores of calibration places, which neither trained nor chose the model, are compared with a new place's. If these
places and the new one are exchangeable (drawn alike, in any order), the new score is at most the threshold with at
least the nominal probability. Pure functions of arrays.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from geoguesser.geo.cells import IntArray
from geoguesser.geo.distance import FloatArray

BoolArray = npt.NDArray[np.bool_]
Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


def quantile(scores: FloatArray, level: float) -> float:
    """The threshold for a level: the ceil((n + 1) level)-th smallest of n scores, infinite where n is too small.

    Args:
        scores: (n,) of the calibration places.
        level: The nominal probability, from 0 to 1.

    Source: A. N. Angelopoulos and S. Bates, "A Gentle Introduction to Conformal Prediction", arXiv 2107.07511.
    """
    rank = math.ceil((len(scores) + 1) * level - 1e-9)  # 20 x 0.95 is a little more than 19 in binary
    if rank > len(scores):
        return math.inf
    return float(np.sort(scores)[max(rank, 1) - 1])


def mass_scores(posterior: FloatArray) -> FloatArray:
    """(N, K) probabilities -> (N, K) for each cell the mass of all cells at least as probable as it.

    The set of cells whose score is at most a threshold grows with the threshold, from the most probable cell down;
    cells that tie come in together. Deterministic: nothing is drawn at the set's edge.

    Source: Y. Romano, M. Sesia, E. Candes, "Classification with Valid and Adaptive Coverage", arXiv 2006.02544,
    without its randomisation.
    """
    order = np.argsort(-posterior, axis=1, kind="stable")
    ranked = np.take_along_axis(posterior, order, axis=1)
    mass = np.cumsum(ranked, axis=1)
    last_of_tie = np.ones(ranked.shape, dtype=bool)
    last_of_tie[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    ends = np.where(last_of_tie, mass, np.inf)
    tied = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    scores = np.empty_like(tied)
    np.put_along_axis(scores, order, tied, axis=1)
    return scores


def members(scores: FloatArray, best: IntArray, threshold: float) -> BoolArray:
    """(N, K) which cells are in each place's set: those within the threshold, and always the most probable one.

    Without that one a place of which the model is surest would have an empty set. It can only add coverage.

    Args:
        scores: (N, K) mass scores.
        best: (N,) the most probable cells.
        threshold: A `quantile` of the true cells' scores; infinite for all cells.
    """
    inside: BoolArray = scores <= threshold
    inside[np.arange(len(inside)), best] = True
    return inside


def interval_95(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: `hits` of `count`, which is at least 1.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209.
    """
    share, square = hits / count, Z_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
