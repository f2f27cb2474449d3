"""Views for a comparison: the places on which the runs differ most, with their photos where these still lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.data.sample_photos import SamplePhoto
from geoguesser.evaluation.comparison import Comparison, find_shared_places
from geoguesser.evaluation.run_groups import RunGroup
from geoguesser.runs.run_images import find_sources, load_photos


@dataclass(frozen=True)
class SpreadPlace:
    """A place on which the runs differ.

    Attributes:
        uuid: Its id.
        coords_deg: (2,) where it is.
        errors_km: (E,) the error of each entry of the comparison; NaN for one that was tested on other places.
        answers_deg: (E, 2) where each entry's first seed put it; NaN as in `errors_km`.
        photos: Its four views; None where the data are no longer there.
    """

    uuid: str
    coords_deg: FloatArray
    errors_km: FloatArray
    answers_deg: FloatArray
    photos: list[SamplePhoto] | None


def find_spread_places(comparison: Comparison, most: int) -> list[SpreadPlace]:
    """The places on which the groups differ most.

    Of those that all groups tested; but for groups that share too few with the baseline, which have no say.

    Args:
        comparison: What was compared.
        most: How many at most.

    Returns:
        By descending range of the groups' errors; none where nothing was compared, or no place is shared.
    """
    base = comparison.entries[comparison.baseline].group
    compared = [one.group for one in comparison.entries if one.difference and one.difference.mean]
    if not compared or most < 1:
        return []
    shared = find_shared_places(base, base)
    for group in compared:
        shared = shared.intersection(find_shared_places(base, group))
    errors = np.stack([_errors(group, shared) for group in (base, *compared)])
    order = np.argsort(-np.ptp(errors, axis=0), kind="stable")[:most]
    found = shared[order]
    everyone = np.stack([_errors(entry.group, found) for entry in comparison.entries])
    answers = np.stack([_answers(entry.group, found) for entry in comparison.entries])
    truth = base.true_deg[base.uuid.get_indexer(found)]
    sources = find_sources(run.config for entry in comparison.entries for run in entry.group.runs)
    return [
        SpreadPlace(str(uuid), truth[at], everyone[:, at], answers[:, at], load_photos(str(uuid), sources))
        for at, uuid in enumerate(found)
    ]


def _errors(group: RunGroup, uuid: pd.Index[str]) -> FloatArray:
    """(N,) a group's errors of some places; NaN where it did not test one."""
    at = group.uuid.get_indexer(uuid)
    return np.where(at >= 0, group.error_km[at], np.nan)


def _answers(group: RunGroup, uuid: pd.Index[str]) -> FloatArray:
    at = group.uuid.get_indexer(uuid)
    return np.where(at[:, None] >= 0, group.predicted_deg[at], np.nan)
