"""Grouping of photos into places by distance and time, and assignment of photos to headings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import product
from operator import add

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.place_files import HEADINGS
from geoguesser.geo.distance import compute_chord, to_unit

# Offsets of a cubic cell and the 26 cells around it.
NEIGHBOUR_OFFSETS = tuple(product((-1, 0, 1), repeat=3))


def group_photos(
    coords_deg: FloatArray, taken: Sequence[datetime | None], *, group_m: float, group_s: float | None
) -> IntArray:
    """Groups photos around leaders: a photo without a leader nearby becomes a leader.

    Every photo is within `group_m` of its leader, so that a series of photos along a street is not a single place.
    The search for leaders uses a hash of cubic cells whose side is `group_m`: a leader within reach is in the
    same or a neighbouring cell.

    Takes (N, 2) positions, in the order in which photos may become leaders, (N,) times, of which None (unknown) is
    compatible with any, and the largest distance and time difference (None for any) from a leader. Returns the
    number (N,) of each photo's leader: the nearest one, at equal distance the first.
    """
    leaders = np.arange(len(coords_deg), dtype=np.int64)
    vectors = to_unit(coords_deg)
    times = np.array(taken, dtype="datetime64[us]")

    # The addition allows for rounding, and gives cells a size if `group_m` is 0.
    max_chord = compute_chord(group_m) + 1e-12
    cells = np.floor(vectors / max_chord).astype(np.int64)
    leaders_by_cell: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, cell in enumerate(map(tuple, cells.tolist())):
        neighbours = (tuple(map(add, cell, offset)) for offset in NEIGHBOUR_OFFSETS)
        candidates = np.array(
            sorted(leader for neighbour in neighbours for leader in leaders_by_cell.get(neighbour, ())),
            dtype=np.int64,
        )

        chords = np.linalg.norm(vectors[candidates] - vectors[number], axis=-1)
        fits = chords <= max_chord
        if group_s is not None:
            # Negated, so that an unknown time (NaN) fits.
            fits &= ~(np.abs(times[candidates] - times[number]) / np.timedelta64(1, "s") > group_s)

        if fits.any():
            leaders[number] = candidates[fits][np.argmin(chords[fits])]
        else:
            leaders_by_cell[cell].append(number)
    return leaders


def find_nearest_headings(directions_deg: FloatArray) -> tuple[IntArray, FloatArray]:
    """Returns the numbers of the headings nearest to (N,) compass directions, and (N,) deviations in degrees."""
    deviations = np.abs((directions_deg[:, None] - np.array(HEADINGS) + 180.0) % 360.0 - 180.0)
    nearest = np.argmin(deviations, axis=1)
    return nearest, deviations[np.arange(len(deviations)), nearest]
