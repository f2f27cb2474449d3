"""Selection of the places that are split: filtering by findings, then deduplication."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from geoguesser.arrays import BoolArray, IntArray
from geoguesser.data.checks.duplicates import Match, find_duplicates
from geoguesser.data.checks.filtering import filter_views
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import ImageStats
from geoguesser.data.places import get_coords


class Selection(NamedTuple):
    """Places of a table that passed all checks.

    Attributes:
        rows: (M,) rows of the places in the table.
        mask: (M, 4) True for each view that is used.
        groups: (M,) number of the group of each place; duplicates that are all kept share a group.
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
    allow_missing_views: bool,
    max_size: int,
    recorded: BoolArray | None = None,
) -> Selection:
    """Filters the places of a table by the findings about their images, and removes duplicates from the others.

    Arguments are those of `filter_views`; `recorded` is (N,) True for each place of an existing store. These
    places are kept, and their duplicates dropped.

    Raises DataError if the action of a recorded kind is `error`.
    """
    used, dropped = filter_views(
        table, stats, image_findings, findings, allow_missing_views=allow_missing_views, max_size=max_size
    )
    rows = np.flatnonzero(~dropped)

    remaining = table.iloc[rows].reset_index(drop=True)
    in_store = None if recorded is None else recorded[rows]
    duplicates = find_duplicates(remaining, get_coords(remaining), stats.take(rows), findings, in_store=in_store)

    kept = np.flatnonzero(~duplicates.dropped)
    matches = [
        match._replace(row=int(rows[match.row]), earlier=int(rows[match.earlier])) for match in duplicates.matches
    ]
    return Selection(rows[kept], used[rows[kept]], duplicates.groups[kept], matches)
