"""Charts: boxes over a region's land, and points drawn evenly by true area within them.

A chart is the region's plane (CRS metres), or for the world longitude and sine of latitude, which keeps areas. It
draws; what is refused and when it is enough stands in collecting/darts.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from geoguesser.geo.distance import FloatArray, haversine_km
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion

BoolArray = npt.NDArray[np.bool_]

SIDES = 24  # boxes along the longer side of a region at the start
PROBES = 48  # along each side, to find where the CRS makes areas smallest
SAFETY = 0.99  # between probes the scale may be lower still, by far less than this


class Chart(ABC):
    """Boxes (west, south, east, north) and points (x, y) over the land of a region."""

    @abstractmethod
    def boxes(self) -> FloatArray:
        """(B, 4) boxes that cover the land, none over another."""

    @abstractmethod
    def to_degrees(self, xy: FloatArray) -> FloatArray:
        """(N, 2) points of the chart -> (N, 2) latitude and longitude in degrees."""

    @abstractmethod
    def on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        """(N,) whether each point lies on land."""

    @abstractmethod
    def touches(self, boxes: FloatArray) -> BoolArray:
        """(B,) whether each box may touch the land."""

    def shares(self, coords_deg: FloatArray) -> FloatArray:
        """(N,) the share of points to keep, from 0 to 1, so that what was even in the chart is even by area."""
        return np.ones(len(coords_deg))

    def reach_m(self, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(B, 2) the middles of boxes in degrees, and (B,) how far their corners lie from them, in metres.

        A box that sticks out of the projection has no such distance: it is infinite, and its middle (0, 0).
        """
        west, south, east, north = boxes.T
        corners = ((west, south), (west, north), (east, south), (east, north))
        middles_deg = self.to_degrees(np.stack(((west + east) / 2, (south + north) / 2), axis=-1))
        with np.errstate(invalid="ignore"):
            reach_km = [haversine_km(self.to_degrees(np.stack(one, axis=-1)), middles_deg) for one in corners]
        reach_m = 1010.0 * np.max(reach_km, axis=0)  # and a hundredth: edges are no great circles
        whole = np.isfinite(reach_m)
        return np.where(whole[:, None], middles_deg, 0.0), np.where(whole, reach_m, np.inf)


class PlaneChart(Chart):
    """The plane of a region, whose CRS need not keep areas: points are thinned where it enlarges them."""

    def __init__(self, region: PlaneRegion) -> None:
        self.region = region
        self._factors = pyproj.Proj(region.crs)
        west, south, east, north = region.land_m.bounds
        across, up = (axis.ravel() for axis in np.meshgrid(*np.linspace((west, south), (east, north), PROBES).T))
        probes = self._scales(region.to_degrees(np.stack((across, up), axis=-1)))
        probes = probes[np.isfinite(probes)]  # corners may lie outside of the projection
        self.equal_area = bool(probes.max() - probes.min() < 1e-6)
        self._least = SAFETY * float(probes.min())

    def _scales(self, coords_deg: FloatArray) -> FloatArray:
        scales: Any = self._factors.get_factors(coords_deg[:, 1], coords_deg[:, 0]).areal_scale
        return np.asarray(scales, dtype=np.float64)

    def boxes(self) -> FloatArray:
        west, south, east, north = self.region.land_m.bounds
        side = max(east - west, north - south) / SIDES
        columns, rows = (max(1, int(np.ceil(span / side))) for span in (east - west, north - south))
        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(columns), np.arange(rows)))
        low = np.stack((west + x * side, south + y * side), axis=-1)
        return np.concatenate((low, low + side), axis=1)

    def to_degrees(self, xy: FloatArray) -> FloatArray:
        return self.region.to_degrees(xy)

    def on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        return shapely.contains_xy(self.region.land_m, xy[:, 0], xy[:, 1])

    def touches(self, boxes: FloatArray) -> BoolArray:
        touched: Any = shapely.intersects(self.region.land_m, shapely.box(*boxes.T))
        return touched

    def shares(self, coords_deg: FloatArray) -> FloatArray:
        if self.equal_area:
            return super().shares(coords_deg)
        return np.minimum(self._least / self._scales(coords_deg), 1.0)


class WorldChart(Chart):
    """Longitude in degrees and sine of latitude: Lambert's cylindrical projection, which keeps areas."""

    def __init__(self, region: SphereRegion) -> None:
        self.region = region
        self._parts = shapely.STRtree(shapely.get_parts(region.land_deg))

    def boxes(self) -> FloatArray:
        lon, sine = np.meshgrid(np.arange(-180.0, 180.0, 5.0), np.linspace(-1.0, 1.0, 33)[:-1])
        low = np.stack((lon.ravel(), sine.ravel()), axis=-1)
        return np.concatenate((low, low + np.array((5.0, 2.0 / 32))), axis=1)

    def to_degrees(self, xy: FloatArray) -> FloatArray:
        return np.stack((np.degrees(np.arcsin(np.clip(xy[:, 1], -1.0, 1.0))), xy[:, 0]), axis=-1)

    def on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        return self.region.contains(coords_deg)

    def touches(self, boxes: FloatArray) -> BoolArray:
        west, south, east, north = boxes.T
        low, high = (np.degrees(np.arcsin(np.clip(edge, -1.0, 1.0))) for edge in (south, north))
        found: Any = self._parts.query(shapely.box(west, low, east, high), predicate="intersects")
        touched = np.zeros(len(boxes), dtype=np.bool_)
        touched[found[0]] = True
        return touched


def chart_of(region: Region) -> Chart:
    """The chart of a region."""
    if isinstance(region, PlaneRegion):
        return PlaneChart(region)
    assert isinstance(region, SphereRegion)
    return WorldChart(region)


def quartered(boxes: FloatArray) -> FloatArray:
    """(B, 4) boxes -> (4 B, 4) their quarters, those of a box in a row."""
    west, south, east, north = boxes.T
    x, y = (west + east) / 2, (south + north) / 2
    quarters = ((west, south, x, y), (x, south, east, y), (west, y, x, north), (x, y, east, north))
    return np.stack([np.stack(edges, axis=-1) for edges in quarters], axis=1).reshape(-1, 4)
