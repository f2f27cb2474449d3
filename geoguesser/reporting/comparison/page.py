"""Page of a comparison: compare.html, from the template comparison.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geoguesser.evaluation.comparison import BETTER, NOT_CLEAR, WORSE, Comparison
from geoguesser.reporting.comparison import plots
from geoguesser.reporting.comparison import text as words
from geoguesser.reporting.comparison.places import SpreadPlace
from geoguesser.reporting.comparison.text import DistanceFormatter
from geoguesser.reporting.html import draw_data_uri, read_source, render_html
from geoguesser.system.text import format_confidence, format_count

MAX_MAPS = 6
LABEL_COLOURS = {BETTER: "#009E73", WORSE: "#D55E00", NOT_CLEAR: "#D97A00"}


def render_comparison(comparison: Comparison, places: Sequence[SpreadPlace], *, pictures: bool) -> str:
    """Returns the text of compare.html."""
    entries, formatter = comparison.entries, DistanceFormatter(comparison)
    base = entries[comparison.baseline]

    return render_html(
        "comparison.html",
        scripts=(read_source("sorting.js"),),
        title=f"Comparison of {format_count(len(entries), 'configuration')}",
        words=words,
        comparison=comparison,
        base=base,
        confidence=format_confidence(comparison.settings.confidence),
        formatter=formatter,
        colours=plots.choose_colours(comparison),
        verdict_colours=LABEL_COLOURS,
        pictures=_draw_pictures(comparison) if pictures else None,
        places=[_make_card(comparison, place, formatter, pictures=pictures) for place in places],
        max_curves=plots.MAX_CURVES,
        max_maps=MAX_MAPS,
    )


def _draw_pictures(comparison: Comparison) -> dict[str, Any]:
    has_differences = any(entry.difference and entry.difference.mean for entry in comparison.entries)
    shown = plots.select_entries(comparison, MAX_MAPS)
    # The end of the colour scale of all error maps: the 95th percentile of all their errors.
    top_km = float(np.percentile(np.concatenate([entry.group.error_km for entry in shown]), 95)) or 1.0

    return {
        "intervals": draw_data_uri(plots.draw_intervals, comparison),
        "differences": draw_data_uri(plots.draw_differences, comparison) if has_differences else "",
        "times": draw_data_uri(plots.draw_times, comparison),
        "shares": draw_data_uri(plots.draw_shares, comparison),
        "learning": draw_data_uri(plots.draw_learning, comparison),
        "scale": draw_data_uri(plots.draw_colour_scale, top_km),
        "maps": [
            (entry, draw_data_uri(plots.draw_error_map, region=comparison.region, entry=entry, top_km=top_km))
            for entry in shown
        ],
    }


def _make_card(
    comparison: Comparison, place: SpreadPlace, formatter: DistanceFormatter, *, pictures: bool
) -> dict[str, Any]:
    order = [index for index in np.argsort(place.errors_km, kind="stable") if np.isfinite(place.errors_km[index])]
    card = {
        "uuid": place.uuid,
        "photos": place.photos,
        "errors": [(comparison.entries[at].letter, formatter.km(place.errors_km[at])) for at in order],
        "coords_deg": place.coords_deg.tolist(),
        "picture": "",
    }
    if not pictures:
        return card

    # Entries without a curve have no colour, and are not drawn.
    colours = plots.choose_colours(comparison)
    predictions = [
        (entry.letter, colours[entry.letter], point)
        for entry, point in zip(comparison.entries, place.predicted_deg, strict=True)
        if entry.letter in colours and np.isfinite(point).all()
    ]
    points: dict[str, Any] = {"true_deg": place.coords_deg, "predictions": predictions}
    drawing = draw_data_uri(plots.draw_predictions, region=comparison.region, **points)
    letters = " ".join(letter for letter, _, _ in predictions)
    alt = f"Map with place {place.uuid} as a star, and the predictions of {letters}"
    return card | {"picture": drawing, "alt": alt}
