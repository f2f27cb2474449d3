"""Darts: points thrown at land one after another, each refused that lies too near to one before it.

That is Poisson disk sampling by dart throwing. Boxes that are wholly within the spacing of a point, off the land
or far from the layer are dropped, and those that are left are quartered, so it ends also where the land is full:
M. S. Ebeida et al., "A Simple Algorithm for Maximal Poisson-Disk Sampling in High Dimensions", Computer Graphics
Forum 31 (2012), 785. Each *owner* (a cell, or the whole region) has boxes and a quota of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geoguesser.collecting.planning.charts import BoolArray, Chart, quartered
from geoguesser.collecting.planning.layers import Layer
from geoguesser.geo.distance import EARTH_RADIUS_KM, FloatArray, to_unit

IntArray = npt.NDArray[np.int64]

MAX_AT_ONCE = 200_000  # darts
MAX_BOXES = 1_000_000
POOR = 0.3  # fewer darts than this that hit, and an owner's boxes are quartered
FINEST = 100.0  # parts of the spacing (or of near_m): smaller gaps count as full
MIN_REACH_M = 0.5
FRUITLESS = 4  # rounds with (nearly) no hit in the smallest boxes
FRUITLESS_RATE = 0.0005


def chord_of(distance_m: float) -> float:
    """The straight distance of unit vectors that are so many metres apart on the sphere."""
    return float(2.0 * np.sin(np.minimum(distance_m / (2000.0 * EARTH_RADIUS_KM), np.pi / 2)))


@dataclass
class Target:
    """Boxes by owner, and what each owner still needs.

    Attributes:
        boxes: (B, 4), sorted by owner.
        owners: (B,) from 0.
        needs: (O,) how many points each owner should get.
        rates: (O,) the share of the last round's darts that hit.
        fruitless: (O,) rounds in a row with (nearly) no hit in boxes that are not quartered any more.
    """

    boxes: FloatArray
    owners: IntArray
    needs: IntArray
    rates: FloatArray = field(init=False)
    fruitless: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.rates = np.full(len(self.needs), 0.5)
        self.fruitless = np.zeros(len(self.needs), dtype=np.int64)

    def open(self) -> BoolArray:
        """(O,) which owners still have land for a point, whether or not they need one."""
        counts = np.bincount(self.owners, minlength=len(self.needs))
        return (counts > 0) & (self.fruitless < FRUITLESS)

    def aim(self, rng: np.random.Generator, darts: IntArray) -> tuple[FloatArray, IntArray]:
        """(O,) darts by owner -> (N, 2) points of the chart, even over its owner's boxes; (N,) owners."""
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        edges = np.concatenate(([0.0], np.cumsum(size.prod(axis=1))))
        first = np.searchsorted(self.owners, np.arange(len(darts)), side="left")
        last = np.searchsorted(self.owners, np.arange(len(darts)), side="right")
        owners = rng.permutation(np.repeat(np.arange(len(darts)), darts))
        low, high = edges[first[owners]], edges[last[owners]]
        box = np.searchsorted(edges, low + rng.random(len(owners)) * (high - low), side="right") - 1
        box = np.clip(box, first[owners], last[owners] - 1)  # rounding at an edge
        return self.boxes[box, :2] + rng.random((len(owners), 2)) * size[box], owners

    def replace(self, rows: BoolArray, boxes: FloatArray, owners: IntArray) -> None:
        """Puts other boxes in the place of those of `rows`."""
        owners = np.concatenate((self.owners[~rows], owners))
        order = np.argsort(owners, kind="stable")
        self.boxes, self.owners = np.concatenate((self.boxes[~rows], boxes))[order], owners[order]


class Darts:
    """Throws darts at one region.

    Args:
        chart: Where the land lies.
        rng: All chance.
        spacing_m: No two points nearer than this; 0 for none.
        taken_deg: (M, 2) places that exist; points keep the spacing to these too.
        layer: Points must lie near it; None for anywhere.
        near_m: How near.

    Attributes:
        refused: How many darts on land were refused, by reason: `spacing`, `near`.
    """

    def __init__(
        self,
        chart: Chart,
        rng: np.random.Generator,
        *,
        spacing_m: float = 0.0,
        taken_deg: FloatArray | None = None,
        layer: Layer | None = None,
        near_m: float = 0.0,
    ) -> None:
        self.chart, self.rng = chart, rng
        self.spacing_m, self.layer, self.near_m = spacing_m, layer, near_m
        self.refused: Counter[str] = Counter({"spacing": 0, "near": 0})
        self._taken = np.zeros((0, 3)) if taken_deg is None else to_unit(taken_deg)
        self._tree = cKDTree(self._taken) if len(self._taken) else None

    def throw(self, target: Target) -> tuple[FloatArray, IntArray]:
        """Throws until all owners have what they need or their land is full; `needs` goes down by what is found.

        Returns:
            (N, 2) coordinates in degrees and (N,) owners, in the order of the throws.
        """
        coords: list[FloatArray] = [np.zeros((0, 2))]
        owners: list[IntArray] = [np.zeros(0, dtype=np.int64)]
        self._drop(target, np.ones(len(target.boxes), dtype=np.bool_))
        while True:
            live = (target.needs > 0) & target.open()
            if not live.any():
                return np.concatenate(coords), np.concatenate(owners)
            darts = self._how_many(target, live)
            xy, owner = target.aim(self.rng, darts)
            found_deg, found = self._hits(xy, owner, target.needs)
            hits = np.bincount(found, minlength=len(darts))
            target.needs = target.needs - hits
            target.rates[live] = (hits / np.maximum(darts, 1))[live]
            coords.append(found_deg)
            owners.append(found)
            self._refine(target, live & (target.needs > 0) & (target.rates < POOR))

    def _how_many(self, target: Target, live: BoolArray) -> IntArray:
        """(O,) darts by owner: about what is needed by the last rate, but no more than can be told apart."""
        darts = np.where(live, np.ceil(1.2 * target.needs / np.maximum(target.rates, 0.02)) + 8.0, 0.0)
        if self.spacing_m > 0:  # more would only refuse each other, in pairs by the million
            _, reach_m = self.chart.reach_m(target.boxes)
            room = (
                16.0 + np.bincount(target.owners, np.maximum(reach_m / self.spacing_m, 0.5) ** 2, len(darts)) * 4.0
            )
            darts = np.minimum(darts, room)
        return np.ceil(darts * min(1.0, MAX_AT_ONCE / darts.sum())).astype(np.int64)

    def _hits(self, xy: FloatArray, owner: IntArray, needs: IntArray) -> tuple[FloatArray, IntArray]:
        coords = self.chart.to_degrees(xy)
        good = self.chart.on_land(xy, coords) & (self.rng.random(len(xy)) < self.chart.shares(coords))
        coords, owner = coords[good], owner[good]
        if self.layer is not None:
            near = self.layer.within(coords, self.near_m)
            self.refused["near"] += int(np.count_nonzero(~near))
            coords, owner = coords[near], owner[near]
        vectors = to_unit(coords)
        if self.spacing_m > 0 and len(coords):
            free = self._free(vectors)
            self.refused["spacing"] += int(np.count_nonzero(~free))
            coords, owner, vectors = coords[free], owner[free], vectors[free]
        chosen = first_of_each(owner, needs)
        if self.spacing_m > 0:
            self._taken = np.concatenate((self._taken, vectors[chosen]))
            self._tree = cKDTree(self._taken) if len(self._taken) else None
        return coords[chosen], owner[chosen]

    def _free(self, vectors: FloatArray) -> BoolArray:
        """(N,) which points are apart from all that are taken and from all that come before them."""
        chord = chord_of(self.spacing_m)
        free = np.ones(len(vectors), dtype=np.bool_)
        if self._tree is not None:
            free = ~np.isfinite(self._tree.query(vectors, distance_upper_bound=chord)[0])
        rows = np.flatnonzero(free)
        if len(rows) > 1:
            pairs = cKDTree(vectors[rows]).query_pairs(chord, output_type="ndarray")
            free[rows] = first_come(pairs, len(rows))
        return free

    def _refine(self, target: Target, poor: BoolArray) -> None:
        """Quarters the boxes of owners whose darts seldom hit, and drops the quarters that no dart can hit."""
        rows = poor[target.owners]
        if not rows.any():
            return
        _, reach_m = self.chart.reach_m(target.boxes[rows])
        scales = [size for size in (self.spacing_m, self.near_m if self.layer is not None else 0.0) if size > 0]
        finest_m = max(min(scales) / FINEST if scales else 0.0, MIN_REACH_M)
        large = np.zeros(len(rows), dtype=np.bool_)
        large[rows] = reach_m > finest_m
        if np.count_nonzero(large) * 3 + len(rows) > MAX_BOXES:
            large[:] = False
        done = poor & ~np.isin(np.arange(len(poor)), target.owners[large])
        target.fruitless[done & (target.rates < FRUITLESS_RATE)] += 1
        target.fruitless[poor & (target.rates >= FRUITLESS_RATE)] = 0
        quarters, owners = quartered(target.boxes[large]), np.repeat(target.owners[large], 4)
        target.replace(large, quarters, owners)
        self._drop(target, poor[target.owners])

    def _drop(self, target: Target, rows: BoolArray) -> None:
        """Drops boxes among `rows` that lie off the land, far from the layer, or within the spacing of a point."""
        numbers = np.flatnonzero(rows)
        numbers = numbers[self.chart.touches(target.boxes[numbers])] if len(numbers) else numbers
        if len(numbers) and (self.layer is not None or self._tree is not None):
            middles_deg, reach_m = self.chart.reach_m(target.boxes[numbers])
            keep = np.ones(len(numbers), dtype=np.bool_)
            if self.layer is not None:
                keep &= self.layer.within(middles_deg, self.near_m + reach_m)
            if self._tree is not None and self.spacing_m > 0:
                chord, _ = self._tree.query(to_unit(middles_deg))
                keep &= 2000.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1.0)) + reach_m > self.spacing_m
            numbers = numbers[keep]
        kept = ~rows
        kept[numbers] = True
        target.boxes, target.owners = target.boxes[kept], target.owners[kept]


def first_come(pairs: IntArray, count: int) -> BoolArray:
    """Goes through `count` points in order and keeps each that is in no pair with one kept before it.

    Args:
        pairs: (P, 2) numbers of points that exclude each other, the lower first.
        count: How many points there are.

    Returns:
        (count,) which are kept; as one by one, but in a few rounds over all pairs.
    """
    lost = np.zeros(count, dtype=np.bool_)
    while len(pairs):
        waits = np.zeros(count, dtype=np.bool_)
        waits[pairs[:, 1]] = True
        sure = ~waits[pairs[:, 0]]  # nobody before it that may still be kept
        lost[pairs[sure, 1]] = True
        pairs = pairs[~lost[pairs].any(axis=1)]
    return ~lost


def first_of_each(owners: IntArray, most: IntArray) -> IntArray:
    """(N,) owners of a row of things -> the numbers of the first `most[o]` of each owner, ascending."""
    order = np.argsort(owners, kind="stable")
    sorted_owners = owners[order]
    rank = np.arange(len(owners)) - np.searchsorted(sorted_owners, sorted_owners, side="left")
    return np.sort(order[rank < most[sorted_owners]])
