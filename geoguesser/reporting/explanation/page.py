"""The page of a run: report.html, part by part. It shows what reporting/explain_pictures.py drew, and a map."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from PIL import Image

from geoguesser import __version__
from geoguesser.reporting import html as page
from geoguesser.reporting import web_map
from geoguesser.reporting.explanation.gallery import DrawnPicture, Gallery
from geoguesser.reporting.explanation.map_data import to_script_data
from geoguesser.reporting.explanation.subject import Subject
from geoguesser.reporting.explanation.text import PARTS, format_percent
from geoguesser.reporting.html import Html, Keyed, tag
from geoguesser.reporting.style import format_km
from geoguesser.runs.redaction import redact_config
from geoguesser.system.text import format_count

PHOTO_QUALITY = 84
SHOWN_PARTS = ("data", "region", "split", "image", "backbone", "fusion", "head", "grid", "loss", "decoder",
               "finetune", "augment", "optimizer", "schedule")  # fmt: skip
FIGURES = (
    "Errors are great-circle distances from the true to the predicted point, on places that neither trained nor "
    "chose the network."
)
DRIFT_KM = 0.1  # what rounding on another device may move an answer


def render_page(subject: Subject, gallery: Gallery, data: Mapping[str, Any], *, title: str, label: str) -> str:
    """The text of report.html.

    Args:
        subject: The run and its places.
        gallery: The pictures, which are there, and what is missing.
        data: What the map shows, as `explain_data.data_of` gives it.
        title: The heading.
        label: What the data are, where they are no real ones.
    """
    parts = [("map", _map(subject, data))]
    parts += [(name, _pictures(gallery, name)) for name in PARTS]
    parts += [("missing", _missing(gallery)), ("config", _config(subject))]
    parts = [(name, content) for name, content in parts if content]
    links = [tag("a", PARTS[name], href=f"#{name}") for name, _ in parts]
    header = tag(
        "header",
        tag("h1", title),
        tag("nav", *links, aria_label="contents"),
        *_notes(subject, label),
        _tiles(subject.run.result),
        page.facts(_facts(subject)),
    )
    script, style = web_map.load_leaflet()
    text = {name: (files("geoguesser.reporting") / name).read_text(encoding="utf-8") for name in OWN_FILES}
    sections = [page.section(name, PARTS[name], *content) for name, content in parts]
    values = tag("script", to_script_data(dict(data)), type="application/json", id="data")
    footer = tag(
        "footer",
        f"geoguesser {__version__}, python -m geoguesser.report. Leaflet 1.9.4 (BSD-2-Clause) draws the map.",
    )
    scripts = "\n".join((script, page.SORTING, text["explain.js"]))
    return page.page(title, header, *sections, footer, values, script=scripts, style=style + text["explain.css"])


OWN_FILES = ("explain.js", "explain.css")


def _notes(subject: Subject, label: str) -> list[Html]:
    notes = []
    if label.startswith("synthetic"):
        notes.append(
            "The data are synthetic: drawn places, not photographs. No figure here says anything of real ones."
        )
    if subject.drift_km is not None and subject.drift_km > DRIFT_KM:
        notes.append(
            f"The network's answers now differ by up to {format_km(subject.drift_km)} from those that the run "
            "recorded: its images are not what they were, or some were left out."
        )
    return [tag("p", note, class_="alert", role="note") for note in notes]


def _tiles(result: Mapping[str, Any]) -> Html:
    test = result["test"]
    shown = [
        (format_km(test["error_km_mean"]), "mean error"),
        (format_km(test["error_km_median"]), "median error"),
        (format_km(test["error_km_p90"]), "90 % are nearer"),
        (format_percent(test["share_within_km"]["25"]), "within 25 km"),
        (f"{test['score_mean']:,.0f}", "mean score of 5,000"),
        (f"{test['places']:,}", "test places"),
    ]
    return tag("ul", *(tag("li", tag("b", value), name) for value, name in shown), class_="tiles")


def _facts(subject: Subject) -> list[tuple[object, object]]:
    result, test = subject.run.result, subject.run.result["test"]
    pairs: list[tuple[object, object]] = [
        ("figures", FIGURES),
    ]
    if result.get("baseline", {}).get("best_constant"):
        constant = result["baseline"]["best_constant"]["error_km_mean"]
        pairs.append(
            ("best constant", f"One answer for all places, the best there is, would be {format_km(constant)} off.")
        )
    if test.get("cell_top1") is not None:
        pairs.append(
            (
                "cells",
                f"Right cell {format_percent(test['cell_top1'])}, among the first five {format_percent(test['cell_top5'])}.",
            )
        )
    if "best_epoch" in result:
        epochs = f"Best epoch {result['best_epoch'] + 1} of {result['epochs']}; seed {result['seed']}; "
        pairs.append(("training", f"{epochs}{result['times']['total_s']:.0f} s in all on {result['device']}."))
    shown, whole = len(subject.table), len(subject.run.predictions)
    if shown < whole:
        pairs.append(
            ("shown", f"{shown:,} of {whole:,} test places on the map and in the list, evenly by rank of error.")
        )
    return pairs


def _map(subject: Subject, data: Mapping[str, Any]) -> list[Html]:
    embedded = sum("views" in place for place in data["places"])
    what = [
        *(["its posterior (the darker a cell, the more probable)"] if _any(data, "cells") else []),
        *(["its 50 % (whole) and 90 % circles (dashed)"] if _any(data, "radii") else []),
        *(["its views"] if embedded else []),
    ]
    listed = " and ".join(filter(None, (", ".join(what[:-1]), *what[-1:])))
    seen = f" Choose a place to see {listed}." if what else ""
    lead = (
        f"A line runs from where each place is to where the model puts it.{seen} The views of {embedded:,} of "
        f"{format_count(len(data['places']), 'place')} are in this file."
    )
    steps = [tag("i", style=f"background:{colour}") for colour in data["colours"]]
    ramp = tag("div", "0 km", *steps, f"{format_km(data['top_km'])} and more", class_="ramp")
    area = tag("div", id="place-map", tabindex=0, role="application",
               aria_label="map of the test places; arrow keys move it, plus and minus zoom")  # fmt: skip
    hint = tag("p", "The map and the choice of places need JavaScript.", class_="muted")
    stage = tag("div", area, ramp)
    picked = tag("div", hint, id="picked", class_="picked card", aria_live="polite")
    return [
        tag("p", lead, class_="muted"),
        tag("div", stage, picked, _finder(data["places"]), class_="explorer"),
    ]


def _any(data: Mapping[str, Any], name: str) -> bool:
    """Whether any place of the map has it."""
    return any(place.get(name) for place in data["places"])


def _finder(places: list[dict[str, Any]]) -> Html:
    filters = tag(
        "div",
        tag("label", "Filter by id ", tag("input", type="search", id="filter", autocomplete="off")),
        tag("label", tag("input", type="checkbox", id="seen"), " with views alone"),
        tag("span", id="count", class_="muted small", aria_live="polite"),
        class_="filters",
    )
    expected = any("expected" in place for place in places)
    head = ["place", "error km", *(["expected km"] if expected else []), "latitude", "longitude"]
    rows = []
    for number, place in enumerate(places):
        button = tag("button", place["id"], type="button", data_place=number)
        cells: list[object] = [Keyed(button, place["id"]), f"{place['error']:.1f}"]
        if expected:
            known = place.get("expected")
            cells.append(Keyed("–" if known is None else f"{known:.1f}", known))
        rows.append([*cells, *(f"{value:.4f}" for value in place["true"])])
    return tag("div", filters, page.table(head, rows, sortable=True), class_="finder")


def _pictures(gallery: Gallery, part: str) -> list[Html]:
    own = [one for one in gallery.drawn if one.part == part]
    if not own:
        return []
    return [tag("div", *map(_figure, own), class_="gallery")]


def _figure(drawn: DrawnPicture) -> Html:
    data = drawn.file.read_bytes()
    shown = page.image(to_jpeg(data) if drawn.photos else data, alt=drawn.words.title, class_="chart")
    words = tag("figcaption", drawn.words.caption)
    if not drawn.wide:
        return tag("figure", tag("h3", drawn.words.title), shown, words)
    label = f"picture: {drawn.words.title}"
    scrolls = tag("div", shown, class_="scroll", tabindex=0, role="region", aria_label=label)
    return tag("figure", tag("h3", drawn.words.title), scrolls, words, class_="across")


def to_jpeg(png: bytes) -> bytes:
    """A picture with photographs as JPEG: a fifth of its size."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "JPEG", quality=PHOTO_QUALITY, optimize=True)
    return stream.getvalue()


def _missing(gallery: Gallery) -> list[Html]:
    return [page.facts(list(gallery.missing.items()))] if gallery.missing else []


def _config(subject: Subject) -> list[Html]:
    config = redact_config(subject.run.config)
    rows = [(name, shorten_value(config[name])) for name in SHOWN_PARTS if isinstance(config.get(name), Mapping)]
    return [
        tag("p", "What was chosen, without paths; config.yaml in the run folder has all of it.", class_="muted"),
        page.facts([(name, tag("code", text)) for name, text in rows]),
    ]


def shorten_value(node: Mapping[str, Any]) -> str:
    """A node of the config in a line: its target's last name, and its plain values."""
    target = str(node.get("_target_", "")).removesuffix(".fit").rsplit(".", 1)[-1]
    values = [
        f"{key}={value}"
        for key, value in node.items()
        if not str(key).startswith("_") and isinstance(value, str | int | float | bool)
    ]
    return f"{target} {' '.join(values)}".strip()
