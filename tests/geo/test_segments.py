"""Segments of boundaries, against shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon

from geoguesser.geo.boundaries import extract_ring_segments, find_nearest_on_segments

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


def test_a_segment_of_no_length_is_a_point() -> None:
    nearest = find_nearest_on_segments(np.array([[3.0, 4.0]]), np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]]))
    np.testing.assert_array_equal(nearest, [[1.0, 1.0]])
