"""Output of a comparison: the page, a table for programs beside it, and a short table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from geoguesser.evaluation.comparison import (
    BASELINE,
    BETTER,
    NOT_CLEAR,
    WORSE,
    Comparison,
    GroupDifference,
    GroupResult,
)
from geoguesser.evaluation.intervals import Interval
from geoguesser.reporting.comparison.page import render_comparison
from geoguesser.reporting.comparison.places import SpreadPlace
from geoguesser.reporting.comparison.text import (
    DistanceFormatter,
    format_headline,
    format_resampling,
    format_runs,
    list_notes,
)
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.files import write_csv, write_text
from geoguesser.system.text import (
    format_confidence,
    format_count,
    format_p_value,
    format_seconds,
    replace_unprintable,
    shorten,
)

MAX_REASON_LENGTH = 160
STYLES = {BETTER: "green", WORSE: "red", NOT_CLEAR: "yellow"}


def write_comparison(comparison: Comparison, places: Sequence[SpreadPlace], out: Path, *, pictures: bool) -> Path:
    """Writes the page, and a CSV file with a row per configuration, each atomically; returns the CSV file."""
    write_text(out, render_comparison(comparison, places, pictures=pictures))
    table = out.with_suffix(".csv")
    write_csv(table, make_table(comparison), for_people=True)
    return table


def make_table(comparison: Comparison) -> pd.DataFrame:
    """Returns a row per configuration: its figures, its difference from the baseline, and its config values."""
    return pd.DataFrame([_make_row(entry) for entry in comparison.entries]).assign(**comparison.columns)


def _make_row(entry: GroupResult) -> dict[str, Any]:
    # The baseline has no difference: its columns stay empty.
    group, difference = entry.group, entry.difference or GroupDifference(0, verdict=BASELINE)
    return {
        "group": entry.letter,
        "configuration": entry.label,
        "runs": " ".join(run.name for run in group.runs),
        "seeds": " ".join(map(str, group.seeds)),
        "folds": " ".join(map(str, group.folds)),
        "test_places": len(group.uuid),
        "drawn": "" if entry.units is None else str(entry.units),
        **_split_interval("error_km_mean", entry.mean),
        **_split_interval("error_km_median", entry.median),
        "seed_std_km": entry.seed_std_km,
        "val_error_km_mean": entry.val_km,
        "fit_s": entry.fit_s,
        "total_s": entry.total_s,
        "verdict": difference.verdict,
        "shared_places": None if entry.difference is None else difference.places,
        **_split_interval("difference_km_mean", difference.mean),
        **_split_interval("difference_km_median", difference.median),
        "nearer": difference.nearer,
        "p": difference.p,
        "p_holm": difference.p_holm,
    }


def _split_interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def print_comparison(comparison: Comparison) -> None:
    """Prints the groups, the table, the conclusion, notes, and the runs that are not compared."""
    console = TextConsole()
    runs = sum(len(entry.group.runs) for entry in comparison.entries)
    confidence = format_confidence(comparison.settings.confidence)
    configurations = format_count(len(comparison.entries), "configuration")
    console.print(Text(f"{configurations}, {format_count(runs, 'run')}; {confidence} intervals", style="bold"))

    for entry in comparison.entries:
        details = f"  ({format_runs(entry)}; {format_resampling(entry)}; training {format_seconds(entry.fit_s)})"
        label = replace_unprintable(entry.label)
        console.print(Text.assemble((f"  {entry.letter}  ", "bold"), label, (details, "dim")))
    console.print(_make_terminal_table(comparison))

    console.print(Text(replace_unprintable(format_headline(comparison)), style="bold"))
    for note in list_notes(comparison):
        console.print(Text(replace_unprintable(f"- {note}")))
    for run in comparison.unused:
        reason = f": {shorten(run.reason, MAX_REASON_LENGTH)}" if run.reason else ""
        console.print(Text(replace_unprintable(f"not used: {run.name} ({run.state}){reason}"), style="yellow"))


def _make_terminal_table(comparison: Comparison) -> Table:
    formatter = DistanceFormatter(comparison)
    table = Table("", title_justify="left")
    for column in ("mean km", "median km", "difference", "verdict"):
        table.add_column(column, justify="left" if column == "verdict" else "right", no_wrap=True)

    for entry in comparison.entries:
        difference = entry.difference or GroupDifference(0, verdict=BASELINE)
        p = "" if difference.p_holm is None else f"p {format_p_value(difference.p_holm)}"
        mean = "" if difference.mean is None else formatter.signed(difference.mean.value)
        table.add_row(
            Text(entry.letter, style="bold"),
            f"{formatter.km(entry.mean.value)}\n{formatter.limits(entry.mean)}",
            f"{formatter.km(entry.median.value)}\n{formatter.limits(entry.median)}",
            f"{mean}\n{formatter.limits(difference.mean, signed=True)}",
            Text.assemble((difference.verdict, STYLES.get(difference.verdict, "")), f"\n{p}"),
        )
    return table
