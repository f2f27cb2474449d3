"""Model card of an exported model: README.md, from the template model_card.md.

Facts that are not known are stated to be unknown. The card names no path of the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

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
MARK = "library_name: geoguesser"  # a README.md with this is ours to replace


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model card says.

    Attributes:
        region: The land's name.
        views: Size and fit of the views: `px112-crop`.
        head: `classification`, `hybrid` or `regression`.
        decoder: How a posterior becomes a point; None for a head without cells.
        cells: How many cells there are; None likewise.
        backbone: timm's name.
        data: `demo` (synthetic), `places`, `store`; None where it is not known.
        result: The run's result.json; None where there is none.
        mean: The mean test error with its interval; None where it is not known, like the median.
        median: The median.
        units: What their intervals' bootstrap drew: `72 blocks of 30 km`; None where there are none.
        calibration_places: How many calibrated its probabilities; 0 for none.
        license: Of the weights; None where none is stated.
        files: Name -> what it is.
        checks: One row per program: file, difference of probabilities, of points in m, places tried.
        versions: Package -> version.
    """

    region: str
    views: str
    head: str
    decoder: str | None
    cells: int | None
    backbone: str
    data: str | None
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
    rows = [_row(BASELINES[name], baselines[name]) for name in BASELINES if baselines.get(name)]
    if card.result is not None:
        rows = [_row("this model", card.result["test"], card.mean, card.median), *rows]
    known = any(interval is not None and interval.low is not None for interval in (card.mean, card.median))

    template = make_markdown_environment().get_template("model_card.md")
    return template.render(card=card, mark=MARK, rows=rows, intervals=known, counts=result.get("counts"))


def _row(
    name: str, figures: dict[str, Any], mean: Interval | None = None, median: Interval | None = None
) -> tuple[Any, ...]:
    """Name, mean and median error as text, and all figures."""
    values = ((figures["error_km_mean"], mean), (figures["error_km_median"], median))
    limits = [(value, interval or Interval(value)) for value, interval in values]
    texts = [format_interval(value, one.low, one.high, "{:.1f}".format) for value, one in limits]
    return name, *texts, figures
