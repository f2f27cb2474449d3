"""Boxes of partitions, to locate points by brute force."""

from __future__ import annotations

import numpy as np

from geoguesser.geo.cells.base import BoxCells, Cells, to_chart


def list_ids(cells: Cells) -> np.ndarray:
    return np.arange(cells.count)


def find_covering(boxes: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Returns a mask (N, count) of the boxes that contain each point, western and southern edges included.

    The north pole, 1 in the chart of the sphere, belongs to the boxes that end there.
    """
    x, y = chart[:, :1], chart[:, 1:]
    west, south, east, north = boxes.T
    return (west <= x) & (x < east) & (south <= y) & ((y < north) | ((north == 1.0) & (y == 1.0)))


def check_tiling(cells: BoxCells, points: np.ndarray) -> np.ndarray:
    """Checks that each point lies in one box and is located there, and returns the areas (count,) in the chart."""
    boxes = cells.boxes(list_ids(cells))
    covers = find_covering(boxes, to_chart(points) if cells.sphere else points)
    assert (covers.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(cells.locate(points), covers.argmax(axis=1))
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
