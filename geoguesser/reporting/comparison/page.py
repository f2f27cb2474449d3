"""Page of a comparison: compare.html, from the template comparison.html.

Sentences that the terminal prints too are in reporting/compare_words.py, pictures in reporting/compare_plots.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geoguesser.evaluation.comparison import BETTER, UNCLEAR, WORSE, Comparison
from geoguesser.reporting.comparison import plots
from geoguesser.reporting.comparison import text as words
from geoguesser.reporting.comparison.places import SpreadPlace
from geoguesser.reporting.comparison.text import Numbers
from geoguesser.reporting.html import draw_data_uri, read_source, render_html
from geoguesser.system.text import format_confidence, format_count

MAX_MAPS = 6
VERDICT_COLOURS = {BETTER: "#009E73", WORSE: "#D55E00", UNCLEAR: "#D97A00"}


def render_comparison(comparison: Comparison, places: Sequence[SpreadPlace], *, pictures: bool) -> str:
    """Returns the text of compare.html.

    Args:
        comparison: Result of the comparison.
        places: Places to show with their views.
        pictures: Whether the page shows charts and maps.
    """
    entries, numbers = comparison.entries, Numbers(comparison)
    base = entries[comparison.baseline]

    return render_html(
        "comparison.html",
        scripts=(read_source("sorting.js"),),
        title=f"Comparison of {format_count(len(entries), 'configuration')}",
        words=words,
        comparison=comparison,
        base=base,
        confidence=format_confidence(comparison.settings.confidence),
        numbers=numbers,
        colours=plots.choose_colours(comparison),
        verdict_colours=VERDICT_COLOURS,
        pictures=_draw_pictures(comparison) if pictures else None,
        places=[_place(comparison, place, numbers, pictures=pictures) for place in places],
        max_curves=plots.MAX_CURVES,
        max_maps=MAX_MAPS,
    )


def _draw_pictures(comparison: Comparison) -> dict[str, Any]:
    """Charts as data URIs; maps as pairs of entry and data URI."""
    region = comparison.region
    known = any(entry.difference and entry.difference.mean for entry in comparison.entries)
    shown = plots.select_entries(comparison, MAX_MAPS)
    top_km = plots.compute_scale_end(shown)

    return {
        "intervals": draw_data_uri(plots.draw_intervals, comparison),
        "differences": draw_data_uri(plots.draw_differences, comparison) if known else "",
        "times": draw_data_uri(plots.draw_times, comparison),
        "shares": draw_data_uri(plots.draw_shares, comparison),
        "learning": draw_data_uri(plots.draw_learning, comparison),
        "scale": draw_data_uri(plots.draw_scale, top_km),
        "maps": [
            (entry, draw_data_uri(plots.draw_error_map, region=region, entry=entry, top_km=top_km))
            for entry in shown
        ],
    }


def _place(comparison: Comparison, place: SpreadPlace, numbers: Numbers, *, pictures: bool) -> dict[str, Any]:
    """Values of a place's card: errors from the least, position, views, map of the predictions."""
    errors = [
        (float(km), entry.letter)
        for km, entry in zip(place.errors_km, comparison.entries, strict=True)
        if np.isfinite(km)
    ]
    card = {
        "uuid": place.uuid,
        "photos": place.photos,
        "errors": [(letter, numbers.km(km)) for km, letter in sorted(errors)],
        "coords_deg": place.coords_deg.tolist(),
        "picture": "",
    }
    if not pictures:
        return card

    # Only entries that have a curve have a colour.
    colours = plots.choose_colours(comparison)
    answers = [
        (entry.letter, colours[entry.letter], answer)
        for entry, answer in zip(comparison.entries, place.answers_deg, strict=True)
        if entry.letter in colours and np.isfinite(answer).all()
    ]
    drawing = draw_data_uri(
        plots.draw_answers, region=comparison.region, true_deg=place.coords_deg, answers=answers
    )
    letters = " ".join(letter for letter, _, _ in answers)
    return card | {"picture": drawing, "alt": f"Map with place {place.uuid} as a star, and where {letters} put it"}
