"""Compared: groups of runs with their figures, intervals, and differences from a baseline; plain values.

What is read comes from compare_runs.py and compare_groups.py, how sure it is from intervals.py. Pages and
tables only show what is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError
from geoguesser.evaluation.bootstrap import Resampling
from geoguesser.evaluation.intervals import (
    MIN_PLACES,
    MIN_PLACES_FOR_MEAN,
    Interval,
    SeedNoise,
    adjust_holm,
    combine_seed_noise,
    compute_mean_interval,
    compute_median_interval,
    compute_p_value,
    compute_seed_noise,
)
from geoguesser.evaluation.resampling_units import ResamplingUnits, make_units
from geoguesser.evaluation.run_groups import Choices, RunGroup, find_differences, group_runs
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.runs.run_folder import Run, UnusedRun

MAX_SHIFT_KM = 0.1  # a place with the same id in two runs must lie where it was
BASELINE, BETTER, WORSE, WITHIN_NOISE, NOT_CLEAR, NOT_COMPARED = (
    "baseline", "better", "worse", "within noise", "not clear", "not compared",
)  # fmt: skip


@dataclass(frozen=True)
class ComparisonSettings:
    """How a comparison is made.

    Attributes:
        confidence: Of all intervals, above 0.5 and below 1.
        samples: Of the bootstrap.
        seed: Draws them.
        block_km: As `make_units` takes it.
    """

    confidence: float = 0.95
    samples: int = 5000
    seed: int = 0
    block_km: float | None = None


@dataclass(frozen=True)
class GroupDifference:
    """A group against the baseline, over the places that both tested; below 0 the group is better.

    Attributes:
        places: How many those are.
        units: What was drawn; None where there were too few places.
        mean: Of the errors' differences, in km; None with `units`.
        median: Of the same: what it is for a typical place; None with `units`.
        nearer: The share of places that the group put nearer, ties counting half.
        p: Of the mean difference.
        p_holm: The same, allowing for all the comparisons made.
        verdict: One of better, worse, within noise, not clear, not compared.
        seeds: Whether the interval holds the noise of seeds of both sides, one or none: 2, 1 or 0.
    """

    places: int
    units: ResamplingUnits | None
    mean: Interval | None = None
    median: Interval | None = None
    nearer: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str = NOT_COMPARED
    seeds: int = 0


@dataclass(frozen=True)
class GroupResult:
    """One group with its figures.

    Attributes:
        letter: A, B, C by mean error.
        label: What is special about it, for example `head=regression, grid.size=60`.
        group: Its runs.
        units: What was drawn for its intervals; None where there are too few places.
        mean: Mean error in km, over its seeds and test places.
        median: Median over its test places of the error in km, which is each place's mean over seeds.
        seed_std_km: Standard deviation of the seeds' mean errors; None for one seed.
        val_km: Mean validation error at the best epoch, over its runs.
        fit_s: Seconds of training: mean over seeds, sum over folds.
        total_s: The same of whole runs.
        difference: From the baseline; None for the baseline itself.
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
    """All that was compared.

    Attributes:
        entries: At least one, by ascending mean error.
        baseline: Which of them the others are compared with.
        columns: Key -> a value for each entry: what differs in their configs.
        unused: Runs that are not in it.
        settings: How it was made.
        region: Where the places lie.
    """

    entries: tuple[GroupResult, ...]
    baseline: int
    columns: dict[str, list[str]]
    unused: tuple[UnusedRun, ...]
    settings: ComparisonSettings
    region: Region

    @property
    def same_places(self) -> bool:
        """Whether all groups were tested on the same places."""
        first = set(self.entries[0].group.uuid)
        return all(set(entry.group.uuid) == first for entry in self.entries[1:])


def compare_groups(
    runs: Sequence[Run],
    unused: Sequence[UnusedRun],
    region: Region,
    settings: ComparisonSettings,
    *,
    choices: Choices,
    baseline: str | None = None,
) -> Comparison:
    """Compares runs.

    Args:
        runs: At least one.
        unused: Those that were left out already.
        region: Where the places lie.
        settings: How.
        choices: As `differing` takes it.
        baseline: The name of a run in the group that the others are compared with; None for the group of
            lowest validation error, which no test place chose.

    Raises:
        ConfigError: No run has the baseline's name.
    """
    groups, repeats = group_runs(runs)
    chosen = _baseline(groups, baseline)
    drawing = _Drawing(region, settings)
    order = sorted(range(len(groups)), key=lambda at: float(groups[at].error_km.mean()))
    columns = {key: [values[at] for at in order] for key, values in find_differences(groups, choices).items()}
    entries = [
        _entry(groups[at], format_letter(rank), _label(groups[at], columns, rank), drawing)
        for rank, at in enumerate(order)
    ]
    at = order.index(chosen)
    entries = _with_differences(entries, at, drawing)
    return Comparison(tuple(entries), at, columns, (*unused, *repeats), settings, region)


def format_letter(rank: int) -> str:
    """A, B, .. Z, AA, AB, .."""
    before, last = divmod(rank, 26)
    return (format_letter(before - 1) if before else "") + chr(ord("A") + last)


def _label(group: RunGroup, columns: dict[str, list[str]], rank: int) -> str:
    parts = [f"{key}={values[rank]}" for key, values in columns.items() if values[rank] != "–"]
    return ", ".join(parts) or group.runs[0].name


def _baseline(groups: Sequence[RunGroup], name: str | None) -> int:
    if name is None:
        return min(range(len(groups)), key=lambda at: _val_km(groups[at]))
    names = [run.name for group in groups for run in group.runs]
    asked = name.rstrip("/")
    for at, group in enumerate(groups):
        if any(
            asked in (run.name, str(run.folder)) or str(run.folder).endswith(f"/{asked}") for run in group.runs
        ):
            return at
    raise ConfigError.at("baseline", f"must be one of the runs: {', '.join(names)}", found=name)


def _val_km(group: RunGroup) -> float:
    return float(np.mean([run.result["val"]["error_km_mean"] for run in group.runs]))


class _Drawing:
    """The resamples for each set of places, drawn once."""

    def __init__(self, region: Region, settings: ComparisonSettings) -> None:
        self.region, self.settings = region, settings
        self._drawn: dict[tuple[str, ...], tuple[ResamplingUnits, Resampling]] = {}

    def of(self, uuid: pd.Index[str], coords_deg: FloatArray) -> tuple[ResamplingUnits, Resampling]:
        key = tuple(uuid)
        if key not in self._drawn:
            settings = self.settings
            units = make_units(self.region, coords_deg, settings.block_km)
            self._drawn[key] = units, Resampling(units.unit, samples=settings.samples, seed=settings.seed)
        return self._drawn[key]


def _entry(group: RunGroup, letter: str, label: str, drawing: _Drawing) -> GroupResult:
    order = group.uuid.argsort()  # so that runs with the same places share their draws
    errors = group.errors[:, order]
    over_seeds = errors.mean(axis=0)
    units: ResamplingUnits | None = None
    mean, median = Interval(float(over_seeds.mean())), Interval(float(np.median(over_seeds)))
    if len(order) >= MIN_PLACES:
        confidence = drawing.settings.confidence
        units, draws = drawing.of(group.uuid[order], group.true_deg[order])
        if len(order) >= MIN_PLACES_FOR_MEAN:
            mean = compute_mean_interval(draws.mean(over_seeds), confidence, compute_seed_noise(errors))
        median = compute_median_interval(draws, over_seeds, confidence)
    return GroupResult(
        letter,
        label,
        group,
        units,
        mean,
        median,
        float(errors.mean(axis=1).std(ddof=1)) if len(errors) > 1 else None,
        _val_km(group),
        _seconds(group, "fit_s"),
        _seconds(group, "total_s"),
    )


def _seconds(group: RunGroup, name: str) -> float:
    times: dict[int, float] = {}
    for run in group.runs:
        times[run.seed] = times.get(run.seed, 0.0) + float(run.result["times"][name])
    return float(np.mean(list(times.values())))


def _with_differences(entries: list[GroupResult], baseline: int, drawing: _Drawing) -> list[GroupResult]:
    """Adds the differences from the baseline, with p-values that allow for how many there are."""
    own = entries[baseline]
    found = {at: _difference(entry, own, drawing) for at, entry in enumerate(entries) if at != baseline}
    tested = [at for at, one in found.items() if one.p is not None]
    adjusted = dict(zip(tested, adjust_holm([found[at].p or 0.0 for at in tested]), strict=True))
    return [
        replace(entry, difference=_judged(found[at], adjusted.get(at), drawing.settings.confidence))
        if at in found
        else entry
        for at, entry in enumerate(entries)
    ]


def find_shared_places(a: RunGroup, b: RunGroup) -> pd.Index[str]:
    """The places that two groups tested, in order of their ids; not those that lie elsewhere in the other."""
    both = a.uuid.intersection(b.uuid).sort_values()
    moved_km = haversine_km(a.true_deg[a.uuid.get_indexer(both)], b.true_deg[b.uuid.get_indexer(both)])
    return both[moved_km <= MAX_SHIFT_KM]


def _difference(entry: GroupResult, baseline: GroupResult, drawing: _Drawing) -> GroupDifference:
    a, b = entry.group, baseline.group
    shared = find_shared_places(a, b)
    if len(shared) < MIN_PLACES:
        return GroupDifference(len(shared), None)
    at, bt = a.uuid.get_indexer(shared), b.uuid.get_indexer(shared)
    ours, theirs = a.errors[:, at], b.errors[:, bt]
    units, draws = drawing.of(shared, a.true_deg[at])
    change = ours.mean(axis=0) - theirs.mean(axis=0)
    noises = [compute_seed_noise(ours), compute_seed_noise(theirs)]
    seeds: SeedNoise | None = combine_seed_noise(*noises)
    pivot, confidence = draws.mean(change), drawing.settings.confidence
    return GroupDifference(
        len(shared),
        units,
        compute_mean_interval(pivot, confidence, seeds),
        compute_median_interval(draws, change, confidence),
        float((change < 0).mean() + (change == 0).mean() / 2.0),
        compute_p_value(pivot, seeds),
        seeds=sum(noise is not None for noise in noises),
    )


def _judged(found: GroupDifference, p_holm: float | None, confidence: float) -> GroupDifference:
    if found.mean is None or p_holm is None or found.p is None:
        return found
    miss = 1.0 - confidence
    verdict = WITHIN_NOISE
    if p_holm < miss:
        verdict = BETTER if found.mean.value < 0 else WORSE
    elif found.p < miss:
        verdict = NOT_CLEAR
    return replace(found, p_holm=p_holm, verdict=verdict)
