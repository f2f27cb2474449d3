"""The page of a prepared dataset: report.html, part by part.

What it says comes from reporting/data_summary.py, what it shows from reporting/data_figures.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from geoguesser import __version__
from geoguesser.data.checks.leakage import WITHIN_M
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import Prepared
from geoguesser.reporting import html as page
from geoguesser.reporting.dataset.figures import Figures, format_split
from geoguesser.reporting.dataset.summary import (
    PlaceGroup,
    format_percent,
    group_places,
    list_facts,
    make_size_rows,
    make_split_rows,
    make_title,
)
from geoguesser.reporting.html import Html, tag
from geoguesser.reporting.maps import SPLIT_NAMES
from geoguesser.reporting.style import format_km, format_m

LISTED = 50  # findings of each kind
ACTIONS = {"error": "stops", "skip": "left out", "keep": "noted"}


def render_page(prepared: Prepared, data: PlacesDataModule, out: Path | None, *, pictures: bool) -> str:
    """The text of report.html.

    Args:
        prepared: What preparing found.
        data: The places, with their findings.
        out: The store's folder; None where nothing was packed.
        pictures: Whether the page shows any.
    """
    title = make_title(prepared, data)
    with tempfile.TemporaryDirectory(prefix="geoguesser-report-") as name:
        parts = _parts(prepared, data, Figures(prepared, data, Path(name)) if pictures else None)
    links = [tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in parts]
    return page.page(
        title,
        tag(
            "header",
            tag("h1", title),
            tag("nav", *links, aria_label="contents"),
            *_warnings(prepared),
            _tiles(prepared, data),
            page.facts(list_facts(prepared, data, out)),
        ),
        *(page.section(anchor, heading, *content) for anchor, heading, content in parts),
        tag("footer", f"geoguesser {__version__}, python -m geoguesser.prepare"),
    )


def _parts(
    prepared: Prepared, data: PlacesDataModule, figures: Figures | None
) -> list[tuple[str, str, list[Html]]]:
    """Anchor, heading and content of each part."""
    found = _findings(group_places(data.findings))
    if figures is None:
        return [
            ("splits", "Splits", _splits(prepared)),
            ("images", "Images", _sizes(prepared)),
            ("findings", "Findings", found),
        ]
    return [
        ("splits", "Splits", _splits(prepared)),
        ("map", "Where the places lie", figures.maps_and_distances()),
        ("samples", "Sample places", figures.samples()),
        ("images", "Images", [*_sizes(prepared), *figures.distributions()]),
        ("duplicates", "Places that are the same", figures.duplicates()),
        ("findings", "Findings", found),
    ]


def _warnings(prepared: Prepared) -> list[Html]:
    return [
        tag("p", tag("strong", "Warning: "), sentence, class_="alert", role="note")
        for sentence in prepared.audit["warnings"]
    ]


def _tiles(prepared: Prepared, data: PlacesDataModule) -> Html:
    """The counts that one looks for first."""
    counts = [(len(prepared.table), "places")]
    counts += [(row.places, SPLIT_NAMES.get(row.name, row.name)) for row in make_split_rows(prepared)]
    counts += [(len(prepared.seen) - len(prepared.table), "left out"), (len(data.findings.table()), "findings")]
    return tag("ul", *(tag("li", tag("b", f"{count:,}"), name) for count, name in counts), class_="tiles")


def _splits(prepared: Prepared) -> list[Html]:
    rows = []
    total = len(prepared.table)
    for row in make_split_rows(prepared):
        cells: list[object] = [format_split(row.name), f"{row.places:,} ({format_percent(row.places, total)})"]
        if row.median_km is None or row.within is None:
            cells += ["–"] * (1 + len(WITHIN_M))
        else:
            cells.append(format_km(row.median_km))
            cells += [f"{count:,} ({format_percent(count, row.places)})" for count in row.within]
        rows.append(cells)
    head = ["split", "places", "median", *(f"within {format_m(metres)}" for metres in WITHIN_M)]
    lead = (
        "How far the places of each split lie from the nearest training place "
        "(training places from the nearest other one): the median, and how many lie within so many metres."
    )
    return [page.table(head, rows, lead=lead)]


def _sizes(prepared: Prepared) -> list[Html]:
    sizes = make_size_rows(prepared)
    if not sizes:
        return [tag("p", "No view could be read.", class_="muted")]
    total = sum(count for _, count in sizes)
    rows = [(size, f"{count:,}", format_percent(count, total)) for size, count in sizes]
    lead = "Width and height of the views that are used, as they are in their files."
    return [page.table(["pixels", "views", "share"], rows, lead=lead)]


def _findings(groups: Sequence[PlaceGroup]) -> list[Html]:
    if not groups:
        return [tag("p", "Nothing was found to be wrong or remarkable. findings.csv is empty.")]
    rows = [
        (
            page.joined((group.kind, tag("div", group.what, class_="meaning"))),
            f"{group.action}: {ACTIONS[group.action]}",
            f"{len(group.found):,}",
        )
        for group in groups
    ]
    note = "All of them are in findings.csv, beside this page. What is done about a kind is yours to say: "
    choice = tag("code", "data.on_bad.KIND=error|skip|keep")
    return [
        page.table(["kind", "action", "count"], rows, words=2),
        tag("p", note, choice, class_="small muted"),
        *map(_list, groups),
    ]


def _list(group: PlaceGroup) -> Html:
    """The first findings of a kind, folded away."""
    summary = tag("summary", tag("strong", group.kind), f", {group.action}: {len(group.found):,}")
    items = [tag("li", tag("code", one.where), f" {one.reason}") for one in group.found[:LISTED]]
    rest = len(group.found) - LISTED
    more = [tag("p", f"and {rest:,} more, see findings.csv", class_="small muted")] if rest > 0 else []
    return tag("details", summary, tag("ol", *items, class_="small"), *more)
