"""Panoramas: perspective views cut from an equirectangular picture of the whole sphere.

Column and row are longitude and latitude of the direction of sight, the middle column looks to `compass_deg`.
The horizon is taken to be level: a pose's pitch and roll are not undone. What a file says of itself is
collecting/tags.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from geoguesser.arrays import ByteArray
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import DataError, check_int, check_number

Float32Array = npt.NDArray[np.float32]

MAX_SAMPLES = 4  # along each side of a view's pixel
STRIP_SAMPLES = 2**21  # directions held at once: 16 MiB
MAX_PROBES = 256  # along each side of a view
WIDEST_PX = 32_766  # OpenCV's remap counts columns in 16 bits


@dataclass(frozen=True)
class Band:
    """The rows of a sphere that a picture holds; all its columns are there.

    Attributes:
        top: The sphere's row at which the picture begins.
        height: The rows of the whole sphere, half of its columns.
    """

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
    band: Band | None = None,
    where: str = "the panorama",
) -> ByteArray:
    """Cuts square perspective views from a panorama.

    A view's pixel is the mean of up to 4 x 4 bilinear samples over its own area, and a panorama that is finer than
    these is shrunk before (by area), to no less than two columns for the pixels at the middle of the view's edge.

    Args:
        panorama: (H, W, 3), W = 2 H.
        compass_deg: Compass heading of the panorama's middle column, clockwise from north: GPano's
            PoseHeadingDegrees.
        headings_deg: (V,) compass headings of the views.
        pitch_deg: How far all views look up, from -90 to 90.
        fov_deg: Field of view from edge to edge, across and up, above 0 and below 170.
        size: Height and width of a view in pixels.
        band: Which rows of the sphere there are; None for all of them.
        where: The file, for messages.

    Returns:
        (V, size, size, 3).

    Raises:
        ConfigError: A number is out of its range.
        DataError: The picture is no full sphere, or a view would show rows that are not there.

    Source: the inverse gnomonic projection, J. P. Snyder, Map Projections: A Working Manual (1987), 164.
    """
    check_number("compass_deg", compass_deg)
    check_number("pitch_deg", pitch_deg, low=-90.0, high=90.0)
    check_number("fov_deg", fov_deg, low=0.0, high=170.0, open_low=True)
    check_int("size", size, low=16, high=4096)
    if panorama.ndim != 3 or panorama.shape[2] != 3 or panorama.dtype != np.uint8:
        raise DataError.at(where, "must be (H, W, 3) uint8", found=(panorama.shape, str(panorama.dtype)))
    height, width = panorama.shape[:2]
    band = checked_band(height, width, band, where)
    check_shown(height, band, pitch_deg=pitch_deg, fov_deg=fov_deg, size=size, where=where)
    scale, samples = _sampling(panorama.shape[1], fov_deg, size)
    source = _padded(_shrunk(panorama, scale), band, panorama.shape[0])
    views = np.empty((len(headings_deg), size, size, 3), dtype=np.uint8)
    rows = max(1, STRIP_SAMPLES // (size * samples * samples))
    for first in range(0, size, rows):
        last = min(first + rows, size)
        turns, latitudes = _directions(size * samples, fov_deg, pitch_deg, first * samples, last * samples)
        y = _rows_of(latitudes, panorama.shape[0], source.shape[0] - 2, band)
        for view, heading_deg in enumerate(headings_deg):
            x = turns + np.float32(((heading_deg - compass_deg) % 360.0) / 360.0 + 0.5)
            x -= np.floor(x)
            x = x * np.float32(source.shape[1] - 2) + np.float32(0.5)  # the first column was put before all others
            fine = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            views[view, first:last] = cv2.resize(fine, (size, last - first), interpolation=cv2.INTER_AREA)
    return views


def checked_band(height: int, width: int, band: Band | None, where: str) -> Band:
    """The rows that a picture of so many pixels holds.

    Raises:
        DataError: It is too wide, its width is not twice the sphere's height, or the band misfits.
    """
    if width > WIDEST_PX:
        raise DataError.at(where, f"must not be wider than {WIDEST_PX} pixels", found=width)
    band = Band(0, height) if band is None else band
    if abs(width - 2 * band.height) > 2:
        raise DataError.at(
            where,
            "must be a full equirectangular panorama, twice as wide as the sphere is high",
            found=f"{width} x {band.height}",
            remedy="Stitch or export it as a 360-degree panorama of the format 2:1.",
        )
    if band.top < 0 or band.top + height > band.height:
        rule = f"must hold rows within its sphere's {band.height}, by its cropped area"
        raise DataError.at(where, rule, found=f"{band.top} to {band.top + height}")
    return band


def check_shown(height: int, band: Band, *, pitch_deg: float, fov_deg: float, size: int, where: str) -> None:
    """Refuses views of rows that the picture lacks; the edge rows may be off by a pixel.

    Raises:
        DataError: With the latitudes that there are.
    """
    probes = min(size, MAX_PROBES)
    _, latitudes = _directions(probes, fov_deg, pitch_deg, 0, probes)
    row = (0.5 - latitudes.astype(np.float64) / 180.0) * band.height - band.top
    if row.min() < -1.0 or row.max() > height + 1.0:
        highest, lowest = (90.0 - 180.0 * at / band.height for at in (band.top, band.top + height))
        raise DataError.at(
            where,
            f"shows latitudes {lowest:.0f} to {highest:.0f} degrees, and a view of pitch {pitch_deg:g} and field "
            f"of view {fov_deg:g} degrees needs {latitudes.min():.0f} to {latitudes.max():.0f}",
            remedy="Choose a smaller field of view.",
        )


def _sampling(width: int, fov_deg: float, size: int) -> tuple[float, int]:
    """How much to shrink a panorama of this width, at most 1, and how many samples to a pixel's side."""
    half = math.tan(math.radians(fov_deg / 2.0))
    columns = 2.0 * half / size * width / (2.0 * math.pi)  # to a pixel in the middle of a view
    finest = 1.0 + half * half  # pixels at the middle of an edge are finer by this
    scale = min(1.0, min(float(MAX_SAMPLES), 2.0 * finest) / columns)
    return scale, min(MAX_SAMPLES, max(1, math.ceil(columns * scale - 1e-9)))


def _shrunk(panorama: ByteArray, scale: float) -> ByteArray:
    if scale > 0.95:  # not worth the blur
        return panorama
    height, width = (max(1, math.ceil(side * scale)) for side in panorama.shape[:2])
    return np.asarray(cv2.resize(panorama, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _padded(source: ByteArray, band: Band, rows: int) -> ByteArray:
    """One pixel more on each side: the next column across the seam, and beyond a pole the row opposite."""
    padded = cv2.copyMakeBorder(source, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
    half = source.shape[1] // 2
    if band.top == 0:
        padded[0] = np.roll(source[0], half, axis=0)
    if band.top + rows >= band.height:
        padded[-1] = np.roll(source[-1], half, axis=0)
    return np.asarray(cv2.copyMakeBorder(padded, 0, 0, 1, 1, cv2.BORDER_WRAP), dtype=np.uint8)


def _rows_of(latitudes: Float32Array, height: int, drawn: int, band: Band) -> Float32Array:
    """Rows of the padded source, drawn in `drawn` rows in place of `height`."""
    row = (np.float32(0.5) - latitudes * np.float32(1.0 / 180.0)) * np.float32(band.height) - np.float32(band.top)
    return row * np.float32(drawn / height) + np.float32(0.5)


@lru_cache(maxsize=8)
def _directions(side: int, fov_deg: float, pitch_deg: float, first: int, last: int) -> tuple[Any, Any]:
    """Where the pixels of rows `first` to `last` of a view look that is `side` pixels wide.

    Returns:
        (last - first, side) each: turns to the right of the view's heading, from -0.5 to 0.5, and latitudes in
        degrees. They are shared: never write into them.
    """
    half = math.tan(math.radians(fov_deg / 2.0))
    steps = ((np.arange(side) + 0.5) / side * 2.0 - 1.0) * half
    right, down = steps[None, :], steps[first:last, None]
    sin, cos = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    ahead, up = cos + down * sin, sin - down * cos
    turns = np.arctan2(right, ahead) / (2.0 * math.pi)
    latitudes = np.degrees(np.arctan2(up, np.hypot(right, ahead)))
    return turns.astype(np.float32), latitudes.astype(np.float32)
