"""The report of `python -m geoguesser.prepare`: what a person wants to read, in the terminal and as a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from geoguesser.data.checks.leakage import WITHIN_M
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import Prepared
from geoguesser.reporting.dataset.page import render_dataset
from geoguesser.reporting.dataset.summary import PlaceGroup, group_places, list_facts, make_split_rows, make_title
from geoguesser.reporting.style import format_km, format_m
from geoguesser.reporting.text import printable
from geoguesser.system.files import write_csv, write_text

EXAMPLES = 2  # of each kind of finding; more are in the page, all in findings.csv
ACTION_STYLES = {"error": "bold red", "skip": "yellow", "keep": ""}


class DataReport:
    """The report of one prepared dataset.

    Args:
        prepared: What preparing found.
        data: The places, with their findings.
        out: The store's folder; None where nothing was packed.
    """

    def __init__(self, prepared: Prepared, data: PlacesDataModule, *, out: Path | None) -> None:
        self.prepared, self.data, self.out = prepared, data, out

    def write(self, folder: Path, *, pictures: bool) -> Path:
        """Writes report.html and findings.csv, each whole or not at all.

        Args:
            folder: Where to; it is made where it is missing.
            pictures: Whether the page shows any.

        Returns:
            The page.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "findings.csv", self.data.findings.to_table())
        path = folder / "report.html"
        write_text(path, render_dataset(self.prepared, self.data, self.out, pictures=pictures))
        return path

    def show(self) -> None:
        """Prints the short report: splits, warnings, findings, what was packed."""
        console = Console(soft_wrap=True, highlight=False)
        console.print(self._splits())
        for sentence in self.prepared.audit["warnings"]:
            console.print(Text(f"Warning: {sentence}", style="bold yellow"))
        for name, sentence in list_facts(self.prepared, self.data, self.out):
            console.print(Text.assemble((f"{name}: ", "bold"), printable(sentence)))
        groups = group_places(self.data.findings)
        total = sum(len(group.found) for group in groups)
        console.print(Text(f"Findings: {total:,}" if groups else "Findings: none", style="bold"))
        for group in groups:
            _print_group(console, group)

    def _splits(self) -> Table:
        title = printable(make_title(self.prepared, self.data))
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        within = [f"within {format_m(metres)}" for metres in WITHIN_M]
        for column in ("split", "places", "nearest training\nplace (median)", *within):
            table.add_column(column, justify="left" if column == "split" else "right")
        for row in make_split_rows(self.prepared):
            cells = ["-"] * (1 + len(WITHIN_M))
            if row.median_km is not None and row.within is not None:
                cells = [format_km(row.median_km), *(f"{count:,}" for count in row.within)]
            table.add_row(row.name, f"{row.places:,}", *cells)
        return table


def _print_group(console: Console, group: PlaceGroup) -> None:
    """One line for the kind, and one for each example."""
    head = (f"  {len(group.found):,} {group.kind}", ACTION_STYLES[group.action])
    console.print(Text.assemble(head, f" ({group.action}): {group.what}"))
    for one in group.found[:EXAMPLES]:
        console.print(Text(printable(f"    {one.where} {one.reason}"), style="dim"))
    rest = len(group.found) - EXAMPLES
    if rest > 0:
        console.print(Text(f"    and {rest:,} more", style="dim"))
