"""Report of `python -m geoguesser.prepare`: a short version in the terminal, a page, and findings.csv."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from geoguesser.data.checks.leakage import LEAKAGE_RADII_M
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.reporting.dataset import summary
from geoguesser.reporting.dataset.page import render_dataset
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.files import write_csv, write_text
from geoguesser.system.text import format_km, format_m, replace_unprintable

# Findings of each kind in the terminal; the page shows more, findings.csv all.
MAX_EXAMPLES = 2
ACTION_STYLES = {"error": "bold red", "skip": "yellow", "keep": ""}


class DataReport:
    """Report of one prepared dataset; `out` is the folder of the store, None if nothing was packed."""

    def __init__(self, prepared: PreparedDataset, data: PlacesDataModule, *, out: Path | None) -> None:
        self.prepared, self.data, self.out = prepared, data, out

    def write(self, folder: Path, *, pictures: bool) -> Path:
        """Writes report.html and findings.csv into a folder, which is made if it is missing, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "findings.csv", self.data.findings.to_table(), for_people=True)
        path = folder / "report.html"
        write_text(path, render_dataset(self.prepared, self.data, self.out, pictures=pictures))
        return path

    def show(self) -> None:
        """Prints the short report: splits, warnings, facts and findings."""
        console = TextConsole()
        console.print(self._make_split_table())
        for sentence in self.prepared.audit["warnings"]:
            console.print(Text(f"Warning: {sentence}", style="bold yellow"))
        for name, sentence in summary.list_facts(self.prepared, self.data, self.out):
            console.print(Text.assemble((f"{name}: ", "bold"), replace_unprintable(sentence)))

        groups = summary.group_findings(self.data.findings)
        total = sum(len(group.findings) for group in groups)
        console.print(Text(f"Findings: {total:,}" if groups else "Findings: none", style="bold"))
        for group in groups:
            _print_group(console, group)

    def _make_split_table(self) -> Table:
        title = replace_unprintable(summary.make_dataset_title(self.prepared, self.data))
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        distances = [f"within {format_m(metres)}" for metres in LEAKAGE_RADII_M]
        for column in ("split", "places", "nearest training\nplace (median)", *distances):
            table.add_column(column, justify="left" if column == "split" else "right")

        for row in summary.make_split_rows(self.prepared):
            cells = ["-"] * (1 + len(LEAKAGE_RADII_M))
            if row.median_km is not None and row.within is not None:
                cells = [format_km(row.median_km), *(f"{count:,}" for count in row.within)]
            table.add_row(row.name, f"{row.places:,}", *cells)
        return table


def _print_group(console: Console, group: summary.FindingGroup) -> None:
    count = (f"  {len(group.findings):,} {group.kind}", ACTION_STYLES[group.action])
    console.print(Text.assemble(count, f" ({group.action}): {group.description}"))
    for finding in group.findings[:MAX_EXAMPLES]:
        console.print(Text(replace_unprintable(f"    {finding.where} {finding.reason}"), style="dim"))

    hidden = len(group.findings) - MAX_EXAMPLES
    if hidden > 0:
        console.print(Text(f"    and {hidden:,} more", style="dim"))
