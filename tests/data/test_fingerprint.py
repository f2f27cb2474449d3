"""Fingerprints: each part changes for its own reason, and a difference has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoguesser.data.fingerprint import PART_NAMES, compute_fingerprint, find_differing_parts
from geoguesser.data.images import ImageSpec
from geoguesser.system.disk_cache import compute_digest


def parts() -> dict[str, Any]:
    table = pd.DataFrame(
        {
            "uuid": ["a", "b", "c"],
            "latitude": [45.0, 45.5, 46.0],
            "longitude": [16.0, 16.5, 17.0],
            "split": ["train", "val", "test"],
        }
    )
    digests = np.arange(24, dtype=np.uint64).reshape(3, 4, 2)
    return {"table": table, "mask": np.ones((3, 4), bool), "digests": digests, "image": ImageSpec(size=64)}


def test_the_same_gives_the_same() -> None:
    first, again = compute_fingerprint(**parts()), compute_fingerprint(**parts())
    assert first == again
    assert set(first) == set(PART_NAMES)
    assert find_differing_parts(first, again) == []
    assert compute_digest(first) == compute_digest(again)
    assert all(isinstance(value, str | int) for value in first.values())  # plain, for checkpoints


def moved(own: dict[str, Any]) -> None:
    own["table"].loc[1, "latitude"] += 1e-7


def renamed(own: dict[str, Any]) -> None:
    own["table"].loc[1, "uuid"] = "B"


def switched(own: dict[str, Any]) -> None:
    own["table"].loc[1, "split"] = "train"


def masked(own: dict[str, Any]) -> None:
    own["mask"][2, 3] = False


def redrawn(own: dict[str, Any]) -> None:
    own["digests"][0, 1, 0] += np.uint64(1)


def resized(own: dict[str, Any]) -> None:
    own["image"] = ImageSpec(size=32)


def decoded(own: dict[str, Any]) -> None:
    own["decoded_by"] = "rules 0"


def shortened(own: dict[str, Any]) -> None:
    own |= {"table": own["table"][:2], "mask": own["mask"][:2], "digests": own["digests"][:2]}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (moved, ["coordinates"]),
        (renamed, ["ids"]),
        (switched, ["splits"]),
        (masked, ["masks", "views"]),
        (redrawn, ["views"]),
        (resized, ["image"]),
        (decoded, ["decoder"]),
        (shortened, ["places", "ids", "coordinates", "splits", "masks", "views"]),
    ],
)
def test_each_part_has_its_own_reason(change: Callable[[dict[str, Any]], None], changed: list[str]) -> None:
    before, own = compute_fingerprint(**parts()), parts()
    change(own)
    after = compute_fingerprint(**own)
    assert [part for part in PART_NAMES if before[part] != after[part]] == changed
    differences = find_differing_parts(before, after)
    assert [one.split(" (")[0] for one in differences] == [PART_NAMES[part] for part in changed]
    assert compute_digest(before) != compute_digest(after)


def test_differences_say_what_can_be_said() -> None:
    before, own = compute_fingerprint(**parts()), parts()
    resized(own)
    shortened(own)
    differences = find_differing_parts(before, compute_fingerprint(**own))
    assert differences[0] == "the number of places (3 there, 2 here)"
    assert "size and fit of views (px64-crop there, px32-crop here)" in differences
    assert find_differing_parts(before, compute_fingerprint(**own), ("image",)) == [differences[-1]]


def test_the_contents_of_unused_views_do_not_count() -> None:
    own = parts()
    masked(own)
    first = compute_fingerprint(**own)
    own["digests"][2, 3] = 99
    assert compute_fingerprint(**own) == first


def test_normalisation_does_not_touch_the_pixels_and_so_not_the_fingerprint() -> None:
    own = parts()
    first = compute_fingerprint(**own)
    own["image"] = ImageSpec(size=64, normalise="dataset")
    assert compute_fingerprint(**own) == first
