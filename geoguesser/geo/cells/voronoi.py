"""Voronoi cells: all that is nearer to one centre than to any other; and k-means, which finds centres."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi, Voronoi, cKDTree

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import Cells, box_rings, find_adjacent
from geoguesser.geo.distance import EARTH_RADIUS_KM, arc_km
from geoguesser.geo.region import PlaneRegion, Region

NEAR_KM = 0.01  # places that are nearer to a centre do not become one
MAX_ROUNDS = 100
SETTLED = 1e-4  # share of the distinct places that may still change their cell when k-means ends
WIDER = 0.05  # of the box in which cells of the plane are drawn and measured, on each side
STEP_RAD = 0.02  # between points of an outline on the sphere: 130 km


class VoronoiCells(Cells):
    """The Voronoi cells of centres, by distance in the plane or on the sphere. Every point lies in one.

    Args:
        centres: (K, 2) CRS metres or (K, 3) unit vectors, no two the same.
        box_m: West, south, east and north of the box in which cells of the plane are drawn and measured, all
            centres well inside; empty on the sphere.
    """

    def __init__(self, centres: FloatArray, box_m: list[float]) -> None:
        self._points = np.asarray(centres, dtype=np.float64)
        self.box_m = [float(value) for value in box_m]
        self.count = len(self._points)
        self._tree = cKDTree(self._points)
        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def over(cls, region: Region, coords_deg: FloatArray, *, size: int, seed: int) -> VoronoiCells:
        """The cells of k-means over places; fewer than `size` where fewer places are distinct."""
        places, counts = np.unique(coords_deg, axis=0, return_counts=True)  # so that their order means nothing
        points = region.to_space(places)
        plane = isinstance(region, PlaneRegion)
        centres = kmeans(points, counts, size, np.random.default_rng(seed), near=NEAR_KM * _units_per_km(plane))
        if not isinstance(region, PlaneRegion):
            return cls(centres, [])
        corners = np.concatenate((np.reshape(region.land_m.bounds, (2, 2)), centres))
        low, high = corners.min(axis=0), corners.max(axis=0)
        room = WIDER * (high - low).max() + 1.0
        return cls(centres, [*(low - room), *(high + room)])

    def locate(self, points: FloatArray) -> IntArray:
        return np.asarray(self._tree.query(points)[1], dtype=np.int64)

    def centres(self, ids: IntArray) -> FloatArray:
        return self._points[ids]

    def outlines(self, ids: IntArray) -> list[FloatArray]:
        rings = self._shapes[0]
        return [rings[k] for k in ids]

    def touching(self, region: Region) -> IntArray:
        """All: a cell is made by the places in it."""
        return np.arange(self.count, dtype=np.int64)

    def sides_km(self, ids: IntArray) -> FloatArray:
        """As in Cells, in the plane within the box; but at most twice the way to the nearest centre.

        The cells at the rim have no end by themselves, and an ocean on the sphere belongs to its coasts.
        """
        sides = np.sqrt(self._shapes[1][ids])
        if self.count == 1:
            return sides
        away = np.asarray(self._tree.query(self._points[ids], k=[2])[0])[:, 0]
        nearest = away / 1000.0 if self.box_m else arc_km(away)
        return np.minimum(sides, 2.0 * nearest)

    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """The Delaunay neighbours, in the plane those that share an edge within the box."""
        return find_adjacent(self._shapes[2], self.count)[ids][:, ids]

    @cached_property
    def _shapes(self) -> tuple[list[FloatArray], FloatArray, IntArray]:
        """Closed rings in the region's space, areas in square km, and (2, P) pairs of neighbours."""
        if self.box_m:
            return _in_box(self._points, np.array(self.box_m))
        if np.linalg.matrix_rank(self._points - self._points.mean(axis=0), tol=1e-9) < 3:
            return _lunes(self._points)
        try:
            return _on_sphere(self._points)
        except (QhullError, ValueError):  # all within metres of a circle: too flat for a hull
            return _lunes(self._points)

    def state(self) -> dict[str, Any]:
        return {"kind": "voronoi", "centres": self._points, "box_m": self.box_m}


def _units_per_km(plane: bool) -> float:
    return 1000.0 if plane else 1.0 / EARTH_RADIUS_KM


def kmeans(
    points: FloatArray, counts: IntArray, size: int, random: np.random.Generator, *, near: float
) -> FloatArray:
    """Centres with a small sum of squared distances to their places: Lloyd's rounds from a k-means++ start.

    Args:
        points: (N, d) distinct places; unit vectors where d is 3, and then centres are as well.
        counts: (N,) how often each occurs.
        size: How many centres.
        random: Draws the start.
        near: Points nearer than this to a centre do not start another.

    Returns:
        (K, d) centres, K at most `size`; each is the nearest one for some point.

    Source: Arthur and Vassilvitskii, k-means++ (SODA 2007).
    """
    centres = _start(points, counts, size, random, near)
    before: IntArray | None = None
    for _ in range(MAX_ROUNDS):
        nearest = np.asarray(cKDTree(centres).query(points)[1], dtype=np.int64)
        if before is not None and np.mean(nearest != before) <= SETTLED:
            break
        before = nearest
        centres = _means(points, counts, nearest, len(centres))
    return centres[np.unique(cKDTree(centres).query(points)[1])]


def _start(
    points: FloatArray, counts: IntArray, size: int, random: np.random.Generator, near: float
) -> FloatArray:
    """Draws centres among the points by their squared distance to the nearest one that is drawn already."""
    chosen = [int(random.choice(len(points), p=counts / counts.sum()))]
    squares = np.full(len(points), np.inf)
    while True:
        squares = np.minimum(squares, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        weights = np.cumsum(np.where(squares > near**2, squares, 0.0) * counts)
        if len(chosen) >= size or weights[-1] == 0.0:
            return points[chosen]
        chosen.append(int(np.searchsorted(weights, random.random() * weights[-1], side="right")))


def _means(points: FloatArray, counts: IntArray, nearest: IntArray, size: int) -> FloatArray:
    """(K, d) the mean of the points of each centre, K at most `size`: a centre without points is left out."""
    totals = np.bincount(nearest, weights=counts, minlength=size)
    sums = [np.bincount(nearest, weights=column * counts, minlength=size) for column in points.T]
    means = np.stack(sums, axis=-1)[totals > 0] / totals[totals > 0, None]
    return means / np.linalg.norm(means, axis=-1, keepdims=True) if points.shape[1] == 3 else means


def _in_box(centres: FloatArray, box: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """Cells cut off at a box: with the centres mirrored in its four sides, its sides are edges of cells."""
    low, high = box[:2], box[2:]
    origin, count = (low + high) / 2, len(centres)
    inner = centres - origin
    mirrored = [inner]
    for axis in (0, 1):
        for end in (low, high):
            twin = inner.copy()
            twin[:, axis] = 2 * (end - origin)[axis] - twin[:, axis]
            mirrored.append(twin)
    made = Voronoi(np.concatenate(mirrored))
    rings, areas = [], np.zeros(count)
    for k in range(count):
        corners = made.vertices[made.regions[made.point_region[k]]]
        away = corners - inner[k]
        corners = corners[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]
        following = np.roll(corners, -1, axis=0)
        areas[k] = np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]) / 2e6
        rings.append(np.concatenate((corners, corners[:1])) + origin)
    pairs = made.ridge_points
    return rings, areas, pairs[(pairs < count).all(axis=1)].T.astype(np.int64)


def _on_sphere(centres: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    made: Any = SphericalVoronoi(centres, threshold=1e-12)
    made.sort_vertices_of_regions()
    rings = [_along_circles(made.vertices[region]) for region in made.regions]
    triangles = ConvexHull(centres).simplices
    pairs = np.concatenate((triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]))
    return rings, made.calculate_areas() * EARTH_RADIUS_KM**2, pairs.T.astype(np.int64)


def _lunes(centres: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """The cells of centres on one circle, or of fewer than four: lunes from one pole of it to the other."""
    count = len(centres)
    if count == 1:  # the whole sphere, cut open at the date line
        west, south, east, north = (np.array([value]) for value in (-180.0, -90.0, 180.0, 90.0))
        return (
            list(box_rings(south, north, west, east)),
            np.array([4.0 * np.pi * EARTH_RADIUS_KM**2]),
            np.zeros((2, 0), dtype=np.int64),
        )
    pole = np.linalg.svd(centres - centres.mean(axis=0))[2][-1]
    one = np.linalg.svd(pole[None])[2][1]
    other = np.cross(pole, one)
    angles = np.arctan2(centres @ other, centres @ one)
    order = np.argsort(angles)
    behind = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi) / 2  # half the way to the next
    rise = np.linspace(-np.pi / 2, np.pi / 2, 181)

    def meridian(angle: float) -> FloatArray:
        across = np.cos(angle) * one + np.sin(angle) * other
        return np.cos(rise)[:, None] * across + np.sin(rise)[:, None] * pole

    rings, widths = [np.zeros((0, 3))] * count, np.zeros(count)
    for place, k in enumerate(order):
        before, after = angles[k] - behind[place - 1], angles[k] + behind[place]
        rings[k] = np.concatenate((meridian(after), meridian(before)[::-1], meridian(after)[:1]))
        widths[k] = after - before
    every = np.stack(np.meshgrid(np.arange(count), np.arange(count))).reshape(2, -1)  # all meet at both poles
    return rings, 2.0 * widths * EARTH_RADIUS_KM**2, every


def _along_circles(corners: FloatArray) -> FloatArray:
    """(V, 3) corners -> a closed ring along great circles, with a point at least every STEP_RAD."""
    pieces = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        chord = float(np.linalg.norm(end - start))
        number = max(1, int(np.ceil(2.0 * np.arcsin(min(chord / 2.0, 1.0)) / STEP_RAD)))
        share = (np.arange(number) / number)[:, None]
        pieces.append(start + share * (end - start))
    ring = np.concatenate([*pieces, corners[:1]])
    return ring / np.linalg.norm(ring, axis=-1, keepdims=True)
