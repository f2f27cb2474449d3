"""Partitions into boxes: strips in general, true squares in the plane, equal areas on the sphere."""

from __future__ import annotations

import numpy as np
import shapely

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.geo.cells.base import MAX_CELLS, BoxCells, check_count
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit
from geoguesser.geo.region import PlaneRegion, Region


class StripCells(BoxCells):
    """Boxes in rows; each row has one height and is cut from west to east at edges of its own.

    Args:
        sphere: Whether the chart is that of the sphere.
        rows: (R + 1,) ascending edges of the rows in the chart, from south to north.
        per_row: (R,) number of boxes in each row.
        west: (count,) western edges of the boxes, row by row.
        east: Eastern edge of all rows.
        owners: (count, G) the cell of each of G rasters that contains the box; G is 0 for a single raster.
    """

    kind = "strips"
    arguments = ("sphere", "rows", "per_row", "west", "east", "owners")

    def __init__(
        self, *, sphere: bool, rows: FloatArray, per_row: IntArray, west: FloatArray, east: float, owners: IntArray
    ) -> None:
        self.sphere, self.east = sphere, float(east)
        self.rows, self.west = np.asarray(rows, dtype=np.float64), np.asarray(west, dtype=np.float64)
        self.per_row, self.owners = np.asarray(per_row, dtype=np.int64), np.asarray(owners, dtype=np.int64)
        self.count = len(self.west)
        if self.per_row.min() < 1 or self.per_row.sum() != self.count:
            raise ValueError("per_row must count the boxes of west")

        # The first box of each row, the row of each box, and the key by which `locate_chart` searches.
        self._first = np.cumsum(self.per_row) - self.per_row
        self._box_rows = np.repeat(np.arange(len(self.per_row)), self.per_row)
        self._keys = self._box_rows + self._to_share(self.west)

        self.side_km = float(np.median(self.sides_km(np.arange(self.count))))

    @classmethod
    def from_edges(
        cls, sphere: bool, rows: FloatArray, edges: list[FloatArray], owners: IntArray | None = None
    ) -> StripCells:
        """Makes the boxes from the rows' edges and, per row, the ascending edges of its boxes."""
        west = np.concatenate([row_edges[:-1] for row_edges in edges])
        per_row = np.array([len(row_edges) - 1 for row_edges in edges])
        if owners is None:
            owners = np.zeros((len(west), 0), dtype=np.int64)

        return cls(sphere=sphere, rows=rows, per_row=per_row, west=west, east=edges[0][-1], owners=owners)

    def _to_share(self, x: FloatArray) -> FloatArray:
        """Returns distances from the western edge as shares of the total width, from 0 to below 1."""
        return (x - self.west[0]) / (self.east - self.west[0])

    def row_edges(self, row: int) -> FloatArray:
        """Returns the edges of the boxes of a row, ascending, with both ends."""
        first = self._first[row]
        return np.append(self.west[first : first + self.per_row[row]], self.east)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        x, y = chart.T

        # On the sphere the north pole, which is on an edge, belongs to the last row.
        row = np.searchsorted(self.rows, y, side="right") - 1
        if self.sphere:
            row = np.clip(row, 0, len(self.per_row) - 1)

        inside = (row >= 0) & (row < len(self.per_row)) & (x >= self.west[0]) & (x < self.east)
        row = np.clip(row, 0, len(self.per_row) - 1)

        # One search serves all rows: a key is the row's number before the point and the share of its width after.
        ids = np.searchsorted(self._keys, row + self._to_share(x), side="right") - 1
        ids = np.clip(ids, self._first[row], self._first[row] + self.per_row[row] - 1)
        ids[~inside] = -1
        return ids

    def boxes(self, ids: IntArray) -> FloatArray:
        row = self._box_rows[ids]

        # A box ends where the next begins, the last of a row at the common eastern edge.
        is_last = ids == self._first[row] + self.per_row[row] - 1
        east = np.where(is_last, self.east, np.append(self.west, self.east)[ids + 1])

        return np.stack((self.west[ids], self.rows[row], east, self.rows[row + 1]), axis=-1)

    def parents(self, ids: IntArray) -> IntArray | None:
        return self.owners[ids] if self.owners.shape[1] else None


class SquareCells(BoxCells):
    """True squares in the CRS's metres, numbered row by row from the south-western corner of the raster.

    A square includes its western and southern edges, so that a point on a common edge lies in exactly one square.
    """

    kind = "square"
    arguments = ("west_m", "south_m", "side_m", "columns", "rows")
    sphere = False

    def __init__(self, west_m: float, south_m: float, side_m: float, columns: int, rows: int) -> None:
        self.west_m, self.south_m, self.side_m = float(west_m), float(south_m), float(side_m)
        self.columns, self.rows = columns, rows
        self.side_km = side_m / 1000.0
        self.count = columns * rows

    @classmethod
    def over(cls, region: PlaneRegion, side_km: float, phase: tuple[float, float] = (0.0, 0.0)) -> SquareCells:
        """Makes squares of one side, centred on the bounding box of the land, then moved by a phase.

        The phase is the shift to the east and to the north in sides, from 0 to 1.
        """
        side = side_km * 1000.0
        west, south, east, north = region.land_m.bounds
        columns, rows = (max(1, int(np.ceil(span / side))) for span in (east - west, north - south))
        west_m, south_m = (west + east - columns * side) / 2, (south + north - rows * side) / 2

        # A moved raster needs one more column or row to cover the land.
        if phase[0]:
            west_m, columns = west_m + (phase[0] - 1.0) * side, columns + 1
        if phase[1]:
            south_m, rows = south_m + (phase[1] - 1.0) * side, rows + 1

        check_count(columns * rows, side_km)
        return cls(west_m, south_m, side, columns, rows)

    def locate_chart(self, chart: FloatArray) -> IntArray:
        column = np.floor((chart[:, 0] - self.west_m) * (1.0 / self.side_m)).astype(np.int64)
        row = np.floor((chart[:, 1] - self.south_m) * (1.0 / self.side_m)).astype(np.int64)

        ids = row * self.columns + column
        inside = (column >= 0) & (column < self.columns) & (row >= 0) & (row < self.rows)
        ids[~inside] = -1
        return ids

    def centres(self, ids: IntArray) -> FloatArray:
        x = self.west_m + (ids % self.columns + 0.5) * self.side_m
        y = self.south_m + (ids // self.columns + 0.5) * self.side_m
        return np.stack((x, y), axis=-1)

    def boxes(self, ids: IntArray) -> FloatArray:
        centres = self.centres(ids)
        return np.concatenate((centres - self.side_m / 2, centres + self.side_m / 2), axis=1)

    def sides_km(self, ids: IntArray) -> FloatArray:
        return np.full(len(ids), self.side_km)

    def touching(self, region: Region) -> IntArray:
        assert isinstance(region, PlaneRegion)

        # Squares far from all land are left out before the exact and slow test.
        ids = self._find_under_boxes(region.parts_bounds_m)
        return ids[shapely.intersects(region.land_m, shapely.box(*self.boxes(ids).T))]

    def _find_under_boxes(self, bounds_m: FloatArray) -> IntArray:
        """Finds the squares under (P, 4) bounding boxes of the land's parts: few if islands lie far apart."""
        corners = np.concatenate((bounds_m[:, :2], bounds_m[:, 2:]))
        column = np.floor((corners[:, 0] - self.west_m) / self.side_m).astype(np.int64)
        row = np.floor((corners[:, 1] - self.south_m) / self.side_m).astype(np.int64)
        column, row = column.clip(0, self.columns - 1), row.clip(0, self.rows - 1)

        under = np.zeros((self.rows, self.columns), dtype=bool)
        for low_column, high_column, low_row, high_row in zip(
            *np.split(column, 2), *np.split(row, 2), strict=True
        ):
            under[low_row : high_row + 1, low_column : high_column + 1] = True
        return np.flatnonzero(under.ravel())


class BandCells(BoxCells):
    """Near-square cells of exactly equal area on the sphere, in bands of latitude from the south.

    Band i has `cells_per_band[i]` cells of equal width, about as wide as the band is high. The area of the unit
    sphere south of a latitude is 2 pi (1 + sin(latitude)). If n of the `count` cells lie south of an edge, they
    have the share n / count of 4 pi, so the edge is at sin(latitude) = -1 + 2 n / count.

    Args:
        cells_per_band: Number of cells of each band.
    """

    kind = "band"
    arguments = ("cells_per_band",)
    sphere = True

    def __init__(self, cells_per_band: list[int]) -> None:
        self.cells_per_band = [int(cells) for cells in cells_per_band]
        self._first = np.cumsum([0, *self.cells_per_band])
        self.count = int(self._first[-1])
        # Sines of latitude.
        self.band_edges = np.clip(-1.0 + 2.0 * self._first / self.count, -1.0, 1.0)
        self.side_km = EARTH_RADIUS_KM * float(np.sqrt(4.0 * np.pi / self.count))

    @classmethod
    def over(cls, region: Region, side_km: float, *, max_cells: int = MAX_CELLS) -> BandCells:
        """Makes cells of about one side, at most `max_cells`. They cover the sphere, wherever the land is."""
        bands = max(1, round(np.pi * EARTH_RADIUS_KM / side_km))

        # As many cells per band as are about square at its middle.
        middles = -np.pi / 2 + (np.arange(bands) + 0.5) * np.pi / bands
        around = 2.0 * np.pi * EARTH_RADIUS_KM * np.cos(middles) / side_km
        cells = np.maximum(np.round(around), 1).astype(int)

        check_count(int(cells.sum()), side_km, max_cells)
        return cls(cells.tolist())

    def locate(self, points: FloatArray) -> IntArray:
        coords_deg = from_unit(points)
        return self.locate_chart(np.stack((coords_deg[:, 1], np.sin(np.radians(coords_deg[:, 0]))), axis=-1))

    def locate_chart(self, chart: FloatArray) -> IntArray:
        longitude, sine = chart.T

        # The north pole, which is on an edge, belongs to the last band.
        band = np.clip(np.searchsorted(self.band_edges, sine, side="right") - 1, 0, len(self.cells_per_band) - 1)

        cells = np.asarray(self.cells_per_band)[band]
        column = np.floor((longitude + 180.0) / 360.0 * cells).astype(np.int64) % cells
        return (self._first[band] + column).astype(np.int64)

    def boxes(self, ids: IntArray) -> FloatArray:
        band = np.searchsorted(self._first, ids, side="right") - 1
        width = 360.0 / np.asarray(self.cells_per_band)[band]
        west = -180.0 + (ids - self._first[band]) * width
        return np.stack((west, self.band_edges[band], west + width, self.band_edges[band + 1]), axis=-1)

    def sides_km(self, ids: IntArray) -> FloatArray:
        return np.full(len(ids), self.side_km)
