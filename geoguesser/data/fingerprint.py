"""Fingerprint: what tells one set of places from another, part by part, so that a difference has a name."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.data.images import ImageSpec, choose_decoder
from geoguesser.data.places import get_coords

NAMES = {  # of the parts, for people
    "places": "the number of places",
    "ids": "which places there are, or their order",
    "coordinates": "coordinates",
    "splits": "splits",
    "masks": "which views are used",
    "views": "the contents of image files",
    "image": "size and fit of views",
    "decoder": "what decoded them",
}
CONTENTS = ("places", "ids", "coordinates", "splits", "masks", "views")
SHOWN = ("places", "image", "decoder")  # these say something as they are; the others are digests


def compute_fingerprint(
    table: pd.DataFrame,
    mask: npt.NDArray[np.bool_],
    digests: npt.NDArray[np.uint64],
    image: ImageSpec,
    decoded_by: str | None = None,
) -> dict[str, Any]:
    """The fingerprint of places as a run sees them: plain values, the same from image files and from a store.

    Args:
        table: N places with uuid, latitude, longitude and split.
        mask: (N, 4) which views are used.
        digests: (N, 4, 2) of the image files' bytes.
        image: How views were brought to their size.
        decoded_by: What decoded them; None for the libraries at hand.
    """
    used = np.where(mask[..., None], digests, 0).astype("<u8")
    return {
        "places": len(table),
        "ids": _digest("\0".join(table["uuid"]).encode()),
        "coordinates": _digest(get_coords(table).astype("<f8").tobytes()),
        "splits": _digest("\0".join(table["split"].astype(str)).encode()),
        "masks": _digest(np.packbits(mask).tobytes()),
        "views": _digest(used.tobytes()),
        "image": image.name,
        "decoder": decoded_by or choose_decoder(),
    }


def compute_digest(found: dict[str, Any]) -> str:
    """One short name for a whole fingerprint."""
    return _digest(repr(sorted(found.items())).encode())


def find_differing_parts(
    there: dict[str, Any], here: dict[str, Any], parts: tuple[str, ...] = tuple(NAMES)
) -> list[str]:
    """What differs between two fingerprints, in words: `the number of places (1000 there, 1200 here)`."""
    found = []
    for part in parts:
        if there.get(part) != here.get(part):
            values = f" ({there.get(part)} there, {here.get(part)} here)" if part in SHOWN else ""
            found.append(NAMES[part] + values)
    return found


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
