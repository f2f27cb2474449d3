"""Poisson disk sampling by dart throwing: random points on land, rejected if too near to an earlier one.

Plain dart throwing never learns that a region is full. Here darts are thrown at boxes over the land. If few of
them hit, the boxes are split into quarters, and quarters are dropped that lie off the land, far from the layer, or
completely within the spacing of a point. The remaining boxes shrink around the gaps, and sampling ends if no box
remains or the smallest boxes stay without hits.

Source: M. S. Ebeida et al., "A Simple Algorithm for Maximal Poisson-Disk Sampling in High Dimensions", Computer
Graphics Forum 31 (2012), 785. New here are *owners*: the land is divided among them (the cells of a grid, or one
owner for the complete region), and each has its own boxes and its own number of points to draw.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.collecting.planning.charts import Chart, split_into_quarters
from geoguesser.collecting.planning.layers import Layer
from geoguesser.geo.distance import chord_to_km, compute_chord, to_unit

MAX_DARTS_PER_ROUND = 200_000
MAX_BOXES = 1_000_000

# Boxes of an owner are split if fewer of its darts hit.
MIN_HIT_RATE = 0.3

# Boxes are not split below this fraction of the spacing (or of `near_m`), nor below this radius. Smaller gaps
# count as full.
MIN_BOX_FRACTION = 0.01
MIN_BOX_RADIUS_M = 0.5

# An owner's land counts as full after this number of rounds in its smallest boxes with a lower hit rate than this.
MAX_FRUITLESS_ROUNDS = 4
FRUITLESS_HIT_RATE = 0.0005


@dataclass
class SamplingState:
    """Boxes of each owner, and the number of points that each still needs.

    Attributes:
        boxes: (B, 4) boxes of the chart, sorted by owner.
        owners: (B,) owner of each box, from 0.
        needs: (O,) number of points that each owner still needs.
        hit_rates: (O,) share of darts of the last round that hit.
        fruitless_rounds: (O,) number of consecutive rounds with almost no hit in boxes of the smallest size.
    """

    boxes: FloatArray
    owners: IntArray
    needs: IntArray
    hit_rates: FloatArray = field(init=False)
    fruitless_rounds: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.hit_rates = np.full(len(self.needs), 0.5)
        self.fruitless_rounds = np.zeros(len(self.needs), dtype=np.int64)

    def has_room(self) -> BoolArray:
        """Returns (O,) flags of the owners that still have land for a point, whether or not they need one."""
        counts = np.bincount(self.owners, minlength=len(self.needs))
        return (counts > 0) & (self.fruitless_rounds < MAX_FRUITLESS_ROUNDS)

    def draw(self, rng: np.random.Generator, darts: IntArray) -> tuple[FloatArray, IntArray]:
        """Draws `darts` points uniformly over the boxes of each owner.

        Returns (N, 2) points of the chart and (N,) owners, in random order.
        """
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        cumulative = np.concatenate(([0.0], np.cumsum(size.prod(axis=1))))
        first = np.searchsorted(self.owners, np.arange(len(darts)), side="left")
        last = np.searchsorted(self.owners, np.arange(len(darts)), side="right")

        owners = rng.permutation(np.repeat(np.arange(len(darts)), darts))
        low, high = cumulative[first[owners]], cumulative[last[owners]]
        box = np.searchsorted(cumulative, low + rng.random(len(owners)) * (high - low), side="right") - 1
        # Rounding may select a box of the neighbouring owner.
        box = np.clip(box, first[owners], last[owners] - 1)
        return self.boxes[box, :2] + rng.random((len(owners), 2)) * size[box], owners

    def replace(self, rows: BoolArray, boxes: FloatArray, owners: IntArray) -> None:
        owners = np.concatenate((self.owners[~rows], owners))
        order = np.argsort(owners, kind="stable")
        self.boxes, self.owners = np.concatenate((self.boxes[~rows], boxes))[order], owners[order]


class DartThrower:
    """Draws random points on the land of one region.

    Args:
        chart: Chart of the region.
        rng: Source of all randomness.
        spacing_m: Smallest distance between two points; 0 for any.
        taken_deg: (M, 2) existing places; points keep the spacing to these too.
        layer: Layer that points must lie near to; None for no layer.
        near_m: Largest distance from the layer.

    Attributes:
        refused: Number of rejected darts on land by reason: `spacing`, `near`.
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
        self._tree = cKDTree(self._taken)

    def throw(self, state: SamplingState) -> tuple[FloatArray, IntArray]:
        """Throws darts until every owner has the points that it needs (which are subtracted), or its land is full.

        Returns (N, 2) coordinates in degrees and (N,) owners, in the order of the throws.
        """
        coords: list[FloatArray] = [np.zeros((0, 2))]
        owners: list[IntArray] = [np.zeros(0, dtype=np.int64)]
        self._drop_boxes(state, np.ones(len(state.boxes), dtype=np.bool_))

        while (active := (state.needs > 0) & state.has_room()).any():
            darts = self._count_darts(state, active)
            hits_deg, hit_owners = self._select_hits(*state.draw(self.rng, darts), state.needs)
            coords.append(hits_deg)
            owners.append(hit_owners)

            hits = np.bincount(hit_owners, minlength=len(darts))
            state.needs = state.needs - hits
            state.hit_rates[active] = (hits / np.maximum(darts, 1))[active]
            self._refine(state, active & (state.needs > 0) & (state.hit_rates < MIN_HIT_RATE))
        return np.concatenate(coords), np.concatenate(owners)

    def _count_darts(self, state: SamplingState, active: BoolArray) -> IntArray:
        """Computes (O,) the number of darts for the next round, from the needs and the last hit rates."""
        darts = np.where(active, np.ceil(1.2 * state.needs / np.maximum(state.hit_rates, 0.02)) + 8.0, 0.0)

        # Many darts on little land only reject each other, in millions of pairs. So their number is limited to
        # about four per disk of the spacing that fits on the owner's boxes.
        if self.spacing_m > 0:
            _, radii_m = self.chart.compute_circles(state.boxes)
            disks = np.bincount(state.owners, np.maximum(radii_m / self.spacing_m, 0.5) ** 2, len(darts))
            darts = np.minimum(darts, 16.0 + disks * 4.0)
        return np.ceil(darts * min(1.0, MAX_DARTS_PER_ROUND / darts.sum())).astype(np.int64)

    def _select_hits(self, xy: FloatArray, owners: IntArray, needs: IntArray) -> tuple[FloatArray, IntArray]:
        """Selects the darts that become points, at most `needs` per owner, and adds them to the taken points."""
        coords = self.chart.to_degrees(xy)
        keep = self.chart.is_on_land(xy, coords)
        keep &= self.rng.random(len(xy)) < self.chart.compute_acceptance(coords)
        coords, owners = coords[keep], owners[keep]

        if self.layer is not None:
            keep = self.layer.within(coords, self.near_m)
            self.refused["near"] += int(np.count_nonzero(~keep))
            coords, owners = coords[keep], owners[keep]

        vectors = to_unit(coords)
        if self.spacing_m > 0 and len(coords):
            keep = self._find_spaced(vectors)
            self.refused["spacing"] += int(np.count_nonzero(~keep))
            coords, owners, vectors = coords[keep], owners[keep], vectors[keep]

        chosen = select_first_per_owner(owners, needs)
        if self.spacing_m > 0:
            self._taken = np.concatenate((self._taken, vectors[chosen]))
            self._tree = cKDTree(self._taken)
        return coords[chosen], owners[chosen]

    def _find_spaced(self, vectors: FloatArray) -> BoolArray:
        """Returns (N,) flags of the points that keep the spacing to all taken points and to earlier ones here."""
        chord = compute_chord(self.spacing_m)
        # The tree reports an infinite distance if there is no neighbour within the bound.
        keep = ~np.isfinite(self._tree.query(vectors, distance_upper_bound=chord)[0])

        rows = np.flatnonzero(keep)
        if len(rows) > 1:
            pairs = cKDTree(vectors[rows]).query_pairs(chord, output_type="ndarray")
            keep[rows] = select_non_conflicting(pairs, len(rows))
        return keep

    def _refine(self, state: SamplingState, poor: BoolArray) -> None:
        """Splits the boxes of owners with a low hit rate (`poor`), and drops the parts that no dart can hit."""
        rows = poor[state.owners]
        if not rows.any():
            return

        _, radii_m = self.chart.compute_circles(state.boxes[rows])
        scales_m = [size for size in (self.spacing_m, self.near_m if self.layer is not None else 0.0) if size > 0]
        min_radius_m = max(min(scales_m) * MIN_BOX_FRACTION if scales_m else 0.0, MIN_BOX_RADIUS_M)
        splits = np.zeros(len(rows), dtype=np.bool_)
        splits[rows] = radii_m > min_radius_m
        if np.count_nonzero(splits) * 3 + len(rows) > MAX_BOXES:
            splits[:] = False

        # Owners with nothing left to split are given up after some rounds without hits.
        is_finest = poor & ~np.isin(np.arange(len(poor)), state.owners[splits])
        state.fruitless_rounds[is_finest & (state.hit_rates < FRUITLESS_HIT_RATE)] += 1
        state.fruitless_rounds[poor & (state.hit_rates >= FRUITLESS_HIT_RATE)] = 0

        state.replace(splits, split_into_quarters(state.boxes[splits]), np.repeat(state.owners[splits], 4))
        self._drop_boxes(state, poor[state.owners])

    def _drop_boxes(self, state: SamplingState, rows: BoolArray) -> None:
        """Drops boxes among `rows` that are off the land, far from the layer, or within the spacing of a point.

        The tests use the circle around a box. A box is far from the layer if its centre is farther than `near_m`
        plus the radius, and it is within the spacing of a point if the distance of its centre from the nearest
        point plus the radius is at most the spacing. Both err on the side of keeping a box.
        """
        numbers = np.flatnonzero(rows)
        if len(numbers):
            numbers = numbers[self.chart.touch_land(state.boxes[numbers])]

        if len(numbers) and (self.layer is not None or self.spacing_m > 0):
            centres_deg, radii_m = self.chart.compute_circles(state.boxes[numbers])
            keep = np.ones(len(numbers), dtype=np.bool_)
            if self.layer is not None:
                keep &= self.layer.within(centres_deg, self.near_m + radii_m)
            if self.spacing_m > 0:
                chords, _ = self._tree.query(to_unit(centres_deg))
                keep &= 1000.0 * chord_to_km(np.asarray(chords)) + radii_m > self.spacing_m
            numbers = numbers[keep]

        kept = ~rows
        kept[numbers] = True
        state.boxes, state.owners = state.boxes[kept], state.owners[kept]


def select_non_conflicting(pairs: IntArray, count: int) -> BoolArray:
    """Selects points in their order, skipping each point that conflicts with an earlier selected one.

    The result is that of a loop over all points, but computed in a few rounds over all pairs. In each round the
    points that are second in no pair are certainly selected, because no earlier point can still exclude them. So
    their partners are excluded, and all pairs with an excluded point are dropped.

    Takes (P, 2) numbers of conflicting points, the lower number first, and returns (count,) flags.
    """
    excluded = np.zeros(count, dtype=np.bool_)
    while len(pairs):
        is_undecided = np.zeros(count, dtype=np.bool_)
        is_undecided[pairs[:, 1]] = True
        excluded[pairs[~is_undecided[pairs[:, 0]], 1]] = True
        pairs = pairs[~excluded[pairs].any(axis=1)]
    return ~excluded


def select_first_per_owner(owners: IntArray, counts: IntArray) -> IntArray:
    """Returns the ascending numbers of the first `counts[o]` items of each owner o."""
    return np.flatnonzero(rank_within_owners(owners) < counts[owners])


def rank_within_owners(owners: IntArray) -> IntArray:
    """Returns (N,) the number of earlier items of the same owner."""
    order = np.argsort(owners, kind="stable")
    rank = np.empty(len(owners), dtype=np.int64)
    rank[order] = np.arange(len(owners)) - np.searchsorted(owners[order], owners[order], side="left")
    return rank
