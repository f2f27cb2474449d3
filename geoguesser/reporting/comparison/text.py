"""What a comparison says in words and numbers; terminal, page and table say the same."""

from __future__ import annotations

import math

import numpy as np

from geoguesser.evaluation.comparison import NOISE, REFUSED, UNCLEAR, Comparison, GroupDifference, GroupResult
from geoguesser.evaluation.intervals import MIN_FOR_MEAN, MIN_PLACES, Interval
from geoguesser.runs.run_folder import Unused
from geoguesser.system.text import format_count, format_interval, format_limits, join_words

MINUS = "\N{MINUS SIGN}"


class Numbers:
    """How distances are written throughout one comparison: with as many digits as its largest mean bears."""

    def __init__(self, comparison: Comparison) -> None:
        largest = max(entry.mean.value for entry in comparison.entries)
        self.digits = 0 if largest >= 1000 else 1 if largest >= 10 else 2

    def km(self, value: float) -> str:
        """`41.2`."""
        return f"{value:,.{self.digits}f}".replace("-", MINUS)

    def signed(self, value: float) -> str:
        """`+3.1`, `−0.4`."""
        return f"{value:+,.{self.digits}f}".replace("-", MINUS)

    def limits(self, interval: Interval | None, *, signed: bool = False) -> str:
        """`36.0 to 47.1`; empty where there is none."""
        if interval is None:
            return ""
        return format_limits(interval.low, interval.high, self.signed if signed else self.km)

    def interval(self, interval: Interval | None, *, signed: bool = False) -> str:
        """`41.2 (36.0 to 47.1)`."""
        if interval is None:
            return "–"
        write = self.signed if signed else self.km
        return format_interval(interval.value, interval.low, interval.high, write)


def format_runs(entry: GroupResult) -> str:
    """How a group's figure came about: `seed 0`, `3 seeds`, `seeds 0, 1; folds 0 to 4 of 5`."""
    group = entry.group
    text = f"seed {group.seeds[0]}" if len(group.seeds) == 1 else f"{len(group.seeds)} seeds"
    if group.folds:
        total = group.runs[0].folds
        text += (
            f", {len(group.folds)} of {total} folds" if total else f", {format_count(len(group.folds), 'fold')}"
        )
    return text


def format_resampling(entry: GroupResult) -> str:
    """What was drawn for a group's intervals."""
    if entry.units is None:
        return f"{format_count(len(entry.group.uuid), 'place')}, too few for an interval"
    return str(entry.units)


def explain_missing(comparison: Comparison, found: GroupDifference) -> str:
    """More about a verdict that needs it; empty for the others."""
    if found.verdict == REFUSED:
        return f"{format_count(found.places, 'shared place')}, {MIN_PLACES} needed"
    if found.verdict == UNCLEAR:
        return f"among {list_comparisons(comparison)} comparisons"
    return ""


def shorten_reason(one: Unused) -> str:
    """Why a run is not used, without what an error's message may say of the user's machine."""
    if one.state == "repeat":
        return one.reason
    kind = one.reason.partition(":")[0]
    return kind if kind.isidentifier() else ""


def list_comparisons(comparison: Comparison) -> int:
    """How many differences were tested."""
    return sum(entry.difference is not None and entry.difference.p is not None for entry in comparison.entries)


def format_headline(comparison: Comparison) -> str:
    """The result in a sentence or two."""
    numbers, base = Numbers(comparison), comparison.entries[comparison.baseline]
    if len(comparison.entries) == 1:
        return (
            f"One configuration: mean error {numbers.interval(base.mean)} km. There is nothing to compare it with."
        )
    by_verdict: dict[str, list[str]] = {}
    for entry in comparison.entries:
        if entry.difference is not None:
            by_verdict.setdefault(entry.difference.verdict, []).append(entry.letter)
    words = {
        "better": "better than it beyond noise",
        "worse": "worse beyond noise",
        UNCLEAR: "different alone, but not among so many comparisons",
        NOISE: "within noise of it",
        REFUSED: f"not compared, for they share fewer than {MIN_PLACES} test places with it",
    }
    parts = [
        f"{', '.join(by_verdict[verdict])}: {text}" for verdict, text in words.items() if verdict in by_verdict
    ]
    return f"Against the baseline {base.letter} ({numbers.interval(base.mean)} km): " + "; ".join(parts) + "."


def list_notes(comparison: Comparison) -> list[str]:
    """What a reader must know before trusting the table."""
    entries, numbers = comparison.entries, Numbers(comparison)
    found: list[str] = []
    if not comparison.same_places:
        found.append(
            "Not all runs were tested on the same places: their means and medians are not of the same question. "
            "Differences are taken over the places that both of two tested, and say how many those are."
        )
    found += _on_seeds(comparison, numbers)
    few = [entry for entry in entries if MIN_PLACES <= len(entry.group.uuid) < MIN_FOR_MEAN]
    if few:
        found.append(
            f"{join_words([entry.letter for entry in few])}: tested on fewer than {MIN_FOR_MEAN} places. Rare "
            "large misses may be lacking among them, so their means have no interval."
        )
    tests = list_comparisons(comparison)
    if tests > 1:
        found.append(
            f"{tests} comparisons were made with the same baseline. p-values and verdicts allow for that (Holm); "
            "the intervals do not, each is for itself."
        )
    reach = [
        (one.high - one.low) / 2.0
        for entry in entries
        if entry.difference is not None
        and (one := entry.difference.mean) is not None
        and one.low is not None
        and one.high is not None
    ]
    if reach:
        found.append(
            f"A mean difference below about {numbers.km(float(np.median(reach)))} km cannot be told from noise "
            "with these places and seeds. 'Within noise' does not say that two are equally good."
        )
    if len({entry.units is not None and entry.units.block_km is not None for entry in entries}) > 1:
        found.append("Some intervals are over blocks of the map, some over single places: see the table.")
    for entry in entries:
        total = entry.group.runs[0].folds
        if entry.group.folds and total and len(entry.group.folds) < total:
            found.append(
                f"{entry.letter} has {len(entry.group.folds)} of {total} folds: its test places are a part."
            )
    devices = {str(run.result.get("device", "")) for entry in entries for run in entry.group.runs}
    if len(devices) > 1:
        found.append(f"Runs were on different devices ({', '.join(sorted(devices))}): their times do not compare.")
    return found


def _on_seeds(comparison: Comparison, numbers: Numbers) -> list[str]:
    """Whether one seed may be luck, and how large that luck is where it is known."""
    entries = comparison.entries
    spreads = [entry.seed_std_km for entry in entries if entry.seed_std_km is not None]
    single = [entry.letter for entry in entries if entry.seed_std_km is None]
    if not single or len(entries) == 1:
        return []
    who = (
        "Each configuration has"
        if len(single) == len(entries)
        else f"{join_words(single)} {'has' if len(single) == 1 else 'have'}"
    )
    text = f"{who} one seed: the intervals there hold the luck of places, not that of the seed."
    if spreads:
        usual = math.sqrt(sum(spread**2 for spread in spreads) / len(spreads))
        text += f" Between seeds of the others the mean error has a standard deviation of {numbers.km(usual)} km."
    else:
        text += " To know it, train each with several: seed=0,1,2,3,4."
    return [text]
