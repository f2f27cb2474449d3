"""Page of a run: report.html, from the template explain.html; pictures come from reporting/explain_pictures.py."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from geoguesser.reporting import web_map
from geoguesser.reporting.explanation.gallery import DrawnPicture, Gallery
from geoguesser.reporting.explanation.subject import Subject
from geoguesser.reporting.explanation.text import SECTIONS
from geoguesser.reporting.html import read_source, render_html, to_data_uri
from geoguesser.runs.redaction import redact_config
from geoguesser.system.text import join_words

PHOTO_QUALITY = 84
SHOWN_PARTS = ("data", "region", "split", "image", "backbone", "fusion", "head", "grid", "loss", "decoder",
               "finetune", "augment", "optimizer", "schedule")  # fmt: skip
DRIFT_KM = 0.1  # rounding on another device moves an answer by less


def render_explanation(
    subject: Subject, gallery: Gallery, data: Mapping[str, Any], *, title: str, label: str
) -> str:
    """Returns the text of report.html.

    Args:
        subject: The run and its places.
        gallery: The pictures, and the reasons for missing ones.
        data: Values of the map, from `explain_data.data_of`.
        title: Heading of the page.
        label: Kind of data, for data that are not real places.
    """
    script, style = web_map.load_leaflet()
    drift_km = subject.drift_km
    pictures: dict[str, list[dict[str, Any]]] = {
        part: [_picture(drawn) for drawn in gallery.drawn if drawn.part == part] for part in SECTIONS
    }
    pictures = {part: drawings for part, drawings in pictures.items() if drawings}
    config = redact_config(subject.run.config)

    return render_html(
        "explain.html",
        scripts=(script, read_source("sorting.js"), read_source("explain.js")),
        styles=(style, read_source("explain.css")),
        title=title,
        headings=SECTIONS,
        synthetic=label.startswith("synthetic"),
        drift_km=drift_km if drift_km is not None and drift_km > DRIFT_KM else None,
        result=subject.run.result,
        predictions=len(subject.run.predictions),
        places=data["places"],
        embedded=sum("views" in place for place in data["places"]),
        shown_for_place=_describe_shown(data["places"]),
        data=data,
        pictures=pictures,
        missing=gallery.missing,
        config=[
            (name, shorten_value(config[name])) for name in SHOWN_PARTS if isinstance(config.get(name), Mapping)
        ],
    )


def _describe_shown(places: list[dict[str, Any]]) -> str:
    """Lists what the map shows of a chosen place; empty if nothing."""
    texts = {
        "cells": "its posterior (the darker a cell, the more probable)",
        "radii": "its 50 % (whole) and 90 % circles (dashed)",
        "views": "its views",
    }
    shown = [text for name, text in texts.items() if any(place.get(name) for place in places)]
    return join_words(shown)


def _picture(drawn: DrawnPicture) -> dict[str, Any]:
    data = drawn.file.read_bytes()
    source = to_data_uri(to_jpeg(data) if drawn.photos else data)
    return {"words": drawn.words, "wide": drawn.wide, "source": source}


def to_jpeg(png: bytes) -> bytes:
    """A picture with photographs as JPEG: a fifth of its size."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "JPEG", quality=PHOTO_QUALITY, optimize=True)
    return stream.getvalue()


def shorten_value(node: Mapping[str, Any]) -> str:
    """A node of the config in a line: its target's last name, and its plain values."""
    target = str(node.get("_target_", "")).removesuffix(".fit").rsplit(".", 1)[-1]
    values = [
        f"{key}={value}"
        for key, value in node.items()
        if not str(key).startswith("_") and isinstance(value, str | int | float | bool)
    ]
    return f"{target} {' '.join(values)}".strip()
