"""Grouping: which photos show one place, and which of them is its view to each heading. Pure; reads no files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geoguesser.collecting.darts import chord_of
from geoguesser.data.examine import HEADINGS
from geoguesser.geo.distance import FloatArray, to_unit

IntArray = npt.NDArray[np.int64]


def group(
    coords_deg: FloatArray, taken: Sequence[datetime | None], *, group_m: float, group_s: float | None
) -> IntArray:
    """Groups photos around leaders: the first photo leads, and so does each that has no leader near it.

    So no photo is farther than `group_m` from its leader, and a street of photos is no single place.

    Args:
        coords_deg: (N, 2) where they were taken, in the order in which they may lead.
        taken: (N,) when; None where it is not known, which fits any time.
        group_m: The greatest distance from a leader.
        group_s: The greatest time from a leader in seconds; None for any.

    Returns:
        (N,) the number of each photo's leader: the nearest one, of equally near ones the first.
    """
    leaders = np.arange(len(coords_deg), dtype=np.int64)
    if len(coords_deg) < 2:
        return leaders
    vectors = to_unit(coords_deg)
    pairs = cKDTree(vectors).query_pairs(chord_of(group_m) + 1e-12, output_type="ndarray")
    apart = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=-1)
    order = np.lexsort((pairs[:, 0], apart, pairs[:, 1]))  # by the later photo, then by distance
    for number in order.tolist():
        earlier, later = pairs[number].tolist()
        if leaders[later] == later and leaders[earlier] == earlier and _together(taken, earlier, later, group_s):
            leaders[later] = earlier
    return leaders


def _together(taken: Sequence[datetime | None], one: int, other: int, group_s: float | None) -> bool:
    first, second = taken[one], taken[other]
    return group_s is None or first is None or second is None or abs((second - first).total_seconds()) <= group_s


def nearest_headings(directions_deg: FloatArray) -> tuple[IntArray, FloatArray]:
    """(N,) compass directions -> (N,) numbers of the nearest of the four headings, and how far off in degrees."""
    off = np.abs((directions_deg[:, None] - np.array(HEADINGS) + 180.0) % 360.0 - 180.0)
    nearest = np.argmin(off, axis=1)
    return nearest, off[np.arange(len(off)), nearest]
