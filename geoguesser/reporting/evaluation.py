"""Prints the result of `geoguesser.evaluate` and writes its files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Column, Table

from geoguesser.errors import ConfigError
from geoguesser.evaluation.intervals import MIN_PLACES, MIN_PLACES_FOR_MEAN
from geoguesser.geo.region import Region
from geoguesser.geo.score import BENCHMARK_RADII_KM, SHARE_RADII_KM
from geoguesser.reporting import maps
from geoguesser.reporting.run import plots
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.files import write_csv, write_json
from geoguesser.system.text import format_count, format_interval, format_limits

PICTURES = ("errors.png", "arrows.png")
FILES = ("evaluation.json", "errors.csv", *PICTURES)
_format_km, _format_share, _format_score = "{:,.1f} km".format, "{:.1%}".format, "{:,.0f}".format


def check_evaluation_folder(out: Path) -> None:
    """Raises ConfigError if `out` is not a folder, or holds files that an evaluation does not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError.at("out", "must be a folder, not a file", found=str(out))
    others = sorted(path.name for path in out.iterdir() if path.name not in FILES)
    if others:
        rule = "must not exist yet, be empty, or hold an earlier evaluation"
        raise ConfigError.at(f"out={out}", rule, found=others[0], remedy="Choose another folder with out=FOLDER.")


def write_evaluation(
    folder: Path, metrics: dict[str, Any], table: pd.DataFrame, region: Region, *, pictures: bool
) -> None:
    """Writes evaluation.json, errors.csv and two pictures.

    `metrics` is a result of `geoguesser.evaluation.metrics.compute_metrics`. `table` holds uuid, latitude,
    longitude, true_latitude, true_longitude and error_km. Other keys and columns are written unchanged. Without
    `pictures`, those of an earlier evaluation are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "errors.csv", table)

    if not pictures:
        for name in PICTURES:
            (folder / name).unlink(missing_ok=True)
    else:
        points, title = maps.get_points(table), f"{maps.capitalise(region.name)}, evaluation"
        plots.draw_errors(folder / "errors.png", error_km=points["error_km"], baselines={}, title=title)
        maps.draw_arrows(folder / "arrows.png", region=region, **points, title=title)
    write_json(folder / "evaluation.json", metrics)


def print_evaluation(metrics: dict[str, Any], folder: Path) -> None:
    """Prints the metrics with their intervals."""
    title = f"{format_count(metrics['places'], 'place')}, {metrics['region']}"
    columns = ("", Column(justify="right"), f"{metrics['confidence']:.0%} interval")
    table = Table(*columns, title=title, title_justify="left")

    def add_row(name: str, estimate: dict[str, Any], format_value: Callable[[float], str]) -> None:
        limits = format_limits(estimate["low"], estimate["high"], format_value)
        table.add_row(name, format_value(estimate["value"]), limits)

    add_row("mean error", metrics["error_km"]["mean"], _format_km)
    add_row("median error", metrics["error_km"]["median"], _format_km)
    table.add_row("90 % are within", _format_km(metrics["error_km"]["p90"]), "", end_section=True)

    # Radii are those of this project, for countries, and those of published benchmarks.
    for key, share in metrics["share_within_km"].items():
        radius, suffix = int(key), ""
        if radius not in BENCHMARK_RADII_KM:
            suffix = " (country)"
        elif radius not in SHARE_RADII_KM:
            suffix = " (benchmark)"
        add_row(f"within {radius:,} km{suffix}", share, _format_share)
    table.add_section()
    for name, score in metrics["score"].items():
        add_row(f"game score, {name} (map diagonal {score['diagonal_km']:,.0f} km)", score, _format_score)

    console = TextConsole()
    console.print(table)
    for line in (*_list_notes(metrics), f"Folder: {folder}"):
        console.print(line, markup=False)


def _list_notes(metrics: dict[str, Any]) -> list[str]:
    notes = [f"Intervals: bootstrap over {metrics['units']}."]
    if metrics["places"] < MIN_PLACES:
        notes = [f"No intervals: they need at least {MIN_PLACES} places."]
    elif metrics["places"] < MIN_PLACES_FOR_MEAN:
        notes[0] += f" Those of means need at least {MIN_PLACES_FOR_MEAN} places."

    if len(metrics["by_part"]) > 1:
        parts = metrics["by_part"].items()
        texts = [f"{name} {_format_km(part['error_km_mean'])} ({part['places']:,})" for name, part in parts]
        notes.append(f"Mean error by part of the region: {', '.join(texts)}")
    if metrics.get("cells"):
        cells = metrics["cells"]
        notes.append(f"Correct cell: {cells['cell_top1']:.1%}, in the top five {cells['cell_top5']:.1%}")

    for key, name in {"radii": "Radii", "sets": "Sets of cells"}.items():
        levels = (metrics.get("sureness") or {}).get(key, {})
        texts = [
            f"{level} %: {format_interval(row['coverage'], row['low'], row['high'], _format_share)}"
            for level, row in levels.items()
        ]
        if texts:
            notes.append(f"{name} that contain the true position: {', '.join(texts)}")

    # Keys such as `places_with_broken_views` or `left_out: bad_row`.
    for key, count in metrics["counts"].items():
        name = key.replace("_", " ")
        if count == 1:
            name = re.sub("^(place|prediction)s", r"\1", name)
        if count:
            notes.append(f"{count:,} {name}")
    return notes
