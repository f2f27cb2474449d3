"""Quadtree cells: boxes that are split in four while they hold many places, so that dense land has small cells.

On the sphere the boxes are halved in longitude and in the sine of latitude, so that all cells of a level have the
same area. They are squares at 37 degrees, and narrow from west to east near the poles.

The smallest boxes of a root, 2^DEPTH in each direction, are numbered by Morton codes. A code interleaves the
bits of column x and row y: ... y1 x1 y0 x0. Its leading bit pairs are the path from the root, so a box of level l
contains 4^(DEPTH - l) successive codes, and leaves in the order of their codes tile the range of codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import BoxCells, to_chart
from geoguesser.geo.region import PlaneRegion, Region

DEPTH = 26  # maximum level: cells of a few millimetres in Croatia, of 15 cm in the world

# Shifts and masks that move 26 bits to every second bit of 52: each step moves halves of the bit groups apart.
# Source: S. E. Anderson, Bit Twiddling Hacks, "Interleave bits by Binary Magic Numbers".
_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


class QuadtreeCells(BoxCells):
    """Leaves of a forest of quadtrees, in the order of their Morton codes. They tile the roots without a gap.

    A box includes its western and southern edges.

    Args:
        sphere: The chart is that of the sphere, which the roots then cover.
        corner: West and south edge of the roots, in the chart.
        root: Width and height of a root.
        columns: Number of roots from west to east.
        rows: Number of roots from south to north.
        levels: (count,) level of each leaf, in order; roots are at level 0.
    """

    kind = "quadtree"
    arguments = ("sphere", "corner", "root", "columns", "rows", "levels")

    def __init__(
        self, *, sphere: bool, corner: list[float], root: list[float], columns: int, rows: int, levels: IntArray
    ) -> None:
        self.sphere, self.columns, self.rows = sphere, columns, rows
        self.corner, self.root = [float(value) for value in corner], [float(value) for value in root]
        self.levels = np.asarray(levels, dtype=np.int64)
        self.count = len(self.levels)

        # Leaves tile the codes, so that the levels determine the first code of each.
        sizes = np.left_shift(1, 2 * (DEPTH - self.levels))
        self._starts = np.cumsum(sizes) - sizes

        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def over(cls, region: Region, coords_deg: FloatArray, *, max_places: int, min_side_km: float) -> QuadtreeCells:
        """Splits boxes while they hold more places than allowed, and their quarters are not too small.

        In the plane the single root is a square around the land and the places (N, 2); the sphere has eight roots.
        The minimum side of a leaf takes precedence over `max_places`.
        """
        points = region.to_space(coords_deg)

        # Roots.
        sphere = not isinstance(region, PlaneRegion)
        if isinstance(region, PlaneRegion):
            corner, side = _enclose_in_square(np.concatenate((np.reshape(region.land_m.bounds, (2, 2)), points)))
            frame: dict[str, Any] = {"corner": corner, "root": [side, side], "columns": 1, "rows": 1}
        else:
            frame = {"corner": [-180.0, -1.0], "root": [90.0, 1.0], "columns": 4, "rows": 2}
        count = frame["columns"] * frame["rows"]
        roots = cls(sphere=sphere, levels=np.zeros(count, dtype=np.int64), **frame)

        # A side of level l is that of the root divided by 2^l; the summand is for rounding at exact powers.
        max_level = min(int(np.log2(max(roots.side_km / min_side_km, 1.0)) + 1e-9), DEPTH)

        codes = np.sort(roots._compute_codes(to_chart(points)))
        return cls(sphere=sphere, levels=_split(codes, count, max_places, max_level), **frame)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        codes = self._compute_codes(chart)
        ids = np.searchsorted(self._starts, codes, side="right") - 1
        ids[codes < 0] = -1
        return ids

    def _compute_codes(self, chart: FloatArray) -> IntArray:
        """Returns the codes (N,) of points: the root's number, then the Morton code; -1 outside."""
        # Column and row of the smallest box, counted across all roots.
        steps = 1 << DEPTH
        end = np.array((self.columns, self.rows)) * steps
        cell = np.floor((chart - self.corner) * (steps / np.array(self.root)))
        is_outside = ((cell < 0) | (cell >= end)).any(axis=-1)
        x, y = np.clip(cell, 0, end - 1).astype(np.int64).T

        # The upper bits are the root's column and row, the lower DEPTH bits the box within the root.
        root_number = (y >> DEPTH) * self.columns + (x >> DEPTH)
        within = _interleave(x & (steps - 1)) | (_interleave(y & (steps - 1)) << 1)
        codes = (root_number << (2 * DEPTH)) | within

        # On the sphere only the north pole is outside, on an edge that no box includes. It was clipped to a box.
        if not self.sphere:
            codes[is_outside] = -1

        return codes

    def boxes(self, ids: IntArray) -> FloatArray:
        # The inverse of `_compute_codes`, in units of a root.
        codes = self._starts[ids]
        root_number, within = codes >> (2 * DEPTH), codes & ((1 << (2 * DEPTH)) - 1)
        low = np.stack((_deinterleave(within), _deinterleave(within >> 1)), axis=-1) / float(1 << DEPTH)
        low += np.stack((root_number % self.columns, root_number // self.columns), axis=-1)

        high = low + 0.5 ** self.levels[ids][:, None]
        return np.concatenate([self.corner + edge * np.array(self.root) for edge in (low, high)], axis=-1)


def _split(codes: IntArray, roots: int, max_places: int, max_level: int) -> IntArray:
    """Splits all roots level by level, given sorted codes (N,) of the places; returns levels of leaves by code."""
    nodes = np.arange(roots, dtype=np.int64) << (2 * DEPTH)
    starts, levels = [], []
    for level in range(max_level + 1):
        # The places of a node are those with codes from its first code to the next node's.
        size = 1 << (2 * (DEPTH - level))
        num_places = np.searchsorted(codes, nodes + size) - np.searchsorted(codes, nodes)
        is_full = (num_places > max_places) & (level < max_level)

        starts.append(nodes[~is_full])
        levels.append(np.full(len(starts[-1]), level))
        nodes = (nodes[is_full, None] + np.arange(4) * (size // 4)).ravel()

    return np.concatenate(levels)[np.argsort(np.concatenate(starts))]


def _enclose_in_square(points: FloatArray) -> tuple[list[float], float]:
    """Returns the south-western corner and the side of a square with points (N, 2) well inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max()) * 1.001 + 2.0
    return ((low + high) / 2 - side / 2).tolist(), side


def _interleave(values: IntArray) -> IntArray:
    """Moves bit i to bit 2 i."""
    for shift, mask in _SPREAD:
        values = (values | (values << shift)) & mask
    return values


def _deinterleave(values: IntArray) -> IntArray:
    """Moves bit 2 i to bit i and removes the odd bits: the steps of `_interleave` backwards."""
    values = values & _SPREAD[-1][1]
    for (shift, _), (_, mask) in zip(_SPREAD[::-1], [*_SPREAD[-2::-1], (0, 0xFFFFFFFF)], strict=True):
        values = (values | (values >> shift)) & mask
    return values
