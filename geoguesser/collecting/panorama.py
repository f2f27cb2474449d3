"""Perspective views cut from an equirectangular panorama.

Columns and rows of a panorama are longitude and latitude of the viewing direction; its middle column looks to
`compass_deg`. The horizon is assumed to be level: pitch and roll of the camera are not corrected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np

from geoguesser.arrays import ByteArray
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import DataError, check_int, check_number

# Samples along each side of a view's pixel.
MAX_SAMPLES = 4

# Sampling directions in memory at once: 16 MiB.
STRIP_SAMPLES = 2**21

# Directions along each side of a view that are checked against the available rows.
MAX_PROBES = 256

# cv2.remap has 16 bits for columns.
MAX_WIDTH_PX = 32_766


class RowBand(NamedTuple):
    """Rows that an image holds, with all columns: those from `top` on, of a sphere with `height` rows."""

    top: int
    height: int


def cut_views(
    panorama: ByteArray,
    *,
    compass_deg: float,
    headings_deg: Sequence[float] = HEADINGS,
    pitch_deg: float = 0.0,
    fov_deg: float = 90.0,
    size: int = 640,
    band: RowBand | None = None,
    where: str = "the panorama",
) -> ByteArray:
    """Cuts square perspective views from a panorama.

    A pixel of a view is the mean of up to 4 x 4 bilinear samples over its area, which prevents aliasing. A
    panorama that is too fine even for these samples is reduced before, by area averaging.

    Args:
        panorama: (H, W, 3) image, W = 2 H.
        compass_deg: Compass heading of the panorama's middle column, clockwise from north: PoseHeadingDegrees of
            GPano.
        headings_deg: (V,) compass headings of the views.
        pitch_deg: Angle by which all views look up, from -90 to 90.
        fov_deg: Horizontal and vertical field of view from edge to edge, above 0 and up to 170.
        size: Height and width of a view in pixels.
        band: Rows of the sphere that the image holds; None for all.
        where: File name for messages.

    Returns:
        (V, size, size, 3) views.

    Raises:
        ConfigError: A number is out of its range.
        DataError: The image is not a full sphere, or a view needs rows that are missing.

    Source: the inverse gnomonic projection, J. P. Snyder, Map Projections: A Working Manual (1987), 164.
    """
    check_number("compass_deg", compass_deg)
    check_number("pitch_deg", pitch_deg, low=-90.0, high=90.0)
    check_number("fov_deg", fov_deg, low=0.0, high=170.0, open_low=True)
    check_int("size", size, low=16, high=4096)
    if panorama.ndim != 3 or panorama.shape[2] != 3 or panorama.dtype != np.uint8:
        raise DataError.at(where, "must be (H, W, 3) uint8", found=(panorama.shape, str(panorama.dtype)))

    height, width = panorama.shape[:2]
    band = check_band(height, width, band, where)
    check_view_rows(height, band, pitch_deg=pitch_deg, fov_deg=fov_deg, size=size, where=where)

    scale, samples = _choose_sampling(width, fov_deg, size)
    source = _pad(_reduce(panorama, scale), band, height)

    # Views are computed in strips of rows, so that the sampling coordinates need little memory. All views share
    # the rows of the panorama and differ by a shift of the columns.
    views = np.empty((len(headings_deg), size, size, 3), dtype=np.uint8)
    strip_height = max(1, STRIP_SAMPLES // (size * samples * samples))
    for first in range(0, size, strip_height):
        last = min(first + strip_height, size)
        turns, latitudes = _compute_directions(size * samples, fov_deg, pitch_deg, first * samples, last * samples)
        # Rows of the sphere, of the panorama, and of its reduced and padded copy.
        y = (np.float32(0.5) - latitudes * np.float32(1.0 / 180.0)) * np.float32(band.height) - np.float32(
            band.top
        )
        y = y * np.float32((source.shape[0] - 2) / height) + np.float32(0.5)

        for view, heading_deg in enumerate(headings_deg):
            x = turns + np.float32(((heading_deg - compass_deg) % 360.0) / 360.0 + 0.5)
            x -= np.floor(x)
            # In pixels, the left edge of the first column is at -0.5, and at 0.5 after the padding.
            x = x * np.float32(source.shape[1] - 2) + np.float32(0.5)
            fine = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            views[view, first:last] = cv2.resize(fine, (size, last - first), interpolation=cv2.INTER_AREA)
    return views


def check_band(height: int, width: int, band: RowBand | None, where: str) -> RowBand:
    """Checks the size of a panorama, and returns the rows that it holds (all, if `band` is None).

    Raises DataError if it is too wide, its width is not twice the sphere's height, or the band does not fit.
    """
    if width > MAX_WIDTH_PX:
        raise DataError.at(where, f"must not be wider than {MAX_WIDTH_PX} pixels", found=width)

    band = RowBand(0, height) if band is None else band
    if abs(width - 2 * band.height) > 2:
        rule = "must be a full equirectangular panorama, twice as wide as the sphere is high"
        remedy = "Stitch or export it as a 360-degree panorama of the format 2:1."
        raise DataError.at(where, rule, found=f"{width} x {band.height}", remedy=remedy)
    if band.top < 0 or band.top + height > band.height:
        rule = f"must hold rows within its sphere's {band.height}, by its cropped area"
        raise DataError.at(where, rule, found=f"{band.top} to {band.top + height}")
    return band


def check_view_rows(
    height: int, band: RowBand, *, pitch_deg: float, fov_deg: float, size: int, where: str
) -> None:
    """Raises DataError if a panorama lacks rows that a view needs, with a tolerance of one pixel."""
    probes = min(size, MAX_PROBES)
    _, latitudes = _compute_directions(probes, fov_deg, pitch_deg, 0, probes)
    rows = (0.5 - latitudes.astype(np.float64) / 180.0) * band.height - band.top

    if rows.min() < -1.0 or rows.max() > height + 1.0:
        highest, lowest = (90.0 - 180.0 * row / band.height for row in (band.top, band.top + height))
        raise DataError.at(
            where,
            f"shows latitudes {lowest:.0f} to {highest:.0f} degrees, and a view of pitch {pitch_deg:g} and field "
            f"of view {fov_deg:g} degrees needs {latitudes.min():.0f} to {latitudes.max():.0f}",
            remedy="Choose a smaller field of view.",
        )


def _choose_sampling(width: int, fov_deg: float, size: int) -> tuple[float, int]:
    """Returns the factor by which to reduce a panorama, and the number of samples per side of a view's pixel.

    At the angle a from a view's centre, a pixel of width w (in units of the focal length) covers the angle
    w cos(a)^2. So pixels are coarsest at the centre, and those at the middle of an edge are finer by 1 + tan(a)^2.
    The panorama is reduced until a pixel at the middle of an edge has two columns, or fewer if a pixel at the
    centre would have more than MAX_SAMPLES.
    """
    half_width = math.tan(math.radians(fov_deg / 2.0))
    columns_per_pixel = 2.0 * half_width / size * width / (2.0 * math.pi)
    edge_factor = 1.0 + half_width * half_width

    scale = min(1.0, min(float(MAX_SAMPLES), 2.0 * edge_factor) / columns_per_pixel)
    return scale, min(MAX_SAMPLES, max(1, math.ceil(columns_per_pixel * scale - 1e-9)))


def _reduce(panorama: ByteArray, scale: float) -> ByteArray:
    # A reduction by a few percent only blurs.
    if scale > 0.95:
        return panorama
    height, width = (max(1, math.ceil(side * scale)) for side in panorama.shape[:2])
    return np.asarray(cv2.resize(panorama, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _pad(source: ByteArray, band: RowBand, height: int) -> ByteArray:
    """Adds one pixel on each side for the interpolation; `height` is that of the panorama before its reduction.

    Across the left and right edge that is the next column of the turn. Beyond a pole it is the same row on the
    opposite meridian.
    """
    padded = cv2.copyMakeBorder(source, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
    half_turn = source.shape[1] // 2
    if band.top == 0:
        padded[0] = np.roll(source[0], half_turn, axis=0)
    if band.top + height >= band.height:
        padded[-1] = np.roll(source[-1], half_turn, axis=0)
    return np.asarray(cv2.copyMakeBorder(padded, 0, 0, 1, 1, cv2.BORDER_WRAP), dtype=np.uint8)


@lru_cache(maxsize=8)
def _compute_directions(side: int, fov_deg: float, pitch_deg: float, first: int, last: int) -> tuple[Any, Any]:
    """Computes the viewing directions of the pixels in rows `first` to `last` of a view with `side` columns.

    A pixel at (right, down) on the image plane, in units of the focal length, looks to the vector
    (ahead, right, up) = (1, right, -down). Pitch rotates it about the horizontal axis of the view:
    ahead' = ahead cos - up sin, up' = ahead sin + up cos.

    Returns (last - first, side) turns to the right of the view's heading, from -0.5 to 0.5, and latitudes in
    degrees. The arrays are cached and must not be modified.
    """
    half_width = math.tan(math.radians(fov_deg / 2.0))
    steps = ((np.arange(side) + 0.5) / side * 2.0 - 1.0) * half_width
    right, down = steps[None, :], steps[first:last, None]

    sin, cos = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    ahead, up = cos + down * sin, sin - down * cos

    turns = np.arctan2(right, ahead) / (2.0 * math.pi)
    latitudes = np.degrees(np.arctan2(up, np.hypot(right, ahead)))
    return turns.astype(np.float32), latitudes.astype(np.float32)
