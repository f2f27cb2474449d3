"""Scan of a folder of photos: selects the files that can be views, and lists the others with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from tqdm import tqdm

from geoguesser.collecting.panorama import check_band, check_view_rows
from geoguesser.collecting.photos.exif import PhotoTags, find_row_band, read_tags
from geoguesser.collecting.photos.writer import SkippedFile, read_image_file
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.errors import DataError

MIN_PANORAMA_PX = 512  # height

# An image closes to a full turn if its first and last column differ by at most this number of levels, or by at
# most this multiple of the median difference of neighbouring columns.
MAX_SEAM_LEVELS = 6.0
MAX_SEAM_RATIO = 3.0


class PhotoFile(NamedTuple):
    """Photo that can be a view: its path, the hash of its bytes, and its tags, with position and direction."""

    path: Path
    digest: str
    tags: PhotoTags
    is_panorama: bool


def scan_photos(paths: list[Path], skipped: list[SkippedFile], *, fov_deg: float, size: int) -> list[PhotoFile]:
    """Reads photos, and selects those with a position and a direction; files left out are added to `skipped`.

    `fov_deg` and `size` are the field of view, and the size in pixels, of the views to cut from panoramas. Returns
    photos sorted by time, then by path; those of unknown time come last.
    """
    photos: list[PhotoFile] = []
    path_by_digest: dict[str, Path] = {}
    for path in tqdm(paths, desc="reading photos", unit=" photos", disable=None, leave=False):
        try:
            data = read_image_file(path)
            tags = read_tags(data)
            is_panorama = _check_image(data, tags, str(path), fov_deg=fov_deg, size=size)
        except (DataError, ValueError) as error:
            skipped.append((path, "not_read", str(error)))
            continue

        digest = xxhash.xxh3_128_hexdigest(data)
        if digest in path_by_digest:
            skipped.append((path, "same_file", f"same bytes as {path_by_digest[digest].name}"))
        elif tags.position_deg is None:
            skipped.append((path, "no_position", "no valid GPSLatitude and GPSLongitude"))
        elif tags.direction_deg is None:
            skipped.append((path, "no_direction", "no valid GPSImgDirection or PoseHeadingDegrees"))
        else:
            path_by_digest[digest] = path
            photos.append(PhotoFile(path, digest, tags, is_panorama))
    return sorted(photos, key=lambda photo: (photo.tags.taken is None, str(photo.tags.taken), str(photo.path)))


def _check_image(data: bytes, tags: PhotoTags, where: str, *, fov_deg: float, size: int) -> bool:
    """Decodes a photo at reduced scale to check that it is complete, and returns whether it is a panorama."""
    header = read_header(data)
    image = decode_rgb(data, header, MIN_PANORAMA_PX)
    # EXIF orientations from 5 are rotated by 90 degrees.
    height, width = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)

    if not tags.is_panorama:
        has_shape = width == 2 * height and header.orientation == 1 and height >= MIN_PANORAMA_PX
        if not (has_shape and _closes(image[:: max(1, len(image) // MIN_PANORAMA_PX)].astype(np.float32))):
            return False
    band = check_band(height, width, find_row_band(tags, width, where), where)
    check_view_rows(height, band, pitch_deg=0.0, fov_deg=fov_deg, size=size, where=where)
    return True


def _closes(image: npt.NDArray[np.float32]) -> bool:
    """Returns whether the last column of an image continues in the first, as in a full turn."""
    # Phones take ordinary photos of the format 2:1 too, so the format of an image without GPano tags decides
    # nothing.
    column_steps = np.abs(np.diff(image, axis=1)).mean(axis=(0, 2))
    seam = float(np.abs(image[:, 0] - image[:, -1]).mean())
    return seam <= max(MAX_SEAM_LEVELS, MAX_SEAM_RATIO * float(np.median(column_steps)))
