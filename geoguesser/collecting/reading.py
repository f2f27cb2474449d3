"""Reading photos: which files of a folder can be views, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from tqdm import tqdm

from geoguesser.collecting.tags import Tags, read_tags
from geoguesser.collecting.written import read_file
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.errors import DataError

SEAM_LEVELS = 6.0  # the first and last column of a whole turn differ by no more than this, or by ...
SEAM_TIMES = 3.0  # ... so many times what neighbouring columns differ by
LEAST_SPHERE_PX = 512


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


def read_photos(paths: list[Path], skipped: list[dict[str, Any]]) -> list[Photo]:
    """The photos with position and direction, in the order in which they were taken, then by name."""
    photos: list[Photo] = []
    seen: dict[str, Path] = {}
    for path in tqdm(paths, desc="reading photos", unit=" photos", disable=None, leave=False):
        try:
            data = read_file(path)
            read_header(data)
        except (DataError, ValueError) as error:
            skipped.append(skip(path, "not_read", str(error)))
            continue
        tags, digest = read_tags(data), xxhash.xxh3_128_hexdigest(data)
        if digest in seen:
            skipped.append(skip(path, "same_file", f"the very bytes of {seen[digest].name}"))
        elif tags.position_deg is None:
            skipped.append(skip(path, "no_position", "no GPSLatitude and GPSLongitude that make sense"))
        elif tags.direction_deg is None:
            skipped.append(skip(path, "no_direction", "no GPSImgDirection or PoseHeadingDegrees that makes sense"))
        else:
            seen[digest] = path
            try:
                sphere = tags.is_sphere or _closes(data)
            except ValueError as error:
                skipped.append(skip(path, "broken", str(error)))
                continue
            photos.append(Photo(path, digest, tags, sphere))
    return sorted(photos, key=lambda one: (one.tags.taken is None, str(one.tags.taken), str(one.path)))


def _closes(data: bytes) -> bool:
    """Whether a picture of the format 2:1 that does not say so is a whole turn: its last column meets its first.

    Phones take ordinary photos of that format too.
    """
    header = read_header(data)
    if header.width != 2 * header.height or header.height < LEAST_SPHERE_PX or header.orientation != 1:
        return False
    image = decode_rgb(data, header, LEAST_SPHERE_PX).astype(np.float32)
    steps = np.abs(np.diff(image, axis=1)).mean(axis=(0, 2))
    seam = float(np.abs(image[:, 0] - image[:, -1]).mean())
    return seam <= max(SEAM_LEVELS, SEAM_TIMES * float(np.median(steps)))


def skip(path: Path, kind: str, reason: str) -> dict[str, Any]:
    """A row of what is left out: its file, a kind and a reason."""
    return {"file": path, "kind": kind, "reason": reason}
