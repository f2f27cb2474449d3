"""Comparison of groups of runs: figures, intervals, and paired differences from a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError
from geoguesser.evaluation.bootstrap import BootstrapSettings, Resampling
from geoguesser.evaluation.intervals import (
    MIN_PLACES,
    MIN_PLACES_FOR_MEAN,
    Interval,
    adjust_holm,
    combine_seed_noise,
    compute_mean_interval,
    compute_median_interval,
    compute_p_value,
    compute_seed_noise,
)
from geoguesser.evaluation.resampling_units import ResamplingUnits, make_units
from geoguesser.evaluation.run_groups import ABSENT, Choices, RunGroup, find_differences, group_runs
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.runs.run_folder import Run, UnusedRun

# Between the true points of one id in two runs.
MAX_SHIFT_KM = 0.1

BASELINE = "baseline"
BETTER, WORSE = "better", "worse"
WITHIN_NOISE, NOT_CLEAR, NOT_COMPARED = "within noise", "not clear", "not compared"


@dataclass(frozen=True)
class GroupDifference:
    """Difference in km of a group's errors from those of the baseline, over shared places. Below 0 it is better.

    Attributes:
        places: Number of shared places.
        units: Units of the bootstrap; None if there are too few shared places, like all figures below.
        nearer: Share of places with a smaller error than that of the baseline; ties count half.
        p: p-value of the mean difference; `p_holm` is adjusted for the number of comparisons.
        verdict: A constant of this module.
    """

    places: int
    units: ResamplingUnits | None = None
    mean: Interval | None = None
    median: Interval | None = None
    nearer: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str = NOT_COMPARED


@dataclass(frozen=True)
class GroupResult:
    """Figures of a group.

    Attributes:
        letter: A, B, C by ascending mean error.
        label: Config values that distinguish the group, for example `head=regression, grid.size=60`.
        units: Units of the bootstrap; None if there are too few places.
        mean: Mean error in km over seeds and test places.
        median: Median over test places of the mean error over seeds, in km.
        seed_std_km: Standard deviation of the mean errors of the seeds; None for one seed.
        val_km: Mean validation error at the best epoch, over the runs.
        fit_s: Training time in seconds: mean over seeds of the sum over folds. `total_s` is that of the run.
        difference: Difference from the baseline; None for the baseline itself.
    """

    letter: str
    label: str
    group: RunGroup
    units: ResamplingUnits | None
    mean: Interval
    median: Interval
    seed_std_km: float | None
    val_km: float
    fit_s: float
    total_s: float
    difference: GroupDifference | None = None


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        entries: At least one group, by ascending mean error.
        baseline: Index of the baseline in `entries`.
        columns: Config keys that differ -> value of each entry.
    """

    entries: tuple[GroupResult, ...]
    baseline: int
    columns: dict[str, list[str]]
    unused: tuple[UnusedRun, ...]
    settings: BootstrapSettings
    region: Region

    @property
    def same_places(self) -> bool:
        """True if all groups were tested on the same places."""
        first = set(self.entries[0].group.uuid)
        return all(set(entry.group.uuid) == first for entry in self.entries[1:])


def compare_groups(
    runs: Sequence[Run],
    unused: Sequence[UnusedRun],
    region: Region,
    settings: BootstrapSettings,
    *,
    choices: Choices,
    baseline: str | None = None,
) -> Comparison:
    """Compares at least one run.

    `unused` are runs that were excluded before, and `choices` are those of `find_differences`. `baseline` is the
    name of a run of the baseline. None stands for the group of lowest validation error, which is a choice without
    the test places. Raises `ConfigError` if no run has that name.
    """
    groups, repeats = group_runs(runs)
    baseline_group = _select_baseline(groups, baseline)
    order = sorted(range(len(groups)), key=lambda number: float(groups[number].error_km.mean()))
    differences = find_differences(groups, choices)
    columns = {key: [values[number] for number in order] for key, values in differences.items()}

    resamples = _ResampleCache(region, settings)
    entries = []
    for rank, number in enumerate(order):
        parts = [f"{key}={values[rank]}" for key, values in columns.items() if values[rank] != ABSENT]
        label = ", ".join(parts) or groups[number].runs[0].name
        entries.append(_summarise_group(groups[number], format_letter(rank), label, resamples))
    rank = next(rank for rank, entry in enumerate(entries) if entry.group is baseline_group)
    entries = _add_differences(entries, rank, resamples)
    return Comparison(tuple(entries), rank, columns, (*unused, *repeats), settings, region)


def format_letter(rank: int) -> str:
    """Returns A, B, .. Z, AA, AB, .. for ranks from 0."""
    before, last = divmod(rank, 26)
    return (format_letter(before - 1) if before else "") + chr(ord("A") + last)


def _select_baseline(groups: Sequence[RunGroup], name: str | None) -> RunGroup:
    if name is None:
        return min(groups, key=_compute_val_km)

    suffix = name.rstrip("/")
    for group in groups:
        if any(suffix == run.name or f"/{run.folder}".endswith(f"/{suffix}") for run in group.runs):
            return group

    names = ", ".join(run.name for group in groups for run in group.runs)
    raise ConfigError.at("baseline", f"must be one of the runs: {names}", found=name)


def _compute_val_km(group: RunGroup) -> float:
    return float(np.mean([run.result["val"]["error_km_mean"] for run in group.runs]))


class _ResampleCache:
    """Units and resamples of each set of places, whose ids are sorted; runs on the same places share them."""

    def __init__(self, region: Region, settings: BootstrapSettings) -> None:
        self.region, self.settings = region, settings
        self._drawn: dict[tuple[str, ...], tuple[ResamplingUnits, Resampling]] = {}

    def get(self, uuid: pd.Index[str], coords_deg: FloatArray) -> tuple[ResamplingUnits, Resampling]:
        key, settings = tuple(uuid), self.settings
        if key not in self._drawn:
            units = make_units(self.region, coords_deg, settings.block_km)
            self._drawn[key] = units, Resampling(units.unit, samples=settings.samples, seed=settings.seed)
        return self._drawn[key]


def _summarise_group(group: RunGroup, letter: str, label: str, resamples: _ResampleCache) -> GroupResult:
    order = group.uuid.argsort()
    errors = group.errors[:, order]
    over_seeds = errors.mean(axis=0)

    units: ResamplingUnits | None = None
    mean, median = Interval(float(over_seeds.mean())), Interval(float(np.median(over_seeds)))
    if len(order) >= MIN_PLACES:
        confidence = resamples.settings.confidence
        units, resampling = resamples.get(group.uuid[order], group.true_deg[order])
        median = compute_median_interval(resampling, over_seeds, confidence)
        if len(order) >= MIN_PLACES_FOR_MEAN:
            mean = compute_mean_interval(resampling.mean(over_seeds), confidence, compute_seed_noise(errors))

    seed_std_km = float(errors.mean(axis=1).std(ddof=1)) if len(errors) > 1 else None
    fit_s, total_s = (_compute_seconds(group, name) for name in ("fit_s", "total_s"))
    val_km = _compute_val_km(group)
    return GroupResult(letter, label, group, units, mean, median, seed_std_km, val_km, fit_s, total_s)


def _compute_seconds(group: RunGroup, name: str) -> float:
    """Returns the mean over seeds of the sum over folds."""
    return sum(float(run.result["times"][name]) for run in group.runs) / len(group.seeds)


def _add_differences(entries: list[GroupResult], baseline: int, resamples: _ResampleCache) -> list[GroupResult]:
    """Adds differences from the baseline, with p-values adjusted for the number of comparisons."""
    differences = {
        rank: _compare(entry.group, entries[baseline].group, resamples)
        for rank, entry in enumerate(entries)
        if rank != baseline
    }
    p_values = {rank: difference.p for rank, difference in differences.items() if difference.p is not None}
    adjusted = dict(zip(p_values, adjust_holm(list(p_values.values())), strict=True))

    alpha = 1.0 - resamples.settings.confidence
    for rank, p_holm in adjusted.items():
        differences[rank] = _judge(differences[rank], p_holm, alpha)
    return [replace(entry, difference=differences.get(rank)) for rank, entry in enumerate(entries)]


def find_shared_places(a: RunGroup, b: RunGroup) -> pd.Index[str]:
    """Returns the sorted ids of places that two groups tested, without places whose true points differ."""
    shared = a.uuid.intersection(b.uuid).sort_values()
    shift_km = haversine_km(a.true_deg[a.uuid.get_indexer(shared)], b.true_deg[b.uuid.get_indexer(shared)])
    return shared[shift_km <= MAX_SHIFT_KM]


def _compare(group: RunGroup, baseline: RunGroup, resamples: _ResampleCache) -> GroupDifference:
    """Returns the difference of a group from the baseline, without a verdict.

    Errors are compared place by place, so that the difficulty of a place, which both share, cancels out.
    """
    shared = find_shared_places(group, baseline)
    if len(shared) < MIN_PLACES:
        return GroupDifference(len(shared))

    rows = group.uuid.get_indexer(shared)
    errors, base_errors = group.errors[:, rows], baseline.errors[:, baseline.uuid.get_indexer(shared)]
    change = errors.mean(axis=0) - base_errors.mean(axis=0)
    seeds = combine_seed_noise(compute_seed_noise(errors), compute_seed_noise(base_errors))

    units, resampling = resamples.get(shared, group.true_deg[rows])
    pivot, confidence = resampling.mean(change), resamples.settings.confidence
    return GroupDifference(
        len(shared),
        units,
        mean=compute_mean_interval(pivot, confidence, seeds),
        median=compute_median_interval(resampling, change, confidence),
        nearer=float((change < 0).mean() + (change == 0).mean() / 2.0),
        p=compute_p_value(pivot, seeds),
    )


def _judge(difference: GroupDifference, p_holm: float, alpha: float) -> GroupDifference:
    assert difference.mean is not None
    assert difference.p is not None
    verdict = WITHIN_NOISE
    if p_holm < alpha:
        verdict = BETTER if difference.mean.value < 0 else WORSE
    elif difference.p < alpha:
        verdict = NOT_CLEAR
    return replace(difference, p_holm=p_holm, verdict=verdict)
