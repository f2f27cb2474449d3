"""Soundness: which views are used and which places are left out; pixel statistics against NumPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geoguesser.data.checks.filtering import filter_views
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import BROKEN, MISSING, OK, PLACEHOLDER, ImageStats, compute_pixel_stats


def case(states: list[list[int]]) -> tuple[pd.DataFrame, ImageStats, list[tuple[int, int, Finding]]]:
    """Places with views in these states, and the findings that examining would have given."""
    facts = ImageStats.empty(len(states))
    facts.views["state"] = states
    facts.views["width"] = facts.views["height"] = 24
    kinds = {BROKEN: "broken_image", PLACEHOLDER: "placeholder_image"}
    found = [
        (row, heading, Finding(kinds[state], f"{row}/{heading}", "is bad"))
        for row, own in enumerate(states)
        for heading, state in enumerate(own)
        if state in kinds
    ]
    return pd.DataFrame({"row": [f"row {at}" for at in range(len(states))]}), facts, found


STATES = [
    [OK, OK, OK, OK],
    [OK, BROKEN, OK, OK],
    [OK, OK, PLACEHOLDER, OK],
    [MISSING, OK, OK, OK],
    [BROKEN, BROKEN, PLACEHOLDER, MISSING],
]


@pytest.mark.parametrize(
    ("mask", "placeholders", "dropped"),
    [
        (False, "skip", [False, True, True, True, True]),
        (True, "skip", [False, False, False, False, True]),
        (True, "keep", [False] * 5),
    ],
)
def test_masking_leaves_out_views_and_only_empty_places(
    mask: bool, placeholders: str, dropped: list[bool]
) -> None:
    table, facts, found = case(STATES)
    findings = Findings({"broken_image": "skip", "placeholder_image": placeholders})
    used, out = filter_views(table, facts, found, findings, allow_missing_views=mask, max_size=24)
    kept = [OK, PLACEHOLDER] if placeholders == "keep" else [OK]
    np.testing.assert_array_equal(used[~out], np.isin(STATES, kept)[~out])
    assert out.tolist() == dropped
    assert findings.count_skipped()["broken_image"] == 3
    empty = Finding("no_view", "row 4", "has no view that can be used")
    assert (empty in findings.skipped) == (mask and placeholders == "skip")


def test_curiosities_are_left_out_where_that_is_asked() -> None:
    table, facts, _ = case([[OK] * 4] * 3)
    found = [(1, 2, Finding("odd_aspect", "1/180.jpg", "is long"))]
    for mask, expected in ((True, [False] * 3), (False, [False, True, False])):
        skip = Findings({"odd_aspect": "skip"})
        used, dropped = filter_views(table, facts, found, skip, allow_missing_views=mask, max_size=24)
        assert np.argwhere(~used).tolist() == [[1, 2]]
        assert dropped.tolist() == expected
    used, dropped = filter_views(table, facts, found, Findings(), allow_missing_views=False, max_size=24)
    assert used.all()
    assert not dropped.any()


def test_pixel_statistics_are_those_of_all_used_views_of_the_rows() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 4, 3, 6, 6), dtype=np.uint8)
    used = random.random((8, 4)) < 0.7
    rows = np.array([0, 1, 3, 6])
    facts = ImageStats.empty(8)
    wide = pixels.astype(np.int64)
    facts.sums = np.stack((wide.sum((3, 4)), (wide**2).sum((3, 4))), axis=2)
    mean, std = compute_pixel_stats(facts.sum_used_views(used)[rows], used[rows], 6)
    chosen = pixels[rows][used[rows]] / 255.0
    np.testing.assert_allclose(mean, chosen.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, chosen.std((0, 2, 3)), rtol=1e-9, atol=1e-12)
