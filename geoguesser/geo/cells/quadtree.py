"""A quadtree: boxes that are split in four while they hold many places, so that dense land has small cells.

On the sphere the boxes are halved in longitude and in the sine of latitude, so all cells of a level have the
same area; they are squares at 37 degrees, and get narrow from west to east towards the poles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import BoxCells, to_chart
from geoguesser.geo.region import PlaneRegion, Region

DEPTH = 26  # levels at most: cells of a few millimetres in Croatia, of 15 cm in the world
_SPREAD = (  # each step moves the upper half of the bits apart: 26 bits -> every second bit of 52
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


class QuadtreeCells(BoxCells):
    """The leaves of a forest of quadtrees, in the order of their Morton codes. They tile its roots without a gap.

    A box takes in its western and southern edges.

    Args:
        sphere: Whether the chart is that of the sphere; then the roots cover it.
        corner: West and south edge of the roots, in the chart.
        root: Width and height of a root.
        columns: How many roots from west to east.
        rows: How many from south to north.
        levels: (count,) how often each leaf's root was split to make it, in order.
    """

    def __init__(
        self,
        *,
        sphere: bool,
        corner: list[float],
        root: list[float],
        columns: int,
        rows: int,
        levels: IntArray,
    ) -> None:
        self.sphere, self.columns, self.rows = sphere, columns, rows
        self.corner, self.root = [float(value) for value in corner], [float(value) for value in root]
        self.levels = np.asarray(levels, dtype=np.int64)
        self.count = len(self.levels)
        # A leaf takes in all codes from its own to the next one's: so the levels alone say where each lies.
        sizes = np.left_shift(1, 2 * (DEPTH - self.levels))
        self._starts = np.cumsum(sizes) - sizes
        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def over(cls, region: Region, coords_deg: FloatArray, *, max_places: int, min_side_km: float) -> QuadtreeCells:
        """Splits boxes while they hold more places than allowed, and their quarters are not too small.

        Args:
            region: The land. In the plane the one root is a square round it and the places; the sphere has eight.
            coords_deg: (N, 2) places.
            max_places: How many a leaf may hold.
            min_side_km: No leaf is smaller, however many places it holds.
        """
        points = region.to_space(coords_deg)
        sphere = not isinstance(region, PlaneRegion)
        if isinstance(region, PlaneRegion):
            corner, side = _square_round(np.concatenate((np.reshape(region.land_m.bounds, (2, 2)), points)))
            frame: dict[str, Any] = {"corner": corner, "root": [side, side], "columns": 1, "rows": 1}
        else:
            frame = {"corner": [-180.0, -1.0], "root": [90.0, 1.0], "columns": 4, "rows": 2}
        count = frame["columns"] * frame["rows"]
        roots = cls(sphere=sphere, levels=np.zeros(count, dtype=np.int64), **frame)
        times = int(np.log2(max(roots.side_km / min_side_km, 1.0)) + 1e-9)
        codes = np.sort(roots._codes(to_chart(points)))
        return cls(sphere=sphere, levels=_split(codes, count, max_places, min(times, DEPTH)), **frame)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        codes = self._codes(chart)
        found = np.searchsorted(self._starts, codes, side="right") - 1
        found[codes < 0] = -1
        return found

    def _codes(self, chart: FloatArray) -> IntArray:
        """(N,) the Morton code of each point's smallest box, the root's number before it; -1 outside."""
        steps = 1 << DEPTH
        most = np.array((self.columns, self.rows)) * steps
        cell = np.floor((chart - self.corner) * (steps / np.array(self.root)))
        outside = ((cell < 0) | (cell >= most)).any(axis=-1)
        x, y = np.clip(cell, 0, most - 1).astype(np.int64).T
        number = (y >> DEPTH) * self.columns + (x >> DEPTH)
        codes = (number << (2 * DEPTH)) | _interleave(x & (steps - 1)) | (_interleave(y & (steps - 1)) << 1)
        if not self.sphere:  # where only the north pole is on an edge that no box takes in
            codes[outside] = -1
        return codes

    def boxes(self, ids: IntArray) -> FloatArray:
        codes = self._starts[ids]
        number, within = codes >> (2 * DEPTH), codes & ((1 << (2 * DEPTH)) - 1)
        low = np.stack((_deinterleave(within), _deinterleave(within >> 1)), axis=-1) / float(1 << DEPTH)
        low += np.stack((number % self.columns, number // self.columns), axis=-1)
        high = low + 0.5 ** self.levels[ids][:, None]
        return np.concatenate([self.corner + edge * np.array(self.root) for edge in (low, high)], axis=-1)

    def state(self) -> dict[str, Any]:
        names = ("sphere", "corner", "root", "columns", "rows", "levels")
        return {"kind": "quadtree", **{name: getattr(self, name) for name in names}}


def _split(codes: IntArray, roots: int, max_places: int, deepest: int) -> IntArray:
    """Splits all roots level by level. `codes` are the places', sorted. Gives the leaves' levels, in order."""
    nodes = np.arange(roots, dtype=np.int64) << (2 * DEPTH)
    starts, levels = [], []
    for level in range(deepest + 1):
        size = 1 << (2 * (DEPTH - level))
        held = np.searchsorted(codes, nodes + size) - np.searchsorted(codes, nodes)
        full = (held > max_places) & (level < deepest)
        starts.append(nodes[~full])
        levels.append(np.full(len(starts[-1]), level))
        nodes = (nodes[full, None] + np.arange(4) * (size // 4)).ravel()
    return np.concatenate(levels)[np.argsort(np.concatenate(starts))]


def _square_round(points: FloatArray) -> tuple[list[float], float]:
    """The south-western corner and the side of a square with (N, 2) points well inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max()) * 1.001 + 2.0
    return ((low + high) / 2 - side / 2).tolist(), side


def _interleave(values: IntArray) -> IntArray:
    for shift, mask in _SPREAD:
        values = (values | (values << shift)) & mask
    return values


def _deinterleave(values: IntArray) -> IntArray:
    values = values & _SPREAD[-1][1]
    for (shift, _), (_, mask) in zip(_SPREAD[::-1], [*_SPREAD[-2::-1], (0, 0xFFFFFFFF)], strict=True):
        values = (values | (values >> shift)) & mask
    return values
