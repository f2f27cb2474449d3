"""Several rasters laid over each other: their pieces, the intersections of one cell of each.

In the plane an overlay of rasters is a raster with uneven edges, on the sphere rows of boxes; both
are strips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import BoxCells, check_count

if TYPE_CHECKING:
    from geoguesser.geo.cells.square import BandCells, SquareCells

SLIVER = 0.02  # edges of different rasters nearer than this share of a cell become one


class StripCells(BoxCells):
    """Boxes in rows of one height each; every row is cut from west to east at edges of its own.

    Args:
        sphere: Whether the chart is that of the sphere.
        rows: (R + 1,) ascending edges of the rows in the chart, from south to north.
        per_row: (R,) how many boxes each row holds.
        west: (count,) the western edges of the boxes, row by row.
        east: The eastern edge of all rows.
        owners: (count, G) the cell of each of G rasters that holds the box; G is 0 for a single raster.
    """

    def __init__(
        self,
        *,
        sphere: bool,
        rows: FloatArray,
        per_row: IntArray,
        west: FloatArray,
        east: float,
        owners: IntArray,
    ) -> None:
        self.sphere, self.east = sphere, float(east)
        self.rows, self.west = np.asarray(rows, dtype=np.float64), np.asarray(west, dtype=np.float64)
        self.per_row, self.owners = np.asarray(per_row, dtype=np.int64), np.asarray(owners, dtype=np.int64)
        self.count = len(self.west)
        self._first = np.cumsum(self.per_row) - self.per_row
        self._row_of = np.repeat(np.arange(len(self.per_row)), self.per_row)
        self._keys = self._row_of + self._share(self.west)
        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def of(
        cls, sphere: bool, rows: FloatArray, edges: list[FloatArray], owners: IntArray | None = None
    ) -> StripCells:
        """From the rows' edges, and the ascending edges of the boxes of each row, first and last included."""
        west = np.concatenate([one[:-1] for one in edges])
        per_row = np.array([len(one) - 1 for one in edges])
        none = np.zeros((len(west), 0), dtype=np.int64)
        owners = none if owners is None else owners
        return cls(sphere=sphere, rows=rows, per_row=per_row, west=west, east=edges[0][-1], owners=owners)

    def _share(self, x: FloatArray) -> FloatArray:
        """How far east of the western edge, as a share of the whole width: from 0 to below 1."""
        return (x - self.west[0]) / (self.east - self.west[0])

    def row_edges(self, row: int) -> FloatArray:
        """The edges of the boxes of a row, ascending, both ends included."""
        first = self._first[row]
        return np.append(self.west[first : first + self.per_row[row]], self.east)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        x, y = chart.T
        row = np.searchsorted(self.rows, y, side="right") - 1
        if self.sphere:
            row = np.clip(row, 0, len(self.per_row) - 1)
        inside = (row >= 0) & (row < len(self.per_row)) & (x >= self.west[0]) & (x < self.east)
        row = np.clip(row, 0, len(self.per_row) - 1)
        # One search in all rows: the row's number, and after the point how far east it lies.
        found = np.searchsorted(self._keys, row + self._share(x), side="right") - 1
        found = np.clip(found, self._first[row], self._first[row] + self.per_row[row] - 1)
        found[~inside] = -1
        return found

    def boxes(self, ids: IntArray) -> FloatArray:
        row = self._row_of[ids]
        last = ids == self._first[row] + self.per_row[row] - 1
        east = np.where(last, self.east, np.append(self.west, self.east)[ids + 1])
        return np.stack((self.west[ids], self.rows[row], east, self.rows[row + 1]), axis=-1)

    def parents(self, ids: IntArray) -> IntArray | None:
        return self.owners[ids] if self.owners.shape[1] else None

    def state(self) -> dict[str, Any]:
        names = ("sphere", "rows", "per_row", "west", "east", "owners")
        return {"kind": "strips", **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class Raster:
    """One part of an overlay.

    Attributes:
        strips: Its boxes.
        cell: (count,) the cell of each box: a cell over the date line is two boxes.
    """

    strips: StripCells
    cell: IntArray


def square_raster(cells: SquareCells, phase: float = 0.0) -> Raster:
    """A raster of squares, moved north-east by a share of a side, and one cell wider where it was moved."""
    more = int(phase > 0)
    low = np.array((cells.west_m, cells.south_m)) + (phase - more) * cells.side_m
    columns = low[0] + cells.side_m * np.arange(cells.columns + more + 1)
    rows = low[1] + cells.side_m * np.arange(cells.rows + more + 1)
    strips = StripCells.of(False, rows, [columns] * (cells.rows + more))
    return Raster(strips, np.arange(strips.count))


def band_raster(cells: BandCells, phase: float = 0.0) -> Raster:
    """Bands of the sphere, moved by a share of their height north and of a cell's width east.

    Moved bands hold as many cells as keep the area of a cell, within rounding.
    """
    sines = cells.band_edges
    if phase > 0:
        latitudes = np.arcsin(sines)
        moved = np.sin(latitudes[:-1] + phase * np.diff(latitudes))
        sines = np.concatenate(([-1.0], moved, [1.0]))
        per_band = np.maximum(np.round(cells.count * np.diff(sines) / 2.0), 1).astype(np.int64)
    else:
        per_band = np.asarray(cells.cells_per_band)
    edges, owners, first = [], [], 0
    for number in per_band:
        shifted = -180.0 + 360.0 * (np.arange(number) + phase) / number
        if number == 1:  # all round: no edge
            edges.append(np.array((-180.0, 180.0)))
            owners.append(np.array([first]))
        elif phase > 0:
            edges.append(np.concatenate(([-180.0], shifted, [180.0])))
            owners.append(first + np.array([number - 1, *range(number)]))
        else:
            edges.append(np.append(shifted, 180.0))
            owners.append(first + np.arange(number))
        first += int(number)
    return Raster(StripCells.of(True, sines, edges), np.concatenate(owners))


def overlay(rasters: list[Raster]) -> StripCells:
    """The pieces of several rasters where all of them have cells, each with its cell in every raster.

    Edges of two rasters that almost meet become one, the lower of them: no piece is a sliver.

    Raises:
        ConfigError: There would be too many pieces.
    """
    parts = [raster.strips for raster in rasters]
    sphere = parts[0].sphere
    rows = _merged([part.rows for part in parts])
    middles = (rows[:-1] + rows[1:]) / 2
    row_of = [np.searchsorted(part.rows, middles, side="right") - 1 for part in parts]
    widest = max(int(part.per_row.max()) for part in parts)
    check_count(len(middles) * widest, min(part.side_km for part in parts))
    edges = [
        _merged([part.row_edges(row) for part, row in zip(parts, of, strict=True)]) for of in np.array(row_of).T
    ]
    plain = StripCells.of(sphere, rows, edges)
    west, south, east, north = plain.boxes(np.arange(plain.count)).T
    centres = np.stack(((west + east) / 2, (south + north) / 2), axis=-1)
    owners = [raster.cell[raster.strips.locate_chart(centres)] for raster in rasters]
    return StripCells.of(sphere, rows, edges, np.stack(owners, axis=-1))


def _merged(edges: list[FloatArray]) -> FloatArray:
    """Ascending edges of all, within the range that they share; of near ones the first, but both ends stay."""
    low, high = max(one[0] for one in edges), min(one[-1] for one in edges)
    tolerance = SLIVER * min(float(np.diff(one).min()) for one in edges)
    every = np.sort(np.concatenate(edges))
    inner = every[(every > low + tolerance) & (every < high - tolerance)]
    apart = np.diff(inner, prepend=-np.inf) > tolerance
    return np.concatenate(([low], inner[apart], [high]))
