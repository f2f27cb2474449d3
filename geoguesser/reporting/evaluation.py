"""Evaluation report: what `python -m geoguesser.evaluate` prints and leaves in its folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from geoguesser.errors import ConfigError
from geoguesser.evaluation.intervals import MIN_FOR_MEAN, MIN_PLACES
from geoguesser.geo.region import Region
from geoguesser.geo.score import FIELD_RADII_KM, SHARE_RADII_KM
from geoguesser.reporting import maps
from geoguesser.reporting.run import plots
from geoguesser.system.files import write_csv, write_json
from geoguesser.system.text import format_count, format_limits

PICTURES = ("errors.png", "arrows.png")
FILES = ("evaluation.json", "errors.csv", *PICTURES)
_km, _percent = "{:,.1f} km".format, "{:.1%}".format


def check_evaluation_folder(out: Path) -> None:
    """Refuses what is no folder, and one that holds anything but an earlier evaluation.

    Raises:
        ConfigError: It is such a one.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError.at("out", "must be a folder, not a file", found=str(out))
    others = sorted(one.name for one in out.iterdir() if one.name not in FILES)
    if others:
        raise ConfigError.at(
            f"out={out}", "must be new, empty, or an earlier evaluation", found=others[0],
            remedy="Name another folder: out=FOLDER.",
        )  # fmt: skip


def write_evaluation(
    folder: Path, found: dict[str, Any], table: pd.DataFrame, region: Region, *, pictures: bool
) -> None:
    """Writes evaluation.json, errors.csv and two pictures; pictures of an earlier evaluation go.

    Args:
        folder: It is made where it is missing.
        found: As `evaluated.evaluate` gives it, with more beside it.
        table: uuid, latitude, longitude, true_latitude, true_longitude, error_km, and what else is known.
        region: Of the map.
        pictures: Whether to draw them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "errors.csv", table)
    if not pictures:
        for name in PICTURES:
            (folder / name).unlink(missing_ok=True)
    else:
        errors = table["error_km"].to_numpy()
        title = f"{maps.capitalise(region.name)}, evaluation"
        plots.draw_errors(folder / "errors.png", error_km=errors, baselines={}, title=title)
        maps.draw_arrows(
            folder / "arrows.png",
            region=region,
            true_deg=table[["true_latitude", "true_longitude"]].to_numpy(),
            predicted_deg=table[["latitude", "longitude"]].to_numpy(),
            error_km=errors,
            title=title,
        )
    write_json(folder / "evaluation.json", found)


def print_evaluation(found: dict[str, Any], folder: Path) -> None:
    """Prints the figures with their intervals."""
    console = Console(soft_wrap=True, highlight=False)
    limits = f"{found['confidence']:.0%} interval"
    table = Table(title=f"{format_count(found['places'], 'place')}, {found['region']}", title_justify="left")
    for column in ("", "", limits):
        table.add_column(column, justify="right" if column == "" else "left")
    table.columns[0].justify = "left"
    error, shares = found["error_km"], found["share_within_km"]
    table.add_row("mean error", _km(error["mean"]["value"]), _limits(error["mean"], _km))
    table.add_row("median error", _km(error["median"]["value"]), _limits(error["median"], _km))
    table.add_row("90 % are within", _km(error["p90"]), "", end_section=True)
    for radius in shares:
        kind = {(True, False): " (country)", (False, True): " (field)"}
        name = f"within {int(radius):,} km"
        name += kind.get((int(radius) in SHARE_RADII_KM, int(radius) in FIELD_RADII_KM), "")
        table.add_row(name, _percent(shares[radius]["value"]), _limits(shares[radius], _percent))
    table.add_section()
    for name, score in found["score"].items():
        label = f"game score, {name} ({score['diagonal_km']:,.0f} km)"
        table.add_row(label, f"{score['value']:,.0f}", _limits(score, lambda value: f"{value:,.0f}"))
    console.print(table)
    for line in _lines(found):
        console.print(line, markup=False)
    console.print(f"Folder: {folder}", markup=False)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"Intervals: bootstrap over {found['units']}."]
    if found["places"] < MIN_PLACES:
        lines = [f"No intervals: they need at least {MIN_PLACES} places."]
    elif found["places"] < MIN_FOR_MEAN:
        lines[0] += f" Those of means need at least {MIN_FOR_MEAN} places."
    if len(found["by_part"]) > 1:
        parts = found["by_part"].items()
        words = [f"{name} {_km(one['error_km_mean'])} ({one['places']:,})" for name, one in parts]
        lines.append(f"Mean error by part: {', '.join(words)}")
    if found.get("cells"):
        cells = found["cells"]
        lines.append(f"Right cell {cells['cell_top1']:.1%}, among five {cells['cell_top5']:.1%}")
    for kind in ("radii", "sets"):
        covered = (found.get("sureness") or {}).get(kind, {})
        words = [
            f"{level} %: {_percent(one['coverage'])} ({_limits(one, _percent)})" for level, one in covered.items()
        ]
        if words:
            what = {"radii": "Radii", "sets": "Sets of cells"}[kind]
            lines.append(f"{what} that hold the place: {', '.join(words)}")
    for name, count in found["counts"].items():
        if count:
            what = name.replace("_", " ")  # `places with broken views`, `left out: bad_row`
            if count == 1:
                what = re.sub("^(place|prediction)s", r"\1", what)
            lines.append(f"{count:,} {what}")
    return lines


def _limits(figure: dict[str, Any], write: Any) -> str:
    return format_limits(figure["low"], figure["high"], write)
