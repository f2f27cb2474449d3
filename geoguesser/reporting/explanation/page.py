"""Page that explains a run: report.html, from the template explain.html."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from geoguesser.data.images import read_bytes
from geoguesser.reporting import web_map
from geoguesser.reporting.explanation.gallery import Gallery, Picture
from geoguesser.reporting.explanation.subject import Subject
from geoguesser.reporting.explanation.text import SECTIONS
from geoguesser.reporting.html import read_source, render_html, to_data_uri
from geoguesser.runs.config_keys import redact_config
from geoguesser.system.text import join_words

PHOTO_QUALITY = 84
SHOWN_PARTS = ("data", "region", "split", "image", "backbone", "fusion", "head", "grid", "loss", "decoder",
               "finetune", "augment", "optimizer", "schedule")  # fmt: skip
# Rounding on another device moves predictions by less.
DRIFT_KM = 0.1


def render_explanation(
    subject: Subject, gallery: Gallery, data: Mapping[str, Any], *, title: str, label: str
) -> str:
    """Returns the text of report.html; `label` names data that are not real places."""
    script, style = web_map.load_leaflet()
    drift_km = subject.drift_km
    pictures: dict[str, list[dict[str, Any]]] = {}
    for picture in gallery.pictures:
        pictures.setdefault(picture.section, []).append(_encode_picture(picture))
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
    texts = {
        "cells": "its posterior (darker cells are more probable)",
        "radii": "its 50 % circle (solid) and 90 % circle (dashed)",
        "views": "its views",
    }
    shown = [text for name, text in texts.items() if any(place.get(name) for place in places)]
    return join_words(shown)


def _encode_picture(picture: Picture) -> dict[str, Any]:
    data = read_bytes(picture.file)
    source = to_data_uri(to_jpeg(data) if picture.photos else data)
    return {"text": picture.text, "wide": picture.wide, "source": source}


def to_jpeg(png: bytes) -> bytes:
    """Converts a picture with photographs to JPEG, which takes a fifth of the size."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "JPEG", quality=PHOTO_QUALITY, optimize=True)
    return stream.getvalue()


def shorten_value(node: Mapping[str, Any]) -> str:
    """Returns a node of the config in one line: the class name of its target, and its plain values."""
    target = str(node.get("_target_", "")).removesuffix(".fit").rsplit(".", 1)[-1]
    values = [
        f"{key}={value}"
        for key, value in node.items()
        if not str(key).startswith("_") and isinstance(value, str | int | float | bool)
    ]
    return f"{target} {' '.join(values)}".strip()
