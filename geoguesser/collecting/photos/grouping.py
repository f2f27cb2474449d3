"""Grouping: which photos show one place, and which of them is its view to each heading. Pure; reads no files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import product
from operator import add

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.collecting.planning.poisson_disk import chord_of
from geoguesser.data.place_files import HEADINGS
from geoguesser.geo.distance import to_unit

SHIFTS = tuple(product((-1, 0, 1), repeat=3))  # a cell and those about it


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
    vectors, times = to_unit(coords_deg), _seconds(taken)
    reach = chord_of(group_m) + 1e-12
    cells = np.floor(vectors / reach).astype(np.int64)
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)  # leaders by cell: all pairs would be too many
    for number, cell in enumerate(map(tuple, cells.tolist())):
        about = [one for shift in SHIFTS for one in found.get(tuple(map(add, cell, shift)), ())]
        near = np.array(sorted(about), dtype=np.int64)
        apart = np.linalg.norm(vectors[near] - vectors[number], axis=-1)
        good = apart <= reach
        if group_s is not None:
            good &= ~(np.abs(times[near] - times[number]) > group_s)  # an unknown time fits
        if good.any():
            leaders[number] = near[good][np.argmin(apart[good])]
        else:
            found[cell].append(number)
    return leaders


def _seconds(taken: Sequence[datetime | None]) -> FloatArray:
    start = datetime(1970, 1, 1)
    return np.array([np.nan if one is None else (one - start).total_seconds() for one in taken], dtype=np.float64)


def nearest_headings(directions_deg: FloatArray) -> tuple[IntArray, FloatArray]:
    """(N,) compass directions -> (N,) numbers of the nearest of the four headings, and how far off in degrees."""
    off = np.abs((directions_deg[:, None] - np.array(HEADINGS) + 180.0) % 360.0 - 180.0)
    nearest = np.argmin(off, axis=1)
    return nearest, off[np.arange(len(off)), nearest]
