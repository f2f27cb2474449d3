"""Decides which views are used and which places are left out, given the findings about their images.

The same rule holds for all kinds: an image that is left out costs its view if `data.missing_views` is mask, and
its place otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geoguesser.arrays import BoolArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import OK, PLACEHOLDER, ImageStats
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import check_choice


def check_missing_views(value: object) -> bool:
    """Returns True for mask, False for drop; raises ConfigError for another value of `data.missing_views`."""
    return check_choice("data.missing_views", value, ("drop", "mask")) == "mask"


def filter_views(
    table: pd.DataFrame,
    stats: ImageStats,
    image_findings: list[tuple[int, int, Finding]],
    findings: Findings,
    *,
    allow_missing_views: bool,
    max_size: int,
) -> tuple[BoolArray, BoolArray]:
    """Records the findings about images, and decides which views and places are kept.

    `image_findings` holds row, index of the heading, and finding. With `allow_missing_views`, a place is left out
    only if no view remains. An image of less than half of `max_size` pixels is a finding.

    Returns (N, 4) True for each view that is used, and (N,) True for each place that is left out.

    Raises DataError if the action of a recorded kind is `error`.
    """
    image_findings = image_findings + _find_small_images(table, stats, max_size)
    findings.record(finding for _, _, finding in image_findings)

    state = stats.views["state"]
    used = (state == OK) | (state == PLACEHOLDER)
    for row, heading, finding in image_findings:
        used[row, heading] &= findings.keeps(finding.kind)
    if not allow_missing_views:
        return used, ~used.all(axis=1)

    dropped = ~used.any(axis=1)
    findings.record(
        Finding("no_view", str(where), "has no view that can be used")
        for where in table["row"].to_numpy()[dropped]
    )
    return used, dropped


def _find_small_images(table: pd.DataFrame, stats: ImageStats, max_size: int) -> list[tuple[int, int, Finding]]:
    """Finds images that are enlarged more than twice, from their headers, whatever sizes were packed."""
    views = stats.views
    shorter = np.minimum(views["width"], views["height"])
    image_findings = []
    for row, heading in zip(*np.nonzero((views["state"] == OK) & (2 * shorter < max_size)), strict=True):
        size = f"{views['width'][row, heading]} x {views['height'][row, heading]} pixels"
        where = f"{table['row'].iloc[row]}, heading {HEADINGS[heading]}"
        finding = Finding("small_image", where, f"is {size}, for views of {max_size}")
        image_findings.append((int(row), int(heading), finding))
    return image_findings
