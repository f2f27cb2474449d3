"""Page of a prepared dataset: report.html, from the template data.html.

Words and counts come from reporting/data_summary.py, pictures and photos from reporting/data_figures.py.
"""

from __future__ import annotations

from pathlib import Path

from geoguesser.data.audit import WITHIN_M
from geoguesser.data.datamodule import PlacesDataModule
from geoguesser.data.preparing import Prepared
from geoguesser.reporting.data_figures import make_figures
from geoguesser.reporting.data_summary import facts_of, groups_of, size_rows, split_rows, title_of
from geoguesser.reporting.maps import SPLIT_COLOURS, SPLIT_NAMES
from geoguesser.reporting.page import render_page
from geoguesser.reporting.style import format_m

MAX_LISTED = 50  # findings of each kind
ACTIONS = {"error": "stops", "skip": "left out", "keep": "noted"}


def data_page(prepared: Prepared, data: PlacesDataModule, out: Path | None, *, pictures: bool) -> str:
    """Returns the text of report.html.

    Args:
        prepared: Result of the preparation.
        data: The places with their findings.
        out: Folder of the store; None if nothing was packed.
        pictures: Whether the page shows pictures and photos.
    """
    splits = split_rows(prepared)
    tiles = [
        (len(prepared.table), "places"),
        *((row.places, SPLIT_NAMES.get(row.name, row.name)) for row in splits),
        (len(prepared.seen) - len(prepared.table), "left out"),
        (len(data.findings.table()), "findings"),
    ]

    return render_page(
        "data.html",
        title=title_of(prepared, data),
        warnings=prepared.audit["warnings"],
        tiles=[(f"{count:,}", name) for count, name in tiles],
        facts=facts_of(prepared, data, out),
        region=data.region.name,
        splits=splits,
        total=len(prepared.table),
        distances=[f"within {format_m(metres)}" for metres in WITHIN_M],
        split_names=SPLIT_NAMES,
        split_colours=SPLIT_COLOURS,
        sizes=size_rows(prepared),
        matches=len(prepared.matches),
        groups=groups_of(data.findings),
        actions=ACTIONS,
        max_listed=MAX_LISTED,
        figures=make_figures(prepared, data) if pictures else None,
    )
