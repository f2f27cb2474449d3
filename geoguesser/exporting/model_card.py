"""Model card: what a reader must know of an exported model, as Markdown. Plain values in, text out.

What is not known is said to be unknown; nothing is made up. No path of the machine is in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geoguesser.data.sources.base import KINDS
from geoguesser.evaluation.intervals import Interval
from geoguesser.system.text import format_count

BASELINES = {
    "ridge": "ridge regression on the backbone's features",
    "nearest_features": "nearest training place by features",
    "nearest": "nearest look-alike by pixels",
    "best_constant": "best constant answer",
}
SYNTHETIC = (
    "**The data are synthetic**: a drawn demo country, not photos. The figures say that the program works, and "
    "nothing of real places."
)
PROGRAMS = (
    "Inputs: `images` (B, 4, 3, S, S) uint8 RGB, headings 0, 90, 180, 270, and `mask` (B, 4) bool, true where "
    "there is a view. Outputs: `posterior` (B, K) float32 at the calibrated temperature, of a model with cells, "
    "and `coords_deg` (B, 2) float64, latitude and longitude."
)
NOT_MOVED = "Programs do not move points to the land, as the model itself does; they were compared before that."
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


def render_model_card(card: ModelCard) -> str:
    """The card as Markdown, with the front matter that hubs read."""
    parts = [
        _front(card),
        f"# Where in {card.region} was this photo taken?",
        *([SYNTHETIC] if card.data == "demo" else []),
        _what(card),
        _figures(card),
        _data(card),
        _limits(card),
        _loading(card),
        _files(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(card: ModelCard) -> str:
    tags = ["geolocation", "street-view", *(["synthetic"] if card.data == "demo" else [])]
    lines = ["---", MARK, *([f"license: {card.license}"] if card.license else []), "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---"])


def _what(card: ModelCard) -> str:
    cells = f" over {card.cells} cells, decoded by {card.decoder}" if card.cells is not None else ""
    return (
        "## What it is\n\n"
        "It takes one to four views of a place (to north, east, south and west) and says where in "
        f"{card.region} the place lies, and how sure that is. Backbone {card.backbone}, head {card.head}{cells}; "
        f"views as {card.views}. Made with the program `geoguesser`."
    )


def _figures(card: ModelCard) -> str:
    if card.result is None:
        return "## Figures\n\nNot known: it was exported from a checkpoint alone."
    test = card.result["test"]
    lines = [
        "| | mean error, km | median, km | within 25 km | country score |",
        "| --- | ---: | ---: | ---: | ---: |",
        _row("this model", test, card.mean, card.median),
    ]
    baselines = card.result.get("baseline", {})
    lines += [_row(words, baselines[name]) for name, words in BASELINES.items() if baselines.get(name)]
    known = any(one is not None and one.low is not None for one in (card.mean, card.median))
    note = f" In brackets, 95 % intervals: bootstrap over {card.units}." if known else ""
    return f"## Figures\n\n{format_count(test['places'], 'held-out test place')}.{note}\n\n" + "\n".join(lines)


def _row(name: str, row: dict[str, Any], mean: Interval | None = None, median: Interval | None = None) -> str:
    means, medians = _number(row["error_km_mean"], mean), _number(row["error_km_median"], median)
    return f"| {name} | {means} | {medians} | {row['share_within_km']['25']:.1%} | {row['score_mean']:.0f} |"


def _number(value: float, interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return f"{value:.1f}"
    return f"{value:.1f} ({interval.low:.1f} to {interval.high:.1f})"


def _data(card: ModelCard) -> str:
    said = KINDS[card.data].description if card.data in KINDS else "Not known"
    if card.result is not None:
        counts = card.result["counts"]
        split = ", ".join(
            f"{counts[name]:,} {name}" for name in ("train", "val", "test", "unused") if counts[name]
        )
        skipped = sum(counts["skipped"].values())
        said += f": {format_count(counts['places'], 'place')} ({split})"
        said += f", {skipped:,} more left out as unsound" if skipped else ""
    sure = (
        f"{format_count(card.calibration_places, 'validation place')} calibrated its probabilities and radii."
        if card.calibration_places
        else "No places calibrated it: probabilities are the network's own, and there are no radii."
    )
    return f"## Data\n\n{said}. {sure}"


def _limits(card: ModelCard) -> str:
    return (
        "## Intended use and limits\n\n"
        f"- For places in {card.region}. It answers with a place there whatever it is shown, also for photos from "
        "elsewhere and for what is no photo.\n"
        "- It knows views such as it was trained on: their camera, season and years. Other cameras do worse.\n"
        "- Probabilities and radii hold for new places that are drawn as the calibration places were.\n"
        "- Do not use it to find out where a person is or lives without that person's consent.\n"
        f"- Licence of the weights: {card.license or 'none is stated; ask who gave them to you'}."
    )


def _loading(card: ModelCard) -> str:
    if "model.safetensors" not in card.files:
        return ""
    return (
        "## How to load\n\n```python\nimport geoguesser\n\n"
        'model = geoguesser.load(".")  # this folder\n'
        'answers = model.predict({0: "north.jpg", 90: "east.jpg"})  # or folders, or pixels\n'
        "print(answers.coords_deg, answers.radius_km)\n```\n\n"
        "Nothing in these two files is pickled; loading runs no code of theirs."
    )


def _files(card: ModelCard) -> str:
    lines = ["## Files", "", "| file | what it is |", "| --- | --- |"]
    lines += [f"| {name} | {what} |" for name, what in card.files.items()]
    if card.checks:
        lines += ["", "Programs, compared with torch when they were made:", ""]
        lines += ["| file | places tried | probabilities differ by | points by |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {row['file']} | {row['places']} | {row['posterior']} | {row['points']} |" for row in card.checks
        ]
        lines += ["", PROGRAMS]
        if card.cells is None:
            lines += ["", NOT_MOVED]
    versions = ", ".join(f"{name} {value}" for name, value in card.versions.items())
    return "\n".join([*lines, "", f"Made with {versions}."])
