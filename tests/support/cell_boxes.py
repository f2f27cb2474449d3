"""Boxes of partitions, to locate points by brute force."""

from __future__ import annotations

import numpy as np

from geoguesser.geo.cells.base import Cells


def list_ids(cells: Cells) -> np.ndarray:
    return np.arange(cells.count)


def find_covering(boxes: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Returns a mask (N, count) of the boxes that contain each point, western and southern edges included.

    The north pole, 1 in the chart of the sphere, belongs to the boxes that end there.
    """
    x, y = chart[:, :1], chart[:, 1:]
    west, south, east, north = boxes.T
    return (west <= x) & (x < east) & (south <= y) & ((y < north) | ((north == 1.0) & (y == 1.0)))
