"""Projected CRSs of regions: makes and checks them, and projects land."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry import MultiPolygon

from geoguesser.arrays import FloatArray
from geoguesser.errors import RegionError
from geoguesser.geo.distance import from_unit, to_unit

# Parameters of a CRS that name files, such as grids of datum shifts; `@null` is no file.
FILE_PARAMETER = re.compile(r"PARAMETERFILE|(?:grids|catalog|init|file|model)=(?!@null\b)", re.IGNORECASE)
MAX_AREAL_SCALE = 1.1  # Web Mercator doubles areas in Croatia


def compute_spherical_centre(land_deg: MultiPolygon) -> FloatArray:
    """Computes the centre (2,) of land in degrees: the mean of its polygons' centroids, weighted by area."""
    parts = shapely.get_parts(land_deg)
    centroids = shapely.get_coordinates(shapely.centroid(parts))[:, ::-1]

    # Square degrees shrink with the cosine of the latitude.
    weights = shapely.area(parts) * np.cos(np.radians(centroids[:, 0]))
    return from_unit((to_unit(centroids) * weights[:, None]).sum(axis=0))


def make_equal_area_crs(centre_deg: FloatArray) -> pyproj.CRS:
    """Makes a Lambert azimuthal equal-area CRS at a centre (2,) in degrees."""
    lat, lon = (round(float(value), 4) for value in centre_deg)
    return pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m +no_defs")


def names_files(crs: pyproj.CRS) -> bool:
    """Returns whether PROJ would open files that the definition of a CRS names; one from elsewhere must not."""
    return FILE_PARAMETER.search(f"{crs.srs} {crs.to_wkt()}") is not None


def check_crs(crs: Any, land_deg: MultiPolygon) -> pyproj.CRS:
    """Returns the CRS that a user named, if it can be used for the land.

    Raises RegionError if the CRS is unknown, names files, is not projected in metres, made for other land, or
    distorts areas.
    """
    # Before it is parsed, because that reads the file of `+init=`.
    text = " ".join(f"{key}={value}" for key, value in crs.items()) if isinstance(crs, dict) else str(crs)
    if FILE_PARAMETER.search(text):
        raise RegionError.at("region.crs", "must not name files", found=crs, remedy="For example EPSG:3765.")
    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise RegionError.at(
            "region.crs", "must be a CRS that pyproj knows", found=crs, remedy="For example EPSG:3765."
        ) from error

    if names_files(parsed):
        raise RegionError.at("region.crs", "must not name files", found=str(crs)[:60])

    units = {axis.unit_name for axis in parsed.axis_info}
    if not parsed.is_projected or units != {"metre"}:
        found = f"{parsed.name} ({', '.join(sorted(units))})"
        remedy = "Leave it out for an equal-area CRS at the region's centre."
        raise RegionError.at("region.crs", "must be projected and in metres", found=found, remedy=remedy)

    # The area of use, with a margin of a degree. One across the date line is not compared.
    area = parsed.area_of_use
    if area is not None and area.west <= area.east:
        use = shapely.box(area.west - 1, area.south - 1, area.east + 1, area.north + 1)
        if not use.intersects(shapely.box(*land_deg.bounds)):
            swapped = use.intersects(shapely.box(*np.array(land_deg.bounds)[[1, 0, 3, 2]]))
            remedy = "Latitude and longitude of the boundary look swapped." if swapped else "Name another CRS."
            rule = f"must be made for the land: {parsed.name} is for {area.name}"
            bounds = tuple(round(value, 2) for value in land_deg.bounds)
            raise RegionError.at("region.crs", rule, found=bounds, remedy=remedy)

    lat, lon = compute_spherical_centre(land_deg).tolist()
    scale = float(pyproj.Proj(parsed).get_factors(lon, lat).areal_scale)
    if not 1 / MAX_AREAL_SCALE <= scale <= MAX_AREAL_SCALE:
        rule = f"must keep areas within 10 % at the land's centre; {parsed.name} multiplies them by {scale:.2f}"
        remedy = "Name a CRS made for the land, or leave it out for an equal-area CRS at the region's centre."
        raise RegionError.at("region.crs", rule, found=str(crs)[:60], remedy=remedy)

    return parsed


def project_polygons(land_deg: MultiPolygon, forward: pyproj.Transformer) -> MultiPolygon:
    """Projects the land, and joins parts that were split at the date line."""
    # A cut along the date line is a straight line in degrees, but a curve in the plane: it needs points.
    west, _, east, _ = land_deg.bounds
    at_date_line = west <= -179.99 or east >= 179.99
    source = shapely.segmentize(land_deg, 0.1) if at_date_line else land_deg

    def project(lon_lat: FloatArray) -> FloatArray:
        return np.stack(forward.transform(lon_lat[:, 0], lon_lat[:, 1]), axis=-1)

    plane = shapely.make_valid(shapely.transform(source, project), method="structure", keep_collapsed=False)

    # Growing by a metre closes the gap of rounding between the parts, shrinking restores the outline.
    if at_date_line:
        plane = shapely.buffer(shapely.buffer(plane, 1.0, quad_segs=1), -1.0, quad_segs=1)

    return MultiPolygon([part for part in shapely.get_parts(plane) if part.geom_type == "Polygon"])
