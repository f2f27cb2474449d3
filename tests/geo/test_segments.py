"""Segments of boundaries, against shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon

from geoguesser.geo.boundaries import cut_segments, extract_ring_segments, find_nearest_on_segments

LAND = MultiPolygon(
    [
        Polygon([(0, 0), (10, 0), (10, 8), (0, 8)], holes=[[(2, 2), (4, 2), (4, 5)]]),
        Polygon([(20, 0), (23, 0), (20, 4)]),
    ]
)


def test_segments_do_not_connect_rings() -> None:
    starts, ends = extract_ring_segments(LAND)
    assert len(starts) == 4 + 3 + 3
    assert np.linalg.norm(ends - starts, axis=1).sum() == pytest.approx(LAND.boundary.length)
    united = shapely.union_all(shapely.linestrings(np.stack((starts, ends), axis=1)))
    assert united.equals(LAND.boundary)


@pytest.mark.parametrize("longest", [0.3, 1.0, 7.0, 100.0])
def test_cut_segments_are_short_and_cover_the_same(longest: float) -> None:
    starts, ends = cut_segments(*extract_ring_segments(LAND), longest=longest)
    lengths = np.linalg.norm(ends - starts, axis=1)
    assert lengths.max() <= longest * (1 + 1e-9)
    assert lengths.sum() == pytest.approx(LAND.boundary.length)
    vertices = shapely.get_coordinates(shapely.segmentize(LAND.boundary, longest))
    for vertex in vertices:  # shapely cuts into equal pieces too
        assert np.linalg.norm(starts - vertex, axis=1).min() < 1e-9


def test_nearest_points_are_shapelys() -> None:
    random = np.random.default_rng(0)
    points = random.uniform(-5, 30, (200, 2))
    starts, ends = (part[random.integers(10, size=200)] for part in extract_ring_segments(LAND))
    nearest = find_nearest_on_segments(points, starts, ends)
    lines = shapely.linestrings(np.stack((starts, ends), axis=1))
    expected = shapely.get_coordinates(shapely.shortest_line(lines, shapely.points(points)))[::2]
    np.testing.assert_allclose(nearest, expected, atol=1e-9)


def test_a_segment_of_no_length_is_a_point() -> None:
    nearest = find_nearest_on_segments(np.array([[3.0, 4.0]]), np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]]))
    np.testing.assert_array_equal(nearest, [[1.0, 1.0]])
