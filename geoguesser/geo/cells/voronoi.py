"""Voronoi cells (all points nearer to one centre than to any other), and k-means to find the centres."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, QhullError, SphericalVoronoi, Voronoi, cKDTree

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import Cells, draw_box_rings, make_adjacency
from geoguesser.geo.distance import EARTH_RADIUS_KM, chord_to_km
from geoguesser.geo.region import PlaneRegion, Region

NEAR_KM = 0.01  # k-means takes places nearer than this to each other for one
KMEANS_ITERATIONS = 50
BOX_MARGIN = 0.05  # of the box in which cells of the plane are drawn and measured, as a share of its longer side
OUTLINE_STEP_RAD = 0.02  # distance of points of an outline on the sphere: 130 km
MERIDIAN_POINTS = 181  # of a lune's edge, from pole to pole: one per degree


class VoronoiCells(Cells):
    """Voronoi cells of centres, by distance in the plane or on the sphere. Every point lies in one cell.

    Args:
        centres: (K, 2) CRS metres or (K, 3) unit vectors, no two the same.
        box_m: West, south, east and north edge of the box in which cells of the plane are drawn and measured, with
            all centres well inside; empty on the sphere.
    """

    kind = "voronoi"

    def __init__(self, centres: FloatArray, box_m: list[float]) -> None:
        self._points = np.asarray(centres, dtype=np.float64)
        self.box_m = [float(value) for value in box_m]
        self.count = len(self._points)
        self._tree = cKDTree(self._points)
        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def over(cls, region: Region, coords_deg: FloatArray, *, size: int, seed: int) -> VoronoiCells:
        """Makes the cells by k-means over places; fewer than `size` if fewer places are distinct."""
        # Sorted and counted, so that the order of the places does not matter.
        places, counts = np.unique(coords_deg, axis=0, return_counts=True)
        points = region.to_space(places)

        # In metres of the plane, or in chords of the unit sphere.
        units_per_km = 1000.0 if isinstance(region, PlaneRegion) else 1.0 / EARTH_RADIUS_KM
        centres = kmeans(points, counts, size, np.random.default_rng(seed), near=NEAR_KM * units_per_km)
        if not isinstance(region, PlaneRegion):
            return cls(centres, [])

        # Centres may lie outside the land's bounding box: the places decide.
        corners = np.concatenate((np.reshape(region.land_m.bounds, (2, 2)), centres))
        low, high = corners.min(axis=0), corners.max(axis=0)
        margin = BOX_MARGIN * (high - low).max() + 1.0
        return cls(centres, [*(low - margin), *(high + margin)])

    def locate(self, points: FloatArray) -> IntArray:
        return np.asarray(self._tree.query(points)[1], dtype=np.int64)

    def centres(self, ids: IntArray) -> FloatArray:
        return self._points[ids]

    def outlines(self, ids: IntArray) -> list[FloatArray]:
        rings = self._shapes[0]
        return [rings[k] for k in ids]

    def touching(self, region: Region) -> IntArray:
        """Returns all cells: each was made from places in it."""
        return np.arange(self.count, dtype=np.int64)

    def sides_km(self, ids: IntArray) -> FloatArray:
        """Returns square roots of the areas within the box, at most twice the distance to the nearest centre.

        The bound is for cells at the rim, which have no end of their own in the plane, and which on the sphere
        extend across an ocean.
        """
        areas_km2 = self._shapes[1]
        sides = np.sqrt(areas_km2[ids])
        if self.count == 1:
            return sides

        # The nearest centre is the cell's own, the second the nearest other.
        distances = np.asarray(self._tree.query(self._points[ids], k=[2])[0])[:, 0]
        nearest_km = distances / 1000.0 if self.box_m else chord_to_km(distances)
        return np.minimum(sides, 2.0 * nearest_km)

    def neighbours(self, ids: IntArray) -> csr_array[Any, tuple[int, int]]:
        """Returns Delaunay neighbours, in the plane only those with a common edge within the box."""
        pairs = self._shapes[2]
        return make_adjacency(pairs, self.count)[ids][:, ids]

    @cached_property
    def _shapes(self) -> tuple[list[FloatArray], FloatArray, IntArray]:
        """Closed rings in the region's space, areas in square km, and (2, P) pairs of neighbours."""
        if self.box_m:
            return _make_cells_in_box(self._points, np.array(self.box_m))

        # Centres on one circle have no convex hull with a volume.
        if np.linalg.matrix_rank(self._points - self._points.mean(axis=0), tol=1e-9) < 3:
            return _make_lunes(self._points)

        try:
            return _make_cells_on_sphere(self._points)
        except (QhullError, ValueError):
            # All centres lie within metres of one circle: too flat for a hull.
            return _make_lunes(self._points)

    def state(self) -> dict[str, Any]:
        return {"kind": "voronoi", "centres": self._points, "box_m": self.box_m}


def kmeans(
    points: FloatArray, counts: IntArray, size: int, random: np.random.Generator, *, near: float
) -> FloatArray:
    """Finds centres with a small sum of squared distances to places, by scipy's k-means with a k-means++ start.

    Args:
        points: (N, d) distinct places; unit vectors if d is 3, and then the centres are as well.
        counts: (N,) number of times that each place occurs.
        size: Maximum number of centres; each is the nearest centre of at least one place.
        random: Generator for the start.
        near: Distance below which places count as one.

    Source: Arthur and Vassilvitskii, k-means++ (SODA 2007).
    """
    points, counts = _merge_near(points, counts, near)
    if len(points) <= size:
        return points

    # A cluster may lose all its places to others. It keeps its centre then, and is removed below.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        repeated = np.repeat(points, counts, axis=0)
        centres, _ = kmeans2(repeated, size, iter=KMEANS_ITERATIONS, minit="++", seed=random)

    # The mean of unit vectors lies below the sphere.
    if points.shape[1] == 3:
        centres = centres / np.linalg.norm(centres, axis=-1, keepdims=True)

    return centres[np.unique(cKDTree(centres).query(points)[1])]


def _merge_near(points: FloatArray, counts: IntArray, near: float) -> tuple[FloatArray, IntArray]:
    """Merges places into the first one nearer than `near`, so that the rest are apart by at least as much."""
    # Pairs in order of their first place: it is known then whether that one is kept.
    pairs = cKDTree(points).query_pairs(near, output_type="ndarray")
    kept_by = np.arange(len(points))
    for first, second in pairs[np.lexsort(pairs.T[::-1])]:
        if kept_by[first] == first and kept_by[second] == second:
            kept_by[second] = first

    kept, index = np.unique(kept_by, return_inverse=True)
    return points[kept], np.bincount(index, weights=counts).astype(np.int64)


def _make_cells_in_box(centres: FloatArray, box: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """Makes the cells of the plane, cut off at a box.

    Every centre is mirrored in the box's four sides. An edge between a centre and its mirror image lies on the
    side, so the cells of the centres themselves end there.
    """
    low, high = box[:2], box[2:]
    origin, count = (low + high) / 2, len(centres)
    inner = centres - origin

    images = [inner]
    for axis in (0, 1):
        for side in (low, high):
            image = inner.copy()
            image[:, axis] = 2 * (side - origin)[axis] - image[:, axis]
            images.append(image)

    diagram = Voronoi(np.concatenate(images))

    rings, areas_km2 = [], np.zeros(count)
    for k in range(count):
        # A cell is convex, so its corners are in order by their direction from the centre.
        corners = diagram.vertices[diagram.regions[diagram.point_region[k]]]
        direction = corners - inner[k]
        corners = corners[np.argsort(np.arctan2(direction[:, 1], direction[:, 0]))]

        # The shoelace formula: half the sum of the cross products of successive corners; from square metres to km.
        following = np.roll(corners, -1, axis=0)
        areas_km2[k] = np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]) / 2e6
        rings.append(np.concatenate((corners, corners[:1])) + origin)

    # Ridges with an image are parts of the box's sides.
    pairs = diagram.ridge_points
    return rings, areas_km2, pairs[(pairs < count).all(axis=1)].T.astype(np.int64)


def _make_cells_on_sphere(centres: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """Makes the cells of centres whose convex hull has a volume."""
    diagram: Any = SphericalVoronoi(centres, threshold=1e-12)
    diagram.sort_vertices_of_regions()
    rings = [_draw_great_circles(diagram.vertices[region]) for region in diagram.regions]

    # The faces of the convex hull are the Delaunay triangles.
    triangles = ConvexHull(centres).simplices
    pairs = np.concatenate((triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]))
    return rings, diagram.calculate_areas() * EARTH_RADIUS_KM**2, pairs.T.astype(np.int64)


def _make_lunes(centres: FloatArray) -> tuple[list[FloatArray], FloatArray, IntArray]:
    """Makes the cells of centres on one circle, or of fewer than four: lunes between the poles of the circle."""
    count = len(centres)

    # The complete sphere, cut open at the date line.
    if count == 1:
        rings = list(draw_box_rings(*(np.array([value]) for value in (-90.0, 90.0, -180.0, 180.0))))
        return rings, np.array([4.0 * np.pi * EARTH_RADIUS_KM**2]), np.zeros((2, 0), dtype=np.int64)

    # Axes: the pole is normal to the circle's plane, the others span the plane.
    pole = np.linalg.svd(centres - centres.mean(axis=0))[2][-1]
    x_axis = np.linalg.svd(pole[None])[2][1]
    y_axis = np.cross(pole, x_axis)

    # A lune reaches half the way to the next centre on each side.
    angles = np.arctan2(centres @ y_axis, centres @ x_axis)
    order = np.argsort(angles)
    half_gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi) / 2
    rise = np.linspace(-np.pi / 2, np.pi / 2, MERIDIAN_POINTS)

    def draw_meridian(angle: float) -> FloatArray:
        equator = np.cos(angle) * x_axis + np.sin(angle) * y_axis
        return np.cos(rise)[:, None] * equator + np.sin(rise)[:, None] * pole

    rings, widths = [np.zeros((0, 3))] * count, np.zeros(count)
    for position, k in enumerate(order):
        before, after = angles[k] - half_gaps[position - 1], angles[k] + half_gaps[position]
        rings[k] = np.concatenate((draw_meridian(after), draw_meridian(before)[::-1], draw_meridian(after)[:1]))
        widths[k] = after - before

    # All lunes meet at both poles. The area of a lune of a unit sphere is twice its width.
    pairs = np.stack(np.meshgrid(np.arange(count), np.arange(count))).reshape(2, -1)
    return rings, 2.0 * widths * EARTH_RADIUS_KM**2, pairs


def _draw_great_circles(corners: FloatArray) -> FloatArray:
    """Returns a closed ring through corners (V, 3), with a point at least every OUTLINE_STEP_RAD."""
    pieces = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        chord = float(np.linalg.norm(end - start))
        angle = 2.0 * np.arcsin(min(chord / 2.0, 1.0))
        number = max(1, int(np.ceil(angle / OUTLINE_STEP_RAD)))
        share = (np.arange(number) / number)[:, None]
        pieces.append(start + share * (end - start))

    # Points of the chords, lifted to the sphere.
    ring = np.concatenate([*pieces, corners[:1]])
    return ring / np.linalg.norm(ring, axis=-1, keepdims=True)
