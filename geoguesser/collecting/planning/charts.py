"""Planar charts of a region, from which points are drawn uniformly by true area.

A chart is the plane of a region's CRS in metres, or for the world the plane of longitude and sine of latitude. It
covers the land by boxes. Random points in these boxes, thinned where the chart is not equal-area, are uniform on
the land. `poisson_disk` rejects points and decides when sampling ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyproj
import shapely

from geoguesser.arrays import BoolArray, FloatArray
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import PlaneRegion, Region

# Boxes along the longer side of a region, before any box is split.
BOXES_PER_SIDE = 24

# Points along each side of a region at which the areal scale of the CRS is measured.
PROBES_PER_SIDE = 48

# The smallest areal scale may lie between two probes. It is assumed to be lower than the probes' by one percent,
# which is far more than the scale varies over that distance.
SCALE_MARGIN = 0.99

# Factor of the measured distance from a box's middle to its corners. Edges of a box are not great circles, so a
# point on an edge can be slightly farther away than the corners.
RADIUS_MARGIN = 1.01


class Chart(ABC):
    """Planar chart of a region: boxes (west, south, east, north) and points (x, y) over its land."""

    @abstractmethod
    def make_boxes(self) -> FloatArray:
        """Returns (B, 4) disjoint boxes that cover the land."""

    @abstractmethod
    def to_degrees(self, xy: FloatArray) -> FloatArray:
        """Converts (N, 2) points of the chart to (N, 2) latitude and longitude in degrees."""

    @abstractmethod
    def is_on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        """Returns (N,) flags of the points on land, given in the chart and in degrees."""

    @abstractmethod
    def touch_land(self, boxes: FloatArray) -> BoolArray:
        """Returns (B,) flags of the boxes that may touch the land."""

    def compute_acceptance(self, coords_deg: FloatArray) -> FloatArray:
        """Computes (N,) probabilities with which points must be kept to make them uniform by area."""
        return np.ones(len(coords_deg))

    def compute_circles(self, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Computes circles on the sphere that enclose (B, 4) boxes: centres (B, 2) in degrees, radii (B,) in m.

        A box that extends beyond the projection has the centre (0, 0) and an infinite radius.
        """
        west, south, east, north = boxes.T
        corners = ((west, south), (west, north), (east, south), (east, north))
        centres_deg = self.to_degrees(np.stack(((west + east) / 2, (south + north) / 2), axis=-1))

        with np.errstate(invalid="ignore"):
            distances_km = [
                haversine_km(self.to_degrees(np.stack(corner, axis=-1)), centres_deg) for corner in corners
            ]
        radii_m = 1000.0 * RADIUS_MARGIN * np.max(distances_km, axis=0)

        is_finite = np.isfinite(radii_m)
        return np.where(is_finite[:, None], centres_deg, 0.0), np.where(is_finite, radii_m, np.inf)


class PlaneChart(Chart):
    """Chart in the plane of a region's CRS.

    The CRS need not be equal-area. Where its areal scale is s, an area a on the ground is s * a in the plane, so
    uniform points of the plane have a density on the ground that is proportional to s. Keeping each point with
    probability min(s) / s makes the density constant.
    """

    def __init__(self, region: PlaneRegion) -> None:
        self.region = region
        self._projection = pyproj.Proj(region.crs)

        west, south, east, north = region.land_m.bounds
        axes = np.linspace((west, south), (east, north), PROBES_PER_SIDE).T
        x, y = (axis.ravel() for axis in np.meshgrid(*axes))
        scales = self._compute_scales(region.to_degrees(np.stack((x, y), axis=-1)))
        # Corners of the bounding box may lie outside the projection.
        scales = scales[np.isfinite(scales)]

        self.is_equal_area = bool(scales.max() - scales.min() < 1e-6)
        self._min_scale = SCALE_MARGIN * float(scales.min())

    def _compute_scales(self, coords_deg: FloatArray) -> FloatArray:
        scales: Any = self._projection.get_factors(coords_deg[:, 1], coords_deg[:, 0]).areal_scale
        return np.asarray(scales, dtype=np.float64)

    def make_boxes(self) -> FloatArray:
        west, south, east, north = self.region.land_m.bounds
        side = max(east - west, north - south) / BOXES_PER_SIDE
        columns, rows = (max(1, int(np.ceil(span / side))) for span in (east - west, north - south))

        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(columns), np.arange(rows)))
        low = np.stack((west + x * side, south + y * side), axis=-1)
        return np.concatenate((low, low + side), axis=1)

    def to_degrees(self, xy: FloatArray) -> FloatArray:
        return self.region.to_degrees(xy)

    def is_on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        return shapely.contains_xy(self.region.land_m, xy[:, 0], xy[:, 1])

    def touch_land(self, boxes: FloatArray) -> BoolArray:
        return np.asarray(shapely.intersects(self.region.land_m, shapely.box(*boxes.T)))

    def compute_acceptance(self, coords_deg: FloatArray) -> FloatArray:
        if self.is_equal_area:
            return super().compute_acceptance(coords_deg)
        return np.minimum(self._min_scale / self._compute_scales(coords_deg), 1.0)


class WorldChart(Chart):
    """Chart of longitude in degrees and sine of latitude.

    This is Lambert's cylindrical projection, which is equal-area: the area of a spherical zone is proportional to
    the difference of the sines of its latitudes (Archimedes).
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self._parts = shapely.STRtree(shapely.get_parts(region.land_deg))

    def make_boxes(self) -> FloatArray:
        longitudes, sines = np.meshgrid(np.arange(-180.0, 180.0, 5.0), np.linspace(-1.0, 1.0, 33)[:-1])
        low = np.stack((longitudes.ravel(), sines.ravel()), axis=-1)
        return np.concatenate((low, low + np.array((5.0, 2.0 / 32))), axis=1)

    def to_degrees(self, xy: FloatArray) -> FloatArray:
        return np.stack((np.degrees(np.arcsin(np.clip(xy[:, 1], -1.0, 1.0))), xy[:, 0]), axis=-1)

    def is_on_land(self, xy: FloatArray, coords_deg: FloatArray) -> BoolArray:
        return self.region.contains(coords_deg)

    def touch_land(self, boxes: FloatArray) -> BoolArray:
        west, south, east, north = boxes.T
        low, high = (np.degrees(np.arcsin(np.clip(edge, -1.0, 1.0))) for edge in (south, north))
        pairs: Any = self._parts.query(shapely.box(west, low, east, high), predicate="intersects")

        flags = np.zeros(len(boxes), dtype=np.bool_)
        flags[pairs[0]] = True
        return flags


def split_into_quarters(boxes: FloatArray) -> FloatArray:
    """Splits (B, 4) boxes into (4 B, 4) quarters; the four quarters of a box are adjacent rows."""
    west, south, east, north = boxes.T
    x, y = (west + east) / 2, (south + north) / 2
    quarters = ((west, south, x, y), (x, south, east, y), (west, y, x, north), (x, y, east, north))
    return np.stack([np.stack(edges, axis=-1) for edges in quarters], axis=1).reshape(-1, 4)
