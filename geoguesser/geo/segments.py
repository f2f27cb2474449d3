"""Segments of boundaries: taken from rings, cut, and the nearest point on each. Plain arrays of any dimension."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import MultiPolygon

from geoguesser.arrays import FloatArray


def ring_segments(land: MultiPolygon) -> tuple[FloatArray, FloatArray]:
    """(M, 2) starts and (M, 2) ends of all boundary segments."""
    rings = shapely.get_rings(shapely.get_parts(land))
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    inner = ring[1:] == ring[:-1]
    return coords[:-1][inner], coords[1:][inner]


def cut_segments(starts: FloatArray, ends: FloatArray, *, longest: float) -> tuple[FloatArray, FloatArray]:
    """Cuts segments into equal pieces no longer than `longest` (shapely.segmentize takes 17 s for the world)."""
    pieces = np.maximum(np.ceil(np.linalg.norm(ends - starts, axis=-1) / longest).astype(np.int64), 1)
    segment = np.repeat(np.arange(len(starts)), pieces)
    piece = np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    step = ((ends - starts) / pieces[:, None])[segment]
    return starts[segment] + step * piece[:, None], starts[segment] + step * (piece + 1)[:, None]


def nearest_on_segments(points: FloatArray, starts: FloatArray, ends: FloatArray) -> FloatArray:
    """(..., d) the point of each segment that is nearest to its own point."""
    along = ends - starts
    squared = np.maximum(np.sum(along * along, axis=-1), 1e-300)
    share = np.clip(np.sum((points - starts) * along, axis=-1) / squared, 0.0, 1.0)
    return starts + share[..., None] * along
