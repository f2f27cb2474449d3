"""Gaps: from candidates, the one farthest from all places, again and again. Pure; knows no land and no files."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geoguesser.geo.distance import FloatArray, arc_km, to_unit

IntArray = npt.NDArray[np.int64]


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
    Science 38 (1985), 293; only candidates within a chosen one's own distance can have come nearer, and a heap
    whose entries may be too far tells the next.
    """
    points = to_unit(candidates_deg)
    chords: FloatArray = np.asarray(cKDTree(to_unit(existing_deg)).query(points)[0], dtype=np.float64)
    tree = cKDTree(points)
    heap = [(-chord, number) for number, chord in enumerate(chords.tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    gaps: list[float] = []
    while heap and len(chosen) < most:
        key, number = heapq.heappop(heap)
        chord = float(chords[number])
        if chord < -key:  # a place came nearer since
            heapq.heappush(heap, (-chord, number))
            continue
        if arc_km(np.array(chord)) * 1000.0 < spacing_m or chord == 0.0:
            break
        chosen.append(number)
        gaps.append(chord)
        near = np.asarray(tree.query_ball_point(points[number], chord))
        chords[near] = np.minimum(chords[near], np.linalg.norm(points[near] - points[number], axis=-1))
    return np.array(chosen, dtype=np.int64), arc_km(np.array(gaps, dtype=np.float64))
