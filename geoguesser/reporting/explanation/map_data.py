"""Values of the interactive map of a report, for its script: outline, cells, places with their views."""

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

# Cells of a place's posterior on the map.
MAX_CELLS, MIN_PROBABILITY = 24, 0.005
# Size of all embedded views, base64.
MAX_VIEW_BYTES = 6_000_000
# Colours of errors: legible on a light and on a dark page.
COLOURS = colormaps["plasma_r"](np.linspace(0.16, 0.68, 8))
RADIUS_LEVELS = ("50", "90")


def make_map_data(subject: Subject, *, thumbnails: int) -> dict[str, Any]:
    """Returns `outline`, `bounds`, `colours` and `top_km` of errors, `cells` (class -> polygon) and `places`.

    The views of `thumbnails` places are embedded: examples first, then evenly by rank of error.
    """
    views = _encode_views(subject, thumbnails)
    places = [_describe_place(subject, row) for row in range(len(subject.table))]
    for row, encoded in views.items():
        places[row]["views"] = encoded

    # Only the cells that some place shows.
    classes = sorted({index for place in places for index, _ in place["cells"]})
    polygons: dict[str, Any] = {}
    if subject.grid is not None and classes:
        features = web_map.make_cells(subject.grid, np.array(classes))["features"]
        polygons = {str(feature["id"]): feature["geometry"]["coordinates"][0] for feature in features}

    return {
        "outline": web_map.make_outline(subject.region),
        "bounds": web_map.compute_bounds(subject.region),
        "colours": [to_hex(colour) for colour in COLOURS],
        "top_km": round(float(np.percentile(subject.error_km, 95)) or 1.0, 3),
        "cells": polygons,
        "places": places,
    }


def _describe_place(subject: Subject, row: int) -> dict[str, Any]:
    true_deg, predicted_deg = subject.true_deg[row], subject.predicted_deg[row]
    # The line between the points goes the shorter way around, if need be beyond the date line.
    longitude = predicted_deg[1] - 360.0 * np.round((predicted_deg[1] - true_deg[1]) / 360.0)
    place: dict[str, Any] = {
        "id": replace_unprintable(str(subject.table["uuid"].iloc[row])),
        # Six decimals are 0.1 m.
        "true": np.round(true_deg, 6).tolist(),
        "answer": np.round([predicted_deg[0], longitude], 6).tolist(),
        "error": round(float(subject.error_km[row]), 3),
        "cells": [],
    }
    if row not in subject.positions or subject.forward is None:
        return place

    position, predictions = subject.positions[row], subject.forward.predictions
    if predictions.posterior is not None:
        place["cells"] = find_top_cells(predictions.posterior[position])
    if predictions.expected_error_km is not None:
        place["expected"] = round(float(predictions.expected_error_km[position]), 3)
    radii = predictions.radius_km or {}
    place["radii"] = {level: round(float(radii[level][position]), 3) for level in RADIUS_LEVELS if level in radii}
    return place


def find_top_cells(posterior: FloatArray) -> list[list[float]]:
    """Returns [class, probability] of the most probable cells, most probable first."""
    order = np.argsort(-posterior, kind="stable")[:MAX_CELLS]
    return [
        [int(index), round(float(posterior[index]), 4)] for index in order if posterior[index] >= MIN_PROBABILITY
    ]


def _encode_views(subject: Subject, thumbnails: int) -> dict[int, list[str | None]]:
    """Returns row -> its four views in base64, None for an absent view, up to `MAX_VIEW_BYTES` in total."""
    if subject.forward is None or thumbnails == 0:
        return {}
    present = subject.forward.rows
    chosen = present[pick_by_rank(subject.error_km[present], thumbnails)]
    rows = [*subject.examples, *order_evenly(np.sort(chosen)).tolist()]

    encoded: dict[int, list[str | None]] = {}
    size = 0
    for row in tqdm(dict.fromkeys(rows), desc="embedding views", unit=" places", disable=None):
        if len(encoded) >= thumbnails or size > MAX_VIEW_BYTES:
            break
        photos = load_photos(str(subject.table["uuid"].iloc[row]), subject.sources)
        if photos is None:
            continue
        encoded[row] = [base64.b64encode(photo.jpeg).decode("ascii") if photo.jpeg else None for photo in photos]
        size += sum(len(view or "") for view in encoded[row])
    return encoded


def order_evenly(rows: IntArray) -> IntArray:
    """Reorders rows so that every prefix is spread evenly over them.

    The order is the van der Corput sequence: ranks sorted by their reversed bits.
    """
    bits = max(1, int(len(rows) - 1).bit_length())
    keys = [int(format(rank, f"0{bits}b")[::-1], 2) for rank in range(len(rows))]
    return rows[np.argsort(keys, kind="stable")]
