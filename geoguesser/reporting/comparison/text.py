"""Texts of a comparison that the terminal, the page and the table all show."""

from __future__ import annotations

import numpy as np

from geoguesser.evaluation.comparison import (
    BETTER,
    NOT_CLEAR,
    NOT_COMPARED,
    WITHIN_NOISE,
    WORSE,
    Comparison,
    GroupDifference,
    GroupResult,
)
from geoguesser.evaluation.intervals import MIN_PLACES, MIN_PLACES_FOR_MEAN, Interval
from geoguesser.runs.run_folder import UnusedRun
from geoguesser.system.text import format_count, format_interval, format_limits, join_words

MINUS = "\N{MINUS SIGN}"
VERDICT_TEXTS = {
    BETTER: "significantly better",
    WORSE: "significantly worse",
    NOT_CLEAR: "significantly different before, but not after, the correction for multiple comparisons",
    WITHIN_NOISE: "no significant difference (within noise)",
    NOT_COMPARED: f"not compared, with fewer than {MIN_PLACES} test places in common with the baseline",
}


class DistanceFormatter:
    """Format of distances in km, with the number of decimals that suits the largest mean error of a comparison."""

    def __init__(self, comparison: Comparison) -> None:
        largest = max(entry.mean.value for entry in comparison.entries)
        self.decimals = 0 if largest >= 1000 else 1 if largest >= 10 else 2

    def km(self, value: float) -> str:
        """Returns `41.2`."""
        return f"{value:,.{self.decimals}f}".replace("-", MINUS)

    def signed(self, value: float) -> str:
        """Returns `+3.1` or `−0.4`."""
        return f"{value:+,.{self.decimals}f}".replace("-", MINUS)

    def limits(self, interval: Interval | None, *, signed: bool = False) -> str:
        """Returns `36.0 to 47.1`; an empty text without limits."""
        if interval is None:
            return ""
        return format_limits(interval.low, interval.high, self.signed if signed else self.km)

    def interval(self, interval: Interval) -> str:
        """Returns `41.2 (36.0 to 47.1)`."""
        return format_interval(interval.value, interval.low, interval.high, self.km)


def format_runs(entry: GroupResult) -> str:
    """Returns the seeds and folds of a group: `seed 0`, `3 seeds`, `2 seeds, 4 of 5 folds`."""
    seeds, folds, total = entry.group.seeds, entry.group.folds, entry.group.runs[0].folds
    text = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    if not folds:
        return text
    return f"{text}, {len(folds)} of {total} folds" if total else f"{text}, {format_count(len(folds), 'fold')}"


def format_resampling(entry: GroupResult) -> str:
    """Returns the units of a group's intervals, for example `72 blocks of 30 km`."""
    if entry.units is None:
        return f"{format_count(len(entry.group.uuid), 'place')}, too few for an interval"
    return str(entry.units)


def explain_verdict(comparison: Comparison, difference: GroupDifference) -> str:
    """Returns an explanation of the verdicts NOT_COMPARED and NOT_CLEAR; an empty text for the others."""
    if difference.verdict == NOT_COMPARED:
        return f"{format_count(difference.places, 'shared place')}, {MIN_PLACES} needed"
    if difference.verdict == NOT_CLEAR:
        return f"among {count_comparisons(comparison)} comparisons"
    return ""


def shorten_reason(run: UnusedRun) -> str:
    """Returns the reason for an unused run, without an error's message, which may name the user's folders."""
    if run.state == "repeat":
        return run.reason

    # For a failed run the reason starts with the name of the exception's class.
    kind = run.reason.partition(":")[0]
    return kind if kind.isidentifier() else ""


def count_comparisons(comparison: Comparison) -> int:
    """Returns the number of differences that were tested."""
    return sum(entry.difference is not None and entry.difference.p is not None for entry in comparison.entries)


def format_headline(comparison: Comparison) -> str:
    """Returns the conclusion in a sentence or two."""
    base = comparison.entries[comparison.baseline]
    mean = DistanceFormatter(comparison).interval(base.mean)
    if len(comparison.entries) == 1:
        return f"One configuration: mean error {mean} km. There is nothing to compare it with."

    differences = {entry.letter: entry.difference for entry in comparison.entries if entry.difference}
    parts = []
    for verdict, text in VERDICT_TEXTS.items():
        if letters := [letter for letter, difference in differences.items() if difference.verdict == verdict]:
            parts.append(f"{', '.join(letters)}: {text}")
    return f"Against the baseline {base.letter} ({mean} km): {'; '.join(parts)}."


def list_notes(comparison: Comparison) -> list[str]:
    """Returns notes on the limits of the comparison."""
    entries, formatter = comparison.entries, DistanceFormatter(comparison)
    notes: list[str] = []
    if not comparison.same_places:
        notes.append(
            "Not all runs were tested on the same places, so their means and medians are not comparable. "
            "Differences are taken over the places that both runs tested."
        )
    notes += _list_seed_notes(comparison, formatter)

    if few := [entry.letter for entry in entries if MIN_PLACES <= len(entry.group.uuid) < MIN_PLACES_FOR_MEAN]:
        notes.append(
            f"{join_words(few)}: tested on fewer than {MIN_PLACES_FOR_MEAN} places. Rare large errors may be "
            "missing among them, so their means have no interval."
        )
    if (tests := count_comparisons(comparison)) > 1:
        notes.append(
            f"{tests} comparisons were made with the same baseline. p-values and verdicts are adjusted for their "
            "number (Holm); intervals are not."
        )

    means = [entry.difference.mean for entry in entries if entry.difference and entry.difference.mean]
    if margins := [(m.high - m.low) / 2.0 for m in means if m.low is not None and m.high is not None]:
        notes.append(
            f"A mean difference below about {formatter.km(float(np.median(margins)))} km cannot be distinguished "
            "from noise with these places and seeds. 'Within noise' does not mean that two are equally good."
        )
    if len({entry.units is not None and entry.units.block_km is not None for entry in entries}) > 1:
        notes.append("Some intervals resample blocks of the map, others single places: see the table.")

    for entry in entries:
        folds, total = len(entry.group.folds), entry.group.runs[0].folds
        if folds and total and folds < total:
            notes.append(f"{entry.letter} has {folds} of {total} folds. Only a part of the places was tested.")
    devices = sorted({str(run.result.get("device", "")) for entry in entries for run in entry.group.runs})
    if len(devices) > 1:
        notes.append(f"Runs used different devices ({', '.join(devices)}), so their times are not comparable.")
    return notes


def _list_seed_notes(comparison: Comparison, formatter: DistanceFormatter) -> list[str]:
    entries = comparison.entries
    spreads = [entry.seed_std_km for entry in entries if entry.seed_std_km is not None]
    single = [entry.letter for entry in entries if entry.seed_std_km is None]
    if not single or len(entries) == 1:
        return []

    subject = "Each configuration has"
    if spreads:
        subject = f"{join_words(single)} {'has' if len(single) == 1 else 'have'}"
    text = f"{subject} one seed. Intervals account for the choice of test places, but not for the random seed."
    if not spreads:
        return [f"{text} To include it, train each configuration with several seeds: seed=0,1,2,3,4."]

    # Root mean square of the standard deviations.
    typical = formatter.km(float(np.sqrt(np.mean(np.square(spreads)))))
    return [f"{text} In the others the mean error varies between seeds with a standard deviation of {typical} km."]
