"""Model card of an exported model: README.md, from the template model_card.md.

Unknown facts are reported as unknown. The card contains no path of the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from geoguesser.data.sources.base import SourceKind
from geoguesser.evaluation.intervals import Interval
from geoguesser.system.text import format_count, format_interval, replace_unprintable

BASELINES = {
    "ridge": "ridge regression on the backbone's features",
    "nearest_features": "nearest training place by features",
    "nearest": "nearest look-alike by pixels",
    "best_constant": "best constant answer",
}

# Characters that begin emphasis, code, links, HTML or a new cell of a table.
MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]<>|])")

# A README.md with this line was written by an export, and the next export may replace it.
CARD_MARK = "library_name: geoguesser"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Contents of a model card. None stands for unknown facts, and for the cells of a head that has none.

    Attributes:
        views: Size and fit of the views, such as `px112-crop`.
        data: Declaration of the data source; None if unknown.
        result: Values of the run's result.json; None without a run folder.
        mean: Mean test error with its interval.
        median: Median test error with its interval.
        units: Resampling units of the bootstrap, such as `72 blocks of 30 km`; None without intervals.
        calibration_places: Number of calibration places, 0 for none.
        files: File name -> description.
        checks: One row per program: file, places, difference of probabilities and of points.
        versions: Package -> version.
    """

    region: str
    views: str
    head: str
    decoder: str | None
    cells: int | None
    backbone: str
    data: SourceKind | None
    result: dict[str, Any] | None
    mean: Interval | None
    median: Interval | None
    units: str | None
    calibration_places: int
    license: str | None
    files: dict[str, str]
    checks: list[dict[str, str]] = field(default_factory=list)
    versions: dict[str, str]


def escape_markdown(value: object) -> str:
    """Returns text that Markdown shows unchanged, on one line."""
    return MARKDOWN_SIGNS.sub(r"\\\1", replace_unprintable(str(value)))


@cache
def make_markdown_environment() -> Environment:
    """Returns the Jinja2 environment of the card: it escapes the signs of Markdown in all values."""
    # Text is escaped for Markdown by `finalize`; escaping for HTML as well would show `&lt;` for `<`.
    environment = Environment(
        loader=PackageLoader("geoguesser.exporting"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escape_markdown,
    )
    environment.globals["counted"] = format_count
    environment.filters["thousands"] = "{:,}".format
    return environment


def render_model_card(card: ModelCard) -> str:
    """Returns the card as Markdown, with the front matter that hubs read."""
    result = card.result or {}
    baselines = result.get("baseline", {})
    rows = [_make_row(BASELINES[name], baselines[name]) for name in BASELINES if baselines.get(name)]
    if card.result is not None:
        rows = [_make_row("this model", card.result["test"], card.mean, card.median), *rows]
    has_intervals = any(interval is not None and interval.low is not None for interval in (card.mean, card.median))

    template = make_markdown_environment().get_template("model_card.md")
    return template.render(
        card=card, mark=CARD_MARK, rows=rows, intervals=has_intervals, counts=result.get("counts")
    )


def _make_row(
    name: str, figures: dict[str, Any], mean: Interval | None = None, median: Interval | None = None
) -> tuple[Any, ...]:
    """Returns the name, the mean and the median error as text, and all figures."""
    texts = []
    for key, interval in (("error_km_mean", mean), ("error_km_median", median)):
        low, high = (interval.low, interval.high) if interval is not None else (None, None)
        texts.append(format_interval(figures[key], low, high, "{:.1f}".format))
    return name, *texts, figures
