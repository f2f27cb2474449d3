"""Selection of the places that are split: filtering by findings, then deduplication."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from geoguesser.arrays import BoolArray, IntArray
from geoguesser.data.checks.duplicates import Match, find_duplicates
from geoguesser.data.checks.filtering import filter_views
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import ImageStats
from geoguesser.data.places import get_coords


@dataclass(frozen=True)
class Selection:
    """Places of a table that passed all checks.

    Attributes:
        rows: (M,) rows of the places in the table.
        mask: (M, 4) True for each view that is used.
        groups: (M,) number of the group of each place; duplicates that are all kept share a group.
        matches: Pairs of duplicates, by row of the table.
    """

    rows: IntArray
    mask: BoolArray
    groups: IntArray
    matches: list[Match]


def select_places(
    table: pd.DataFrame,
    stats: ImageStats,
    image_findings: list[tuple[int, int, Finding]],
    findings: Findings,
    *,
    mask: bool,
    max_size: int,
    recorded: BoolArray | None = None,
) -> Selection:
    """Filters places by the findings about their images, and removes duplicates from the others.

    Args:
        table: N places, as `geoguesser.data.places.read_places` returns them.
        stats: Statistics of their images.
        image_findings: Row, number of the heading, and finding, for each defect or peculiarity of an image.
        findings: Receives all findings, and states the action for each kind.
        mask: Leave out single views, and a place only if no view remains.
        max_size: Largest size of views in pixels.
        recorded: (N,) True for a place that a store recorded; its duplicates are dropped first.

    Raises:
        DataError: The action of a recorded kind is `error`.
    """
    used, dropped = filter_views(table, stats, image_findings, findings, mask=mask, max_size=max_size)
    rows = np.flatnonzero(~dropped)

    remaining = table.iloc[rows].reset_index(drop=True)
    first = None if recorded is None else recorded[rows]
    duplicates = find_duplicates(remaining, get_coords(remaining), stats.take(rows), findings, first=first)

    kept = np.flatnonzero(~duplicates.dropped)
    matches = [
        replace(match, row=int(rows[match.row]), earlier=int(rows[match.earlier])) for match in duplicates.matches
    ]
    return Selection(rows[kept], used[rows[kept]], duplicates.groups[kept], matches)
