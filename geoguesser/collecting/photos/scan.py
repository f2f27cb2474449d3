"""Reading photos: which files of a folder can be views, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from tqdm import tqdm

from geoguesser.collecting.panorama import check_shown, checked_band
from geoguesser.collecting.photos.exif import Tags, band_of, read_tags
from geoguesser.collecting.photos.writer import read_file
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.errors import DataError

SEAM_LEVELS = 6.0  # the first and last column of a whole turn differ by no more than this, or by ...
SEAM_TIMES = 3.0  # ... so many times what neighbouring columns differ by
MIN_SPHERE_PX = 512


@dataclass(frozen=True)
class Photo:
    """A photo that can be a view.

    Attributes:
        path: Its file.
        digest: Of its bytes.
        tags: Position and direction are there.
        sphere: Whether it is a 360-degree panorama.
    """

    path: Path
    digest: str
    tags: Tags
    sphere: bool


def read_photos(paths: list[Path], skipped: list[dict[str, Any]], *, fov_deg: float, size: int) -> list[Photo]:
    """The photos with position and direction, in the order in which they were taken, then by name.

    Args:
        paths: Their files.
        skipped: Gets a row for each that is left out.
        fov_deg: Of the views that panoramas must have room for.
        size: Of these views in pixels.
    """
    photos: list[Photo] = []
    seen: dict[str, Path] = {}
    for path in tqdm(paths, desc="reading photos", unit=" photos", disable=None, leave=False):
        try:
            data = read_file(path)
            tags = read_tags(data)
            sphere = _is_sphere(data, tags, str(path), fov_deg=fov_deg, size=size)
        except (DataError, ValueError) as error:
            skipped.append(skip(path, "not_read", str(error)))
            continue
        digest = xxhash.xxh3_128_hexdigest(data)
        if digest in seen:
            skipped.append(skip(path, "same_file", f"the very bytes of {seen[digest].name}"))
        elif tags.position_deg is None:
            skipped.append(skip(path, "no_position", "no GPSLatitude and GPSLongitude that make sense"))
        elif tags.direction_deg is None:
            skipped.append(skip(path, "no_direction", "no GPSImgDirection or PoseHeadingDegrees that makes sense"))
        else:
            seen[digest] = path
            photos.append(Photo(path, digest, tags, sphere))
    return sorted(photos, key=lambda one: (one.tags.taken is None, str(one.tags.taken), str(one.path)))


def _is_sphere(data: bytes, tags: Tags, where: str, *, fov_deg: float, size: int) -> bool:
    """Whether a photo is a 360-degree panorama; decodes all of it once, at reduced scale, so it is whole too.

    Raises:
        DataError: A panorama of which no level views of this field of view can be cut.
        ValueError: Broken or truncated.
    """
    header = read_header(data)
    image = decode_rgb(data, header, MIN_SPHERE_PX)
    height, width = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)
    if not tags.is_sphere:
        shaped = width == 2 * height and header.orientation == 1 and height >= MIN_SPHERE_PX
        if not (shaped and _closes(image.astype(np.float32))):
            return False
    band = checked_band(height, width, band_of(tags, width, where), where)
    check_shown(height, band, pitch_deg=0.0, fov_deg=fov_deg, size=size, where=where)
    return True


def _closes(image: npt.NDArray[np.float32]) -> bool:
    """Whether a picture of the format 2:1 that does not say so is a whole turn: its last column meets its first.

    Phones take ordinary photos of that format too.
    """
    steps = np.abs(np.diff(image, axis=1)).mean(axis=(0, 2))
    seam = float(np.abs(image[:, 0] - image[:, -1]).mean())
    return seam <= max(SEAM_LEVELS, SEAM_TIMES * float(np.median(steps)))


def skip(path: Path, kind: str, reason: str) -> dict[str, Any]:
    """A row of what is left out: its file, a kind and a reason."""
    return {"file": path, "kind": kind, "reason": reason}
