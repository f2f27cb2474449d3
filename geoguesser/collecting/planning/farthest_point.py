"""Gaps: from candidates, the one farthest from all places, again and again. Pure; knows no land and no files."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.collecting.planning.poisson_disk import chord_of
from geoguesser.geo.distance import chord_to_km, to_unit

BLOCK = 256  # candidates that are looked at together


def farthest_first(
    candidates_deg: FloatArray, existing_deg: FloatArray, *, most: int, spacing_m: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Chooses candidates by their distance to the nearest place, existing or chosen before.

    Args:
        candidates_deg: (C, 2) where a place could be.
        existing_deg: (M, 2) where places are, M at least 1.
        most: How many to choose at most.
        spacing_m: Stops before a candidate that is nearer than this to a place.

    Returns:
        (N,) numbers of the chosen candidates in their order, and (N,) the distance of each in km when it was
        chosen: it never grows.

    Source: T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer
    Science 38 (1985), 293. Candidates lie in blocks of neighbours; only blocks within a chosen one's own distance
    of it can have changed.
    """
    points = to_unit(candidates_deg)
    order, blocks = in_blocks(points)
    nearest = np.asarray(cKDTree(to_unit(existing_deg)).query(points)[0], dtype=np.float64)
    squares = np.where(order < 0, -1.0, nearest[order] ** 2)  # of chords: no root is taken in the loop
    middles = blocks.mean(axis=1)
    radii = np.linalg.norm(blocks - middles[:, None], axis=-1).max(axis=1)
    largest = squares.max(axis=1)
    least = max(chord_of(spacing_m), 1e-9) ** 2
    chosen: list[int] = []
    gaps: list[float] = []
    while len(chosen) < most:
        block = int(np.argmax(largest))
        at = int(np.argmax(squares[block]))
        if (square := float(squares[block, at])) < least:
            break
        chosen.append(int(order[block, at]))
        gaps.append(square**0.5)
        point = blocks[block, at]
        apart = middles - point
        touched = np.flatnonzero(np.einsum("bd,bd->b", apart, apart) < (gaps[-1] + radii) ** 2)
        ways = blocks[touched] - point
        nearer = np.minimum(squares[touched], np.einsum("bsd,bsd->bs", ways, ways))
        squares[touched] = nearer
        largest[touched] = nearer.max(axis=1)
    return np.array(chosen, dtype=np.int64), chord_to_km(np.array(gaps, dtype=np.float64))


def in_blocks(points: FloatArray) -> tuple[IntArray, FloatArray]:
    """Sorts points into blocks of neighbours.

    Args:
        points: (C, d), C at least 1.

    Returns:
        (B, S) numbers of the points, -1 in the last block where there are no more, and (B, S, d) the points; those
        that are none repeat the last one.
    """
    order = np.asarray(cKDTree(points).indices, dtype=np.int64)
    missing = -len(order) % BLOCK
    blocks = points[np.concatenate((order, np.repeat(order[-1:], missing)))].reshape(-1, BLOCK, points.shape[1])
    return np.concatenate((order, np.full(missing, -1))).reshape(-1, BLOCK), blocks
