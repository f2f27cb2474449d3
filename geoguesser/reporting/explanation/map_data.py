"""What the map of a report shows, as plain values for its script: outline, cells, places with their views."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from tqdm import tqdm

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.reporting import web_map
from geoguesser.reporting.explanation.subject import Subject
from geoguesser.reporting.maps import pick_by_rank
from geoguesser.runs.run_images import load_photos
from geoguesser.system.text import replace_unprintable

MAX_CELLS, MIN_PROBABILITY = 24, 0.005  # of a place's posterior on the map
MAX_BYTES = 6_000_000  # of all embedded views together
STEPS = 8  # of the colours of errors
RAMP = colormaps["plasma_r"](np.linspace(0.16, 0.68, STEPS))  # can be told on light and on dark
RADII = ("50", "90")


def make_map_data(subject: Subject, *, thumbnails: int) -> dict[str, Any]:
    """The values.

    Args:
        subject: The run and its places.
        thumbnails: Of how many places, at most, views are embedded; evenly by rank of error, examples first.

    Returns:
        `outline`, `bounds`, `colours` and `top_km` of errors, `cells` (class -> polygon), `places`.
    """
    top_km = float(np.percentile(subject.error_km, 95)) or 1.0
    views = _views(subject, thumbnails)
    places = [
        _place(subject, row) | ({"views": views[row]} if row in views else {}) for row in range(len(subject.table))
    ]
    classes = sorted({number for place in places for number, _ in place["cells"]})
    polygons: dict[str, Any] = {}
    if subject.grid is not None and classes:
        found = web_map.make_cells(subject.grid, np.array(classes))["features"]
        polygons = {str(one["id"]): one["geometry"]["coordinates"][0] for one in found}
    return {
        "outline": web_map.make_outline(subject.region),
        "bounds": web_map.compute_bounds(subject.region),
        "colours": [to_hex(colour) for colour in RAMP],
        "top_km": round(top_km, 3),
        "cells": polygons,
        "places": places,
    }


def _place(subject: Subject, row: int) -> dict[str, Any]:
    true_deg, answer_deg = _near(subject.true_deg[row], subject.answers_deg[row])
    place: dict[str, Any] = {
        "id": replace_unprintable(str(subject.table["uuid"].iloc[row])),
        "true": true_deg,
        "answer": answer_deg,
        "error": round(float(subject.error_km[row]), 3),
        "cells": [],
    }
    if row not in subject.seats or subject.looked is None:
        return place
    seat, answers = subject.seats[row], subject.looked.answers
    if answers.posterior is not None:
        place["cells"] = find_top_cells(answers.posterior[seat])
    if answers.expected_error_km is not None:
        place["expected"] = round(float(answers.expected_error_km[seat]), 3)
    radii = answers.radius_km or {}
    place["radii"] = {level: round(float(radii[level][seat]), 3) for level in RADII if level in radii}
    return place


def find_top_cells(posterior: FloatArray) -> list[list[float]]:
    """[class, probability] of the most probable cells, best first."""
    order = np.argsort(-posterior, kind="stable")[:MAX_CELLS]
    return [[int(one), round(float(posterior[one]), 4)] for one in order if posterior[one] >= MIN_PROBABILITY]


def _near(true_deg: FloatArray, answer_deg: FloatArray) -> tuple[list[float], list[float]]:
    """Both points, the answer's longitude on the side of the date line that is nearer; 6 decimals are 0.1 m."""
    longitude = answer_deg[1] - 360.0 * np.round((answer_deg[1] - true_deg[1]) / 360.0)
    return np.round(true_deg, 6).tolist(), np.round([answer_deg[0], longitude], 6).tolist()


def _views(subject: Subject, thumbnails: int) -> dict[int, list[str | None]]:
    """Row -> its four views, base64; examples first, then evenly by rank, until there are enough or too large."""
    if subject.looked is None or thumbnails == 0:
        return {}
    seats = subject.looked.at
    chosen = seats[pick_by_rank(subject.error_km[seats], thumbnails)]
    order = np.concatenate((np.array(subject.examples, dtype=np.int64), order_evenly(np.sort(chosen))))
    found: dict[int, list[str | None]] = {}
    size = 0
    for row in tqdm(dict.fromkeys(order.tolist()), desc="embedding views", unit=" places", disable=None):
        if len(found) >= thumbnails or size > MAX_BYTES:
            break
        photos = load_photos(str(subject.table["uuid"].iloc[row]), subject.sources)
        if photos is None:
            continue
        found[row] = [base64.b64encode(one.jpeg).decode("ascii") if one.jpeg else None for one in photos]
        size += sum(len(one or "") for one in found[row])
    return found


def order_evenly(rows: IntArray) -> IntArray:
    """The same rows in an order whose every beginning is spread evenly: by the bits of their rank, reversed."""
    bits = max(1, int(len(rows) - 1).bit_length())
    keys = [int(format(rank, f"0{bits}b")[::-1], 2) for rank in range(len(rows))]
    return rows[np.argsort(keys, kind="stable")]
