"""Loads the views of a place as small JPEG images for HTML pages, here called photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from geoguesser.arrays import BoolArray, ByteArray
from geoguesser.data.checks.image_stats import BROKEN, MISSING, PLACEHOLDER
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.errors import DataError

PHOTO_PX = 160
JPEG_QUALITY = 82  # about 7 kB per view
STATE_REASONS = {MISSING: "missing", BROKEN: "broken", PLACEHOLDER: "placeholder"}


class SamplePhoto(NamedTuple):
    """View of a place as a small JPEG for a page, or the reason for its absence in one or two words."""

    jpeg: bytes | None
    reason: str = ""


def make_sample_photo(view: ByteArray) -> SamplePhoto:
    """Encodes a view, (H, W, 3) RGB, as JPEG."""
    pixels = np.ascontiguousarray(view)
    return SamplePhoto(simplejpeg.encode_jpeg(pixels, JPEG_QUALITY, "RGB", colorsubsampling="420"))


def load_sample_photos(files: PlaceFiles, fit: str, skip_reasons: Sequence[str] = ("",) * 4) -> list[SamplePhoto]:
    """Reads the four views of a place from their files, except those for which `skip_reasons` has a reason."""
    spec = ImageSpec(size=PHOTO_PX, fit=fit)
    photos: list[SamplePhoto] = []

    for heading, reason in enumerate(skip_reasons):
        if reason or files.names[heading] is None:
            photos.append(SamplePhoto(None, reason or STATE_REASONS[MISSING]))
            continue
        try:
            photos.append(make_sample_photo(spec.read(files.path(heading)).transpose(1, 2, 0)))
        # Not reported here: the checks of the data have already recorded it as a finding.
        except DataError:
            photos.append(SamplePhoto(None, STATE_REASONS[BROKEN]))
    return photos


def list_skip_reasons(state: npt.NDArray[Any], used: BoolArray) -> list[str]:
    """Returns why each of four views is not used, given (4,) states of image_stats.py; empty for a view in use."""
    # A view that is OK is left out, for example, if the action of its finding is `skip`.
    pairs = zip(state.tolist(), used.tolist(), strict=True)
    return ["" if in_use else STATE_REASONS.get(code, "left out") for code, in_use in pairs]
