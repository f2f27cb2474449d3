"""The report of a comparison: a page, a table for programs beside it, and a short table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geoguesser.evaluation.comparison import BETTER, UNCLEAR, WORSE, Comparison, GroupResult
from geoguesser.evaluation.intervals import Interval
from geoguesser.reporting.comparison.page import render_comparison
from geoguesser.reporting.comparison.places import SpreadPlace
from geoguesser.reporting.comparison.text import (
    Numbers,
    format_headline,
    format_resampling,
    format_runs,
    list_notes,
)
from geoguesser.system.files import write_csv, write_text
from geoguesser.system.text import (
    format_confidence,
    format_count,
    format_p_value,
    format_seconds,
    replace_unprintable,
    shorten,
)

STYLES = {BETTER: "green", WORSE: "red", UNCLEAR: "yellow"}


def write_comparison(comparison: Comparison, places: Sequence[SpreadPlace], out: Path, *, pictures: bool) -> Path:
    """Writes the page, and beside it a CSV file with a row per configuration, each whole or not at all.

    Returns:
        The CSV file.
    """
    write_text(out, render_comparison(comparison, places, pictures=pictures))
    table = out.with_suffix(".csv")
    write_csv(table, make_table(comparison))
    return table


def make_table(comparison: Comparison) -> pd.DataFrame:
    """One row per configuration: what differs in it, its figures, its difference from the baseline."""
    rows = []
    for at, entry in enumerate(comparison.entries):
        row = _figures(entry) | {key: values[at] for key, values in comparison.columns.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _figures(entry: GroupResult) -> dict[str, Any]:
    group, found = entry.group, entry.difference
    row: dict[str, Any] = {
        "group": entry.letter,
        "configuration": entry.label,
        "runs": " ".join(run.name for run in group.runs),
        "seeds": " ".join(map(str, group.seeds)),
        "folds": " ".join(map(str, group.folds)),
        "test_places": len(group.uuid),
        "drawn": "" if entry.units is None else str(entry.units),
        **_limits("error_km_mean", entry.mean),
        **_limits("error_km_median", entry.median),
        "seed_std_km": entry.seed_std_km,
        "val_error_km_mean": entry.val_km,
        "fit_s": entry.fit_s,
        "total_s": entry.total_s,
        "verdict": "baseline" if found is None else found.verdict,
        "shared_places": None if found is None else found.places,
        **_limits("difference_km_mean", None if found is None else found.mean),
        **_limits("difference_km_median", None if found is None else found.median),
    }
    for name in ("nearer", "p", "p_holm"):
        row[name] = None if found is None else getattr(found, name)
    return row


def _limits(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def print_comparison(comparison: Comparison) -> None:
    """Prints the short report: the table, what came of it, what to know, which runs are not in it."""
    console = Console(soft_wrap=True, highlight=False)
    runs = sum(len(entry.group.runs) for entry in comparison.entries)
    confidence = format_confidence(comparison.settings.confidence)
    configurations = format_count(len(comparison.entries), "configuration")
    title = f"{configurations}, {format_count(runs, 'run')}; {confidence} intervals"
    console.print(Text(title, style="bold"))
    for entry in comparison.entries:
        more = f"  ({format_runs(entry)}; {format_resampling(entry)}; training {format_seconds(entry.fit_s)})"
        console.print(
            Text.assemble((f"  {entry.letter}  ", "bold"), replace_unprintable(entry.label), (more, "dim"))
        )
    console.print(_table(comparison))
    console.print(Text(replace_unprintable(format_headline(comparison)), style="bold"))
    for note in list_notes(comparison):
        console.print(Text(replace_unprintable(f"- {note}")))
    for one in comparison.unused:
        reason = f": {shorten(one.reason, 160)}" if one.reason else ""
        console.print(Text(replace_unprintable(f"not used: {one.name} ({one.state}){reason}"), style="yellow"))


def _table(comparison: Comparison) -> Table:
    """As wide as a terminal of 80 columns: intervals stand below their figures, configurations above the table."""
    numbers = Numbers(comparison)
    table = Table(title_justify="left")
    table.add_column("")
    for column in ("mean km", "median km", "difference", "verdict"):
        table.add_column(column, justify="left" if column == "verdict" else "right", no_wrap=True)
    for entry in comparison.entries:
        found = entry.difference
        verdict = "baseline" if found is None else found.verdict
        p = "" if found is None or found.p_holm is None else f"p {format_p_value(found.p_holm)}"
        difference = "" if found is None or found.mean is None else numbers.signed(found.mean.value)
        below = "" if found is None else numbers.limits(found.mean, signed=True)
        table.add_row(
            Text(entry.letter, style="bold"),
            f"{numbers.km(entry.mean.value)}\n{numbers.limits(entry.mean)}",
            f"{numbers.km(entry.median.value)}\n{numbers.limits(entry.median)}",
            f"{difference}\n{below}",
            Text.assemble((verdict, STYLES.get(verdict, "")), f"\n{p}"),
        )
    return table
