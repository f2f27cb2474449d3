"""Overlays of several rasters: their pieces are the intersections of one cell of each, as strips of boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import check_count
from geoguesser.geo.cells.square import BandCells, SquareCells, StripCells

SLIVER = 0.02  # edges of different rasters that are nearer than this share of a cell are merged


class Raster(NamedTuple):
    """Part of an overlay: boxes, and the cell (count,) of each. A cell across the date line is two boxes."""

    strips: StripCells
    cell: IntArray


def make_square_raster(cells: SquareCells, phase: float = 0.0) -> Raster:
    """Makes a raster of squares, moved north-east by a share of a side."""
    # A moved raster starts one cell earlier, so that it still covers the land.
    extra = int(phase > 0)
    corner = np.array((cells.west_m, cells.south_m)) + (phase - extra) * cells.side_m
    columns = corner[0] + cells.side_m * np.arange(cells.columns + extra + 1)
    rows = corner[1] + cells.side_m * np.arange(cells.rows + extra + 1)

    strips = StripCells.from_edges(False, rows, [columns] * (cells.rows + extra))
    return Raster(strips, np.arange(strips.count))


def make_band_raster(cells: BandCells, phase: float = 0.0) -> Raster:
    """Makes a raster of bands, moved north by a share of their height and east by that share of a cell's width.

    Moved bands have as many cells as keep the area of a cell, within rounding.
    """
    sines = cells.band_edges
    if phase > 0:
        # Latitudes are moved evenly. What the first band leaves free at the south pole becomes a band of its own.
        latitudes = np.arcsin(sines)
        moved = np.sin(latitudes[:-1] + phase * np.diff(latitudes))
        sines = np.concatenate(([-1.0], moved, [1.0]))

        # A band has the share diff(sin) / 2 of the sphere's area, and of its cells.
        per_band = np.maximum(np.round(cells.count * np.diff(sines) / 2.0), 1).astype(np.int64)
    else:
        per_band = np.asarray(cells.cells_per_band)

    edges, owners, first = [], [], 0
    for number in per_band:
        shifted = -180.0 + 360.0 * (np.arange(number) + phase) / number
        if number == 1:
            # One cell goes round the pole and has no edge.
            edges.append(np.array((-180.0, 180.0)))
            owners.append(np.array([first]))
        elif phase > 0:
            # The last cell crosses the date line: its boxes are the first and the last of the row.
            edges.append(np.concatenate(([-180.0], shifted, [180.0])))
            owners.append(first + np.array([number - 1, *range(number)]))
        else:
            edges.append(np.append(shifted, 180.0))
            owners.append(first + np.arange(number))
        first += int(number)

    return Raster(StripCells.from_edges(True, sines, edges), np.concatenate(owners))


def overlay(rasters: list[Raster]) -> StripCells:
    """Makes the pieces of several rasters within their common area.

    Edges of two rasters that almost meet are merged into the lower one, so that no piece is a sliver. Too many
    pieces raise ConfigError.
    """
    parts = [raster.strips for raster in rasters]
    sphere = parts[0].sphere

    # Rows of the overlay, and the row of each raster that contains them.
    rows = _merge_edges([part.rows for part in parts])
    middles = (rows[:-1] + rows[1:]) / 2
    source_rows = [np.searchsorted(part.rows, middles, side="right") - 1 for part in parts]

    widest = max(int(part.per_row.max()) for part in parts)
    check_count(len(middles) * widest, min(part.side_km for part in parts))

    # Boxes of each row.
    edges = [
        _merge_edges([part.row_edges(row) for part, row in zip(parts, sources, strict=True)])
        for sources in np.array(source_rows).T
    ]

    # The cell of each raster that a piece belongs to is the one at the piece's centre.
    pieces = StripCells.from_edges(sphere, rows, edges)
    west, south, east, north = pieces.boxes(np.arange(pieces.count)).T
    centres = np.stack(((west + east) / 2, (south + north) / 2), axis=-1)
    owners = [raster.cell[raster.strips.locate_chart(centres)] for raster in rasters]

    return StripCells.from_edges(sphere, rows, edges, np.stack(owners, axis=-1))


def _merge_edges(edges: list[FloatArray]) -> FloatArray:
    """Merges ascending edges of several rasters within their common range; of near ones the first stays."""
    low, high = max(part[0] for part in edges), min(part[-1] for part in edges)
    tolerance = SLIVER * min(float(np.diff(part).min()) for part in edges)

    # Both ends stay, whatever is near them.
    merged = np.sort(np.concatenate(edges))
    inner = merged[(merged > low + tolerance) & (merged < high - tolerance)]
    is_apart = np.diff(inner, prepend=-np.inf) > tolerance
    return np.concatenate(([low], inner[is_apart], [high]))
