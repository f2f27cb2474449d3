"""The page of a comparison: compare.html, part by part.

Words come from reporting/compare_words.py, pictures from reporting/compare_plots.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from geoguesser import __version__
from geoguesser.evaluation.comparison import BETTER, NOISE, UNCLEAR, WORSE, Comparison, GroupResult
from geoguesser.reporting import html as page
from geoguesser.reporting.comparison import plots
from geoguesser.reporting.comparison.places import SpreadPlace
from geoguesser.reporting.comparison.text import (
    Numbers,
    explain_missing,
    format_headline,
    format_p,
    format_resampling,
    format_runs,
    format_seconds,
    format_share,
    list_notes,
    shorten_reason,
)
from geoguesser.reporting.dataset.samples import make_views_row
from geoguesser.reporting.html import Html, Keyed, tag
from geoguesser.system.text import format_count

MAX_MAPS = 6
LABEL_COLOURS = {BETTER: "#009E73", WORSE: "#D55E00", UNCLEAR: "#D97A00", NOISE: None}

EXPLAINED = (
    ("interval", "What the figure may be, had other places been tested (and other seeds drawn, where a group has "
     "several): in {confidence} of such comparisons it holds the true value."),
    ("blocks", "Near places share their luck. Where test places fill at least 60 blocks of the map, whole blocks "
     "are drawn instead of places, and intervals are as wide as that luck asks for."),
    ("difference", "Of the errors of both on the same places, so that what is hard for both cancels out. "
     "Below 0 the row is better than the baseline. It is far sharper than a look at two intervals: "
     "these may overlap where the difference is clear."),
    ("within noise", "The interval of the difference holds 0. Not that both are equal: "
     "the width says how large a difference may hide there."),
    ("not clear", "The difference alone would count, but so many were looked at that one like it may be chance."),
    ("nearer", "The share of shared places that the row put nearer than the baseline; 50 % is a draw."),
    ("p (Holm)", "How often chance alone would show such a difference, allowing for the number of comparisons."),
    ("validation", "Mean error on the validation places at the best epoch. It chose that epoch, and the baseline; "
     "test places chose nothing. Choose by it: the least of many test errors flatters itself."),
)  # fmt: skip


def render_page(comparison: Comparison, places: Sequence[SpreadPlace], *, pictures: bool) -> str:
    """The text of compare.html.

    Args:
        comparison: What was compared.
        places: Those to show with their views.
        pictures: Whether the page shows charts and maps.
    """
    with tempfile.TemporaryDirectory(prefix="geoguesser-compare-") as name:
        parts = _Parts(comparison, Path(name) if pictures else None, places).all()
    title = f"Comparison of {format_count(len(comparison.entries), 'configuration')}"
    links = [tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in parts]
    header = tag(
        "header",
        tag("h1", title),
        tag("nav", *links, aria_label="contents"),
        tag("p", tag("strong", format_headline(comparison)), class_="card"),
        _tiles(comparison),
        tag("ul", *(tag("li", note) for note in list_notes(comparison)), class_="small"),
    )
    footer = tag("footer", f"geoguesser {__version__}, python -m geoguesser.compare")
    sections = (page.section(anchor, heading, *content) for anchor, heading, content in parts)
    return page.page(title, header, *sections, footer, script=page.SORTING)


def _tiles(comparison: Comparison) -> Html:
    entries = comparison.entries
    sizes = {len(entry.group.uuid) for entry in entries}
    places = f"{min(sizes):,}" if len(sizes) == 1 else f"{min(sizes):,}–{max(sizes):,}"
    counts = [
        (len(entries), "configs"),
        (sum(len(entry.group.runs) for entry in entries), "runs"),
        (places, "test places"),
        (len(comparison.unused), "not used"),
    ]
    return tag("ul", *(tag("li", tag("b", str(count)), name) for count, name in counts), class_="tiles")


class _Parts:
    """The parts of one page."""

    def __init__(self, comparison: Comparison, folder: Path | None, places: Sequence[SpreadPlace]) -> None:
        self.comparison, self.folder, self.places = comparison, folder, places
        self.numbers = Numbers(comparison)
        self.base = comparison.entries[comparison.baseline]

    def all(self) -> list[tuple[str, str, list[Html]]]:
        """Anchor, heading and content of each part."""
        several = len(self.comparison.entries) > 1
        parts = [("results", "Results", self._results())]
        if several:
            parts.append(("differences", f"Against the baseline {self.base.letter}", self._differences()))
        if self.comparison.columns:
            parts.append(("config", "What differs", self._config()))
        if self.folder is not None:
            parts.append(("curves", "Time, errors, learning", self._curves()))
            parts.append(("maps", "Where the errors are", self._maps()))
        if several and self.places:
            parts.append(("places", "Where they differ most", self._places()))
        parts.append(("runs", "Runs", self._runs()))
        parts.append(("reading", "How to read this", self._reading()))
        return parts

    def _results(self) -> list[Html]:
        confidence = format_share(self.comparison.settings.confidence)
        head = ["", "mean km", "spread of seeds", "median km", "validation km", "training", "test places", "runs",
                "configuration"]  # fmt: skip
        rows = [self._result(entry) for entry in self.comparison.entries]
        lead = f"Errors in km with {confidence} intervals, least mean first."
        charts = [
            (lambda path: plots.draw_intervals(path, self.comparison),
             "Mean error of each configuration with its interval",
             f"Mean errors with {confidence} intervals. For differences look below: these may overlap "
             "where a difference is clear."),
        ]  # fmt: skip
        return [page.table(head, rows, words=(0, 7, 8), sortable=True, lead=lead), *self._charts(charts)]

    def _result(self, entry: GroupResult) -> list[object]:
        numbers = self.numbers
        spread = "–" if entry.seed_std_km is None else f"± {numbers.km(entry.seed_std_km)}"
        places = len(entry.group.uuid)
        return [
            self._name(entry),
            Keyed(
                _over(tag("strong", numbers.km(entry.mean.value)), numbers.limits(entry.mean)), entry.mean.value
            ),
            Keyed(spread, entry.seed_std_km),
            Keyed(_over(numbers.km(entry.median.value), numbers.limits(entry.median)), entry.median.value),
            Keyed(numbers.km(entry.val_km), entry.val_km),
            Keyed(format_seconds(entry.fit_s), entry.fit_s),
            Keyed(_over(f"{places:,}", format_resampling(entry)), places),
            format_runs(entry),
            entry.label,
        ]

    def _name(self, entry: GroupResult) -> Html:
        colour = plots.choose_colours(self.comparison).get(entry.letter)
        dot = [] if colour is None else [tag("span", class_="dot", style=f"background:{colour}")]
        return tag("span", *dot, entry.letter, class_="name")

    def _differences(self) -> list[Html]:
        confidence = format_share(self.comparison.settings.confidence)
        head = ["", "verdict", "mean km", "median km", "nearer", "p (Holm)", "shared places", "configuration"]
        rows = [self._difference(entry) for entry in self.comparison.entries if entry.difference is not None]
        own = f"{self.base.letter} ({self.base.label})"
        lead = f"Error less that of {own} on the places that both tested, with {confidence} intervals."
        known = any(entry.difference and entry.difference.mean for entry in self.comparison.entries)
        charts = [
            (lambda path: plots.draw_differences(path, self.comparison),
             f"Mean difference of each configuration from {self.base.letter} with its interval",
             "Left of the line is better. Green and red: beyond noise; grey: within it."),
        ]  # fmt: skip
        return [
            page.table(head, rows, words=(0, 1, 7), lead=lead, sortable=True),
            *(self._charts(charts) if known else []),
        ]

    def _difference(self, entry: GroupResult) -> list[object]:
        numbers, found = self.numbers, entry.difference
        assert found is not None
        verdict = _over(
            tag("span", found.verdict, class_="label", style=_style(found.verdict)),
            explain_missing(self.comparison, found),
        )
        if found.mean is None or found.median is None or found.nearer is None:
            empty = Keyed("–", None)
            return [
                self._name(entry),
                verdict,
                *[empty] * 4,
                Keyed(f"{found.places:,}", found.places),
                entry.label,
            ]
        mean, median = found.mean, found.median
        limits = [numbers.limits(one, signed=True) for one in (mean, median)]
        return [
            self._name(entry),
            verdict,
            Keyed(_over(tag("strong", numbers.signed(mean.value)), limits[0]), mean.value),
            Keyed(_over(numbers.signed(median.value), limits[1]), median.value),
            Keyed(f"{found.nearer:.0%}", found.nearer),
            Keyed(format_p(found.p_holm), found.p_holm),
            Keyed(_over(f"{found.places:,}", str(found.units)), found.places),
            entry.label,
        ]

    def _config(self) -> list[Html]:
        columns = self.comparison.columns
        rows = [
            [self._name(entry), *(values[at] for values in columns.values())]
            for at, entry in enumerate(self.comparison.entries)
        ]
        lead = "Keys that differ, but for names, folders, seeds and folds. Add one to a command as key=value."
        return [page.table(["", *columns], rows, words=len(columns) + 1, lead=lead, sortable=True)]

    def _curves(self) -> list[Html]:
        comparison = self.comparison
        few = len(comparison.entries) > plots.MAX_CURVES
        which = f" The {plots.MAX_CURVES} of least error, with the baseline." if few else ""
        charts: list[tuple[Callable[[Path], None], str, str]] = [
            (lambda path: plots.draw_times(path, comparison),
             "Mean error against time of training, a point per configuration",
             "What is on the dashed line is beaten by none in both. Time of training alone, without reading data "
             "and embedding views; mean over seeds, sum over folds."),
            (lambda path: plots.draw_shares(path, comparison),
             "Share of test places within each distance, a curve per configuration",
             f"Where the errors part: in the near hits or in the far misses.{which}"),
            (lambda path: plots.draw_learning(path, comparison),
             "Mean validation error over the epochs, a curve per run",
             f"Learning curves, a line per run.{which}"),
        ]  # fmt: skip
        return [tag("div", *self._charts(charts), class_="pair")]

    def _maps(self) -> list[Html]:
        entries = plots.select_entries(self.comparison, MAX_MAPS)
        top_km = plots.compute_scale_end(entries)
        scale = self._image(lambda path: plots.draw_scale(path, top_km), "Colours of errors in km")
        maps = [
            (lambda path, entry=entry: plots.draw_error_map(
                path, region=self.comparison.region, entry=entry, top_km=top_km),
             f"Map of the test places of {entry.letter}, coloured by error",
             f"{entry.letter}: {entry.label}; mean {self.numbers.km(entry.mean.value)} km")
            for entry in entries
        ]  # fmt: skip
        few = len(self.comparison.entries) > MAX_MAPS
        lead = "Error of each test place, on one scale." + (
            f" The {MAX_MAPS} of least error, with the baseline." if few else ""
        )
        return [tag("p", lead, class_="muted"), scale, tag("div", *self._charts(maps), class_="pair")]

    def _charts(self, charts: Sequence[tuple[Callable[[Path], None], str, str]]) -> list[Html]:
        if self.folder is None:
            return []
        return [
            tag("figure", self._image(draw, alt), tag("figcaption", caption), class_="below")
            for draw, alt, caption in charts
        ]

    def _image(self, draw: Callable[[Path], None], alt: str) -> Html:
        assert self.folder is not None
        path = self.folder / "chart.png"
        draw(path)
        return page.image(path.read_bytes(), alt=alt, class_="chart")

    def _places(self) -> list[Html]:
        lost = sum(place.photos is None for place in self.places)
        lead = (
            "Places that all those compared were tested on, by the range of their errors. Maps: a star where it "
        )
        lead += "is, letters where the first seed of each configuration put it."
        if lost:
            lead += f" The views of {lost} of them are no longer where the runs' data were: see the coordinates."
        return [tag("p", lead, class_="muted"), tag("div", *map(self._place, self.places), class_="pair")]

    def _place(self, place: SpreadPlace) -> Html:
        latitude, longitude = map(float, place.coords_deg)
        at = f"{abs(latitude):.5f}° {'S' if latitude < 0 else 'N'}, "
        at += f"{abs(longitude):.5f}° {'W' if longitude < 0 else 'E'}"
        known = [
            (float(km), entry)
            for km, entry in zip(place.errors_km, self.comparison.entries, strict=True)
            if np.isfinite(km)
        ]
        pairs = sorted(known, key=lambda pair: pair[0])
        errors = [tag("span", tag("strong", entry.letter), f" {self.numbers.km(km)} km") for km, entry in pairs]
        shown = [] if place.photos is None else [make_views_row(place.photos, place.uuid)]
        if self.folder is not None:
            shown.append(self._answers(place))
        words = [tag("div", *errors, class_="side"), tag("div", at, class_="muted small"), tag("code", place.uuid)]
        return tag("figure", *shown, tag("figcaption", *words), class_="card")

    def _answers(self, place: SpreadPlace) -> Html:
        """A map of where the groups that have curves put a place."""
        colours = plots.choose_colours(self.comparison)
        answers = [
            (entry.letter, colours[entry.letter], answer)
            for entry, answer in zip(self.comparison.entries, place.answers_deg, strict=True)
            if entry.letter in colours and np.isfinite(answer).all()
        ]
        return self._image(
            lambda path: plots.draw_answers(
                path, region=self.comparison.region, true_deg=place.coords_deg, answers=answers
            ),
            f"Map with place {place.uuid} as a star, and where {' '.join(one[0] for one in answers)} put it",
        )

    def _runs(self) -> list[Html]:
        rows: list[list[object]] = []
        for entry in self.comparison.entries:
            for run in entry.group.runs:
                error, epochs = run.result["test"]["error_km_mean"], run.result.get("epochs", "–")
                fold = "–" if run.fold is None else str(run.fold)
                cells = [tag("code", run.name), entry.letter, "done", str(run.seed), fold]
                rows.append([*cells, Keyed(self.numbers.km(error), error), str(epochs)])
        rows += [
            [tag("code", one.name), "–", _over(one.state, shorten_reason(one)), "–", "–", Keyed("–", None), "–"]
            for one in self.comparison.unused
        ]
        head = ["run", "group", "state", "seed", "fold", "mean km", "epochs"]
        return [page.table(head, rows, words=3, sortable=True)]

    def _reading(self) -> list[Html]:
        settings = self.comparison.settings
        confidence = format_share(settings.confidence)
        pairs = [(name, text.format(confidence=confidence)) for name, text in EXPLAINED]
        how = (
            f"{settings.samples:,} resamples, of seed {settings.seed}. Means: the farther of Student's t "
            "and the bootstrap-t on each side; medians: percentiles."
            " docs/compare.md says more, also where this ends."
        )
        return [page.facts([*pairs, ("bootstrap", how)])]


def _over(value: object, below: str) -> Html:
    """A figure with a line below it that says more."""
    return page.joined((value, tag("div", below, class_="meaning"))) if below else page.joined((value,))


def _style(verdict: str) -> str | None:
    colour = LABEL_COLOURS.get(verdict)
    return (
        None if colour is None else f"border-color:{colour};box-shadow:inset .3rem 0 {colour};padding-left:.8rem"
    )
