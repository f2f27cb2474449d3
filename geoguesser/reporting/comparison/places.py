"""Places on which the compared runs differ most, with their photos if the data are still present."""

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
    """Place on which the compared runs differ.

    Attributes:
        coords_deg: (2,) true point.
        errors_km: (E,) errors of the entries of the comparison; NaN for an entry without the place.
        predicted_deg: (E, 2) points predicted by the first seed of each entry; NaN for an entry without the place.
    """

    uuid: str
    coords_deg: FloatArray
    errors_km: FloatArray
    predicted_deg: FloatArray
    photos: list[SamplePhoto] | None


def find_spread_places(comparison: Comparison, max_places: int) -> list[SpreadPlace]:
    """Finds the places with the largest range of errors between groups, in descending order.

    Only places that all groups were tested on are taken. Groups that share too few places with the baseline to be
    compared with it do not count.
    """
    base = comparison.entries[comparison.baseline].group
    compared = [entry.group for entry in comparison.entries if entry.difference and entry.difference.mean]
    if not compared or max_places < 1:
        return []

    shared = find_shared_places(base, base)
    for group in compared:
        shared = shared.intersection(find_shared_places(base, group))

    errors_km = np.stack([_select_rows(group, group.error_km, shared) for group in (base, *compared)])
    chosen = shared[np.argsort(-np.ptp(errors_km, axis=0), kind="stable")[:max_places]]

    groups = [entry.group for entry in comparison.entries]
    errors_km = np.stack([_select_rows(group, group.error_km, chosen) for group in groups])
    predicted_deg = np.stack([_select_rows(group, group.predicted_deg, chosen) for group in groups])
    true_deg = _select_rows(base, base.true_deg, chosen)
    sources = find_sources(run.config for group in groups for run in group.runs)
    photos = [load_photos(uuid, sources) for uuid in chosen]
    columns = zip(chosen, true_deg, errors_km.T, np.moveaxis(predicted_deg, 1, 0), photos, strict=True)
    return [SpreadPlace(*values) for values in columns]


def _select_rows(group: RunGroup, values: FloatArray, uuid: pd.Index[str]) -> FloatArray:
    """Returns the rows of places from a group's values; NaN for places that the group did not test."""
    rows = group.uuid.get_indexer(uuid)
    selected = values[rows].astype(np.float64)
    selected[rows < 0] = np.nan
    return selected
