"""Page of a prepared dataset: report.html, from the template data.html."""

from __future__ import annotations

from pathlib import Path

from geoguesser.data.checks.leakage import LEAKAGE_RADII_M
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.reporting.dataset import summary
from geoguesser.reporting.dataset.figures import make_figures
from geoguesser.reporting.html import render_html
from geoguesser.reporting.maps import SPLIT_COLOURS, SPLIT_NAMES
from geoguesser.system.text import format_m

# Maximum number of findings that the page lists for each kind.
MAX_FINDINGS_PER_KIND = 50

# Label of each action of a finding.
ACTION_LABELS = {"error": "stops", "skip": "left out", "keep": "noted"}


def render_dataset(prepared: PreparedDataset, data: PlacesDataModule, out: Path | None, *, pictures: bool) -> str:
    """Returns the text of report.html; `out` is the folder of the store, None if nothing was packed."""
    splits = summary.make_split_rows(prepared)
    key_numbers = [
        (len(prepared.table), "places"),
        *((row.places, SPLIT_NAMES.get(row.name, row.name)) for row in splits),
        (len(prepared.input_table) - len(prepared.table), "left out"),
        (len(data.findings.to_table()), "findings"),
    ]

    return render_html(
        "data.html",
        title=summary.make_dataset_title(prepared, data),
        warnings=prepared.audit["warnings"],
        tiles=[(f"{count:,}", name) for count, name in key_numbers],
        facts=summary.list_facts(prepared, data, out),
        region=data.region.name,
        splits=splits,
        total=len(prepared.table),
        distances=[f"within {format_m(metres)}" for metres in LEAKAGE_RADII_M],
        split_names=SPLIT_NAMES,
        split_colours=SPLIT_COLOURS,
        sizes=summary.make_size_rows(prepared),
        matches=len(prepared.matches),
        groups=summary.group_findings(data.findings),
        actions=ACTION_LABELS,
        max_listed=MAX_FINDINGS_PER_KIND,
        figures=make_figures(prepared, data) if pictures else None,
    )
