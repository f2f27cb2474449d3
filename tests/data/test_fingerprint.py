"""Each part of a fingerprint changes for a reason of its own, and a difference has a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoguesser.data.fingerprint import PART_NAMES, compute_fingerprint, find_differing_parts
from geoguesser.data.images import ImageSpec
from geoguesser.system.disk_cache import compute_digest

COORDS = {"latitude": [45.0, 45.5, 46.0], "longitude": [16.0, 16.5, 17.0]}
TABLE = pd.DataFrame({"uuid": ["a", "b", "c"], **COORDS, "split": ["train", "val", "test"]})
MASK = np.ones((3, 4), bool)
MASKED = MASK & (np.arange(12).reshape(3, 4) != 11)
DIGESTS = np.arange(24, dtype=np.uint64).reshape(3, 4, 2)
SHORTER = {"table": TABLE[:2], "mask": MASK[:2], "digests": DIGESTS[:2]}


def compute(**changes: Any) -> dict[str, Any]:
    return compute_fingerprint(
        **{"table": TABLE, "mask": MASK, "digests": DIGESTS, "image": ImageSpec(size=64), **changes}
    )


def test_equal_data_have_equal_fingerprints() -> None:
    first, second = compute(), compute()
    assert first == second
    assert set(first) == set(PART_NAMES)
    assert find_differing_parts(first, second) == []
    assert compute_digest(first) == compute_digest(second)
    # Plain values, for checkpoints.
    assert all(isinstance(value, str | int) for value in first.values())


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"table": TABLE.assign(latitude=[45.0, 45.5 + 1e-7, 46.0])}, ["coordinates"]),
        ({"table": TABLE.assign(uuid=["a", "B", "c"])}, ["ids"]),
        ({"table": TABLE.assign(split=["train", "train", "test"])}, ["splits"]),
        ({"mask": MASKED}, ["masks", "views"]),
        ({"digests": DIGESTS + (DIGESTS == 2)}, ["views"]),
        ({"image": ImageSpec(size=32)}, ["image"]),
        ({"decoded_by": "rules 0"}, ["decoder"]),
        (SHORTER, ["places", "ids", "coordinates", "splits", "masks", "views"]),
    ],
)
def test_each_part_changes_for_its_own_reason(changes: dict[str, Any], changed: list[str]) -> None:
    before, after = compute(), compute(**changes)
    assert [part for part in PART_NAMES if before[part] != after[part]] == changed
    texts = find_differing_parts(before, after)
    assert [text.split(" (")[0] for text in texts] == [PART_NAMES[part] for part in changed]
    assert compute_digest(before) != compute_digest(after)


def test_differences_show_readable_values() -> None:
    before, after = compute(), compute(**SHORTER, image=ImageSpec(size=32))
    texts = find_differing_parts(before, after)
    assert texts[0] == "the number of places (3 there, 2 here)"
    assert "size and fit of views (px64-crop there, px32-crop here)" in texts
    assert find_differing_parts(before, after, ("image",)) == [texts[-1]]


def test_unused_views_and_normalisation_do_not_count() -> None:
    digests = DIGESTS.copy()
    digests[2, 3] = 99
    assert compute(mask=MASKED, digests=digests) == compute(mask=MASKED)
    assert compute(image=ImageSpec(size=64, normalise="dataset")) == compute()
