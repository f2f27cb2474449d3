"""Fingerprints: each part changes for its own reason, and a difference has a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoguesser.data.fingerprint import PART_NAMES, compute_fingerprint, find_differing_parts
from geoguesser.data.images import ImageSpec
from geoguesser.system.disk_cache import compute_digest

TABLE = pd.DataFrame(
    [("a", 45.0, 16.0, "train"), ("b", 45.5, 16.5, "val"), ("c", 46.0, 17.0, "test")],
    columns=["uuid", "latitude", "longitude", "split"],
)
MASK = np.ones((3, 4), bool)
DIGESTS = np.arange(24, dtype=np.uint64).reshape(3, 4, 2)
TWO_PLACES = {"table": TABLE[:2], "mask": MASK[:2], "digests": DIGESTS[:2]}


def fingerprint(**changes: Any) -> dict[str, Any]:
    defaults = {"table": TABLE, "mask": MASK, "digests": DIGESTS, "image": ImageSpec(size=64)}
    return compute_fingerprint(**defaults | changes)


def put(array: np.ndarray, position: tuple[int, ...], value: int) -> np.ndarray:
    changed = array.copy()
    changed[position] = value
    return changed


def test_the_same_gives_the_same() -> None:
    first, again = fingerprint(), fingerprint()
    assert first == again
    assert set(first) == set(PART_NAMES)
    assert find_differing_parts(first, again) == []
    assert compute_digest(first) == compute_digest(again)
    assert all(isinstance(value, str | int) for value in first.values())  # plain, for checkpoints


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"table": TABLE.assign(latitude=[45.0, 45.5 + 1e-7, 46.0])}, ["coordinates"]),
        ({"table": TABLE.assign(uuid=["a", "B", "c"])}, ["ids"]),
        ({"table": TABLE.assign(split=["train", "train", "test"])}, ["splits"]),
        ({"mask": put(MASK, (2, 3), False)}, ["masks", "views"]),
        ({"digests": put(DIGESTS, (0, 1, 0), 99)}, ["views"]),
        ({"image": ImageSpec(size=32)}, ["image"]),
        ({"decoded_by": "rules 0"}, ["decoder"]),
        (TWO_PLACES, ["places", "ids", "coordinates", "splits", "masks", "views"]),
    ],
)
def test_each_part_has_its_own_reason(changes: dict[str, Any], parts: list[str]) -> None:
    before, after = fingerprint(), fingerprint(**changes)
    assert [part for part in PART_NAMES if before[part] != after[part]] == parts
    differences = find_differing_parts(before, after)
    assert [one.split(" (")[0] for one in differences] == [PART_NAMES[part] for part in parts]
    assert compute_digest(before) != compute_digest(after)


def test_differences_say_what_can_be_said() -> None:
    before, after = fingerprint(), fingerprint(**TWO_PLACES, image=ImageSpec(size=32))
    differences = find_differing_parts(before, after)
    assert differences[0] == "the number of places (3 there, 2 here)"
    assert differences[-1] == "size and fit of views (px64-crop there, px32-crop here)"
    assert find_differing_parts(before, after, ("image",)) == [differences[-1]]


def test_the_contents_of_unused_views_do_not_count() -> None:
    mask = put(MASK, (2, 3), False)
    assert fingerprint(mask=mask) == fingerprint(mask=mask, digests=put(DIGESTS, (2, 3, 0), 99))


def test_normalisation_does_not_touch_the_pixels_and_so_not_the_fingerprint() -> None:
    assert fingerprint(image=ImageSpec(size=64, normalise="dataset")) == fingerprint()
