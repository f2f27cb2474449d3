"""Selection of the candidates that are farthest from all places, one after another."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.distance import chord_to_km, compute_chord, to_unit

BLOCK_SIZE = 256  # candidates per block
# Chord of the unit sphere (6 mm on the Earth) below which two places are the same, up to rounding.
MIN_CHORD = 1e-9


def select_farthest_first(
    candidates_deg: FloatArray, existing_deg: FloatArray, *, max_count: int, spacing_m: float = 0.0
) -> tuple[IntArray, FloatArray]:
    """Selects candidates by their distance to the nearest place, existing or already selected.

    This is the greedy algorithm of T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
    Theoretical Computer Science 38 (1985), 293. Each step selects the candidate with the largest distance g to its
    nearest place, and updates the distances of the others. A full update would cost O(C) per step. But all
    distances are at most g, so the new place can only be nearer to candidates within g of it. Candidates are
    therefore grouped into blocks of neighbours. A block is updated only if its centre is within g plus the block's
    radius of the new place.

    Args:
        candidates_deg: (C, 2) latitude and longitude of the candidates.
        existing_deg: (M, 2) latitude and longitude of the existing places, M at least 1.
        max_count: Largest number of candidates to select.
        spacing_m: Selection stops before a candidate that is nearer than this to a place.

    Returns:
        (N,) indices of the selected candidates in order of selection, and (N,) the distance in km of each to its
        nearest place when it was selected, which never increases.
    """
    points = to_unit(candidates_deg)
    block_indices, block_points = sort_into_blocks(points)
    centres = block_points.mean(axis=1)
    radii = np.linalg.norm(block_points - centres[:, None], axis=-1).max(axis=1)

    # Distances are squared chords of the unit sphere, so that the loop needs no roots. Padding gets a
    # distance below all others.
    nearest = np.asarray(cKDTree(to_unit(existing_deg)).query(points)[0], dtype=np.float64)
    squares = np.where(block_indices < 0, -1.0, nearest[block_indices] ** 2)
    block_max = squares.max(axis=1)

    min_square = max(compute_chord(spacing_m), MIN_CHORD) ** 2
    selected: list[int] = []
    chords: list[float] = []
    while len(selected) < max_count:
        block = int(np.argmax(block_max))
        slot = int(np.argmax(squares[block]))
        if (square := float(squares[block, slot])) < min_square:
            break
        selected.append(int(block_indices[block, slot]))
        chords.append(square**0.5)

        point = block_points[block, slot]
        offsets = centres - point
        near = np.flatnonzero(np.einsum("bd,bd->b", offsets, offsets) < (chords[-1] + radii) ** 2)
        offsets = block_points[near] - point
        squares[near] = np.minimum(squares[near], np.einsum("bsd,bsd->bs", offsets, offsets))
        block_max[near] = squares[near].max(axis=1)
    return np.array(selected, dtype=np.int64), chord_to_km(np.array(chords, dtype=np.float64))


def sort_into_blocks(points: FloatArray) -> tuple[IntArray, FloatArray]:
    """Sorts (C, d) points into blocks of neighbours, as (B, S) indices and (B, S, d) points, by a k-d tree.

    Padding at the end of the last block has the index -1 and repeats the last point.
    """
    order = np.asarray(cKDTree(points).indices, dtype=np.int64)
    padding = -len(order) % BLOCK_SIZE
    indices = np.concatenate((order, np.full(padding, -1))).reshape(-1, BLOCK_SIZE)

    padded = np.concatenate((order, np.repeat(order[-1:], padding)))
    return indices, points[padded].reshape(-1, BLOCK_SIZE, points.shape[1])
