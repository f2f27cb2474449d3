"""Choice of the places and pairs of duplicates that the page of a dataset shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.arrays import BoolArray
from geoguesser.data.checks.duplicates import Match
from geoguesser.data.splits import SPLIT_NAMES


def pick_samples(splits: npt.NDArray[Any], has_view: BoolArray, max_places: int = 6) -> list[int]:
    """Returns the rows of places to show, evenly spaced in each split.

    `has_view` is (N, 4), True for views in use. If any place lacks a view, one such place is included.
    """
    per_split = -(-max_places // len(SPLIT_NAMES))
    picked: list[int] = []
    for name in SPLIT_NAMES:
        rows = np.flatnonzero(splits == name)
        if len(rows):
            # Without the two ends, the rows are inside the split; a split with one place gives that place.
            spaced = np.linspace(0, len(rows) - 1, per_split + 2)[1:-1].astype(np.int64)
            picked += rows[np.unique(spaced)].tolist()

    incomplete = np.flatnonzero(~has_view.all(axis=1))[:1].tolist()
    if incomplete and incomplete[0] not in picked:
        picked = [*picked[: max_places - 1], *incomplete]
    return picked[:max_places]


def pick_pairs(matches: Sequence[Match], max_pairs: int = 6) -> list[Match]:
    """Returns the pairs to show, grouped by kind.

    Kinds take turns: the first pair of each kind is chosen, then the second of each kind, and so on.
    """
    kinds = dict.fromkeys(match.kind for match in matches)
    by_kind = {kind: [match for match in matches if match.kind == kind] for kind in kinds}

    ranked = [(rank, match) for group in by_kind.values() for rank, match in enumerate(group)]
    chosen = [match for _, match in sorted(ranked, key=lambda pair: pair[0])[:max_pairs]]
    return [match for group in by_kind.values() for match in group if match in chosen]
