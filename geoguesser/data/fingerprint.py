"""Fingerprint of a data set in parts, so that a difference between two data sets can be named."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import BoolArray
from geoguesser.data.images import ImageSpec, describe_decoder
from geoguesser.data.places import get_coords

# Part of a fingerprint -> its description in messages.
PART_NAMES = {
    "places": "the number of places",
    "ids": "the ids of places, or their order",
    "coordinates": "coordinates",
    "splits": "splits",
    "masks": "the set of used views",
    "views": "the contents of image files",
    "image": "size and fit of views",
    "decoder": "the image decoder",
}

# Parts that a message can show; the others are digests.
READABLE_PARTS = ("places", "image", "decoder")


def compute_fingerprint(
    table: pd.DataFrame,
    mask: BoolArray,
    digests: npt.NDArray[np.uint64],
    image: ImageSpec,
    decoded_by: str | None = None,
) -> dict[str, Any]:
    """Computes the fingerprint of N places in plain values; image files and a store made from them share it.

    `digests` is (N, 4, 2), of the image files, and `mask` (N, 4) True for each view that is used. `decoded_by` is
    a result of `describe_decoder`; None is the current decoder.
    """
    used = np.where(mask[..., None], digests, 0).astype("<u8")
    return {
        "places": len(table),
        "ids": _compute_digest("\0".join(table["uuid"]).encode()),
        "coordinates": _compute_digest(get_coords(table).astype("<f8").tobytes()),
        "splits": _compute_digest("\0".join(table["split"].astype(str)).encode()),
        "masks": _compute_digest(np.packbits(mask).tobytes()),
        "views": _compute_digest(used.tobytes()),
        "image": image.name,
        "decoder": decoded_by or describe_decoder(),
    }


def find_differing_parts(
    other: dict[str, Any], current: dict[str, Any], parts: tuple[str, ...] = tuple(PART_NAMES)
) -> list[str]:
    """Lists the differences between a recorded fingerprint (`there` in the text) and the current one (`here`)."""
    differences = []
    for part in parts:
        if other.get(part) != current.get(part):
            values = f" ({other.get(part)} there, {current.get(part)} here)" if part in READABLE_PARTS else ""
            differences.append(PART_NAMES[part] + values)
    return differences


def _compute_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
