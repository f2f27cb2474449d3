"""Comparison of recipes on a few hundred synthetic places, easy and hard ones.

    python benchmarks/small_data.py [PLACES] [DRAWS]

Places are drawn from the synthetic demo and tested in five folds of map blocks of 40 km. To make them as hard as
real ones, none, two or three of the four views of each place are replaced by views of random other places. All
recipes see the same places and folds, so the table compares them with the default: mean difference and 95 %
interval over draws and folds (Student's t; somewhat narrow, because folds of a draw share training places). The
table is Markdown; the last line is one JSON object of mean errors relative to the best constant.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import hydra
import numpy as np
import pandas as pd
from scipy import stats

from geoguesser.commands.configs import conf_dir
from geoguesser.commands.train import run_training
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.geo.region import country
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.log_filters import filter_logs

PLACES, DRAWS, FOLDS, BLOCK_M = 306, 2, 5, 40_000.0
# Number of views, of four, that are replaced.
REPLACED = (0, 2, 3)
HEADINGS = ("0", "90", "180", "270")
COMMON = ["pictures=false", "logger=csv", "trainer=cpu", "data=places", "split=column"]
RECIPES = {
    "default": "",
    "the predecessor's": "fusion=concat loss=cross_entropy decoder=mean",
    "fusion=concat": "fusion=concat",
    "loss=cross_entropy": "loss=cross_entropy",
    "loss.tau=0.5": "loss.tau=0.5",
    "loss.tau=1": "loss.tau=1.0",
    "decoder=mean": "decoder=mean",
    "grid.size=30": "grid.size=30",
    "grid.size=120": "grid.size=120",
    "grid=staggered": "grid=staggered",
    "plateau, 1e-3, 50 epochs": "schedule=plateau optimizer.lr=1e-3 epochs=50",
    "schedule=onecycle": "schedule=onecycle",
    "epochs=40": "epochs=40",
    "epochs=10": "epochs=10",
    "optimizer.lr=1e-2": "optimizer.lr=1e-2",
    "optimizer.lr=3e-3": "optimizer.lr=3e-3",
    "optimizer.lr=2e-3": "optimizer.lr=2e-3",
    "optimizer.lr=1e-3": "optimizer.lr=1e-3",
    "optimizer.lr=3e-4": "optimizer.lr=3e-4",
    "optimizer.lr=1e-4": "optimizer.lr=1e-4 epochs=100",
    "optimizer=adamw, decay 1": "optimizer=adamw optimizer.weight_decay=1.0",
    "optimizer=adamw, decay 10": "optimizer=adamw optimizer.weight_decay=10.0",
    "callbacks=ema": "callbacks=ema",
    "stopped by validation loss": "callbacks.early_stopping.monitor=val/loss",
    "no early stopping": "callbacks.early_stopping=null",
}


def write_fold_root(folder: Path, places: int, draw: int, replaced: int) -> Path:
    """Writes a data root of places of the demo, with replaced views and a split column per fold."""
    source = ensure_demo(places=1000)
    random = np.random.default_rng(draw)
    demo = pd.read_csv(source / "data.csv", dtype={"uuid": str})
    order = random.permutation(len(demo))
    drawn, others = order[:places], order[places:]

    # (places, 4) rows of the demo that the views come from; `is_replaced` marks the same number in each row.
    origins = np.repeat(drawn[:, None], 4, axis=1)
    is_replaced = random.random((places, 4)).argsort(axis=1) < replaced
    for heading, rows in enumerate(is_replaced.T):
        origins[rows, heading] = random.permutation(others)[: rows.sum()]

    # Views are linked, not copied.
    table = demo.iloc[drawn].copy()
    for uuid, place_origins in zip(table["uuid"], origins, strict=True):
        target = folder / "images" / uuid
        target.mkdir(parents=True)
        for heading_name, origin in zip(HEADINGS, place_origins, strict=True):
            name = f"{heading_name}.jpg"
            os.link(source / "images" / demo["uuid"][origin] / name, target / name)

    coords = table[["latitude", "longitude"]].to_numpy()
    blocks = np.floor(country("HRV", "EPSG:3765").to_metres(coords) / BLOCK_M).astype(int)
    _, block = np.unique(blocks, axis=0, return_inverse=True)
    fold = random.permutation(np.arange(block.max() + 1) % FOLDS)[block]
    for number in range(FOLDS):
        remaining = random.permutation(np.flatnonzero(fold != number))
        splits = np.where(fold == number, "test", "train").astype(object)
        splits[remaining[: len(remaining) // 10]] = "val"
        table[f"fold{number}"] = splits
    table.to_csv(folder / "data.csv", index=False)
    return folder


def train_and_test(overrides: list[str], folder: Path) -> tuple[float, float]:
    """Returns the mean test error of a run, and that of the best constant."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = run_training(hydra.compose("train", overrides=overrides), folder)
    return result["test"]["error_km_mean"], result["baseline"]["best_constant"]["error_km_mean"]


def main() -> None:
    places = int(sys.argv[1]) if len(sys.argv) > 1 else PLACES
    draws = int(sys.argv[2]) if len(sys.argv) > 2 else DRAWS
    filter_logs()
    keep_freed_memory()

    # By recipe and number of replaced views; of the best constant by the latter.
    errors: dict[tuple[str, int], list[float]] = {}
    constants: dict[int, list[float]] = {}
    start = time.perf_counter()

    # Views are linked, not copied, so that the scratch folder lies beside the demo.
    with (
        tempfile.TemporaryDirectory(dir=ensure_demo(places=1000).parent) as scratch,
        hydra.initialize_config_dir(conf_dir(), version_base="1.3"),
    ):
        for replaced in REPLACED:
            for draw in range(draws):
                root = write_fold_root(Path(scratch) / f"{replaced}-{draw}", places, draw, replaced)
                for fold in range(FOLDS):
                    base = [*COMMON, f"data.roots=[{root}]", f"split.column=fold{fold}", f"seed={draw}"]
                    for number, (name, recipe) in enumerate(RECIPES.items()):
                        folder = Path(scratch) / f"{replaced}-{draw}-{fold}-{number}"
                        error_km, constant_km = train_and_test([*base, *recipe.split()], folder)
                        errors.setdefault((name, replaced), []).append(error_km)
                    constants.setdefault(replaced, []).append(constant_km)
                done = f"{replaced} views replaced, draw {draw}"
                print(f"{done}: after {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print_table(errors, constants, places)


def print_table(
    errors: dict[tuple[str, int], list[float]], constants: dict[int, list[float]], places: int
) -> None:
    """Prints a row per recipe: its mean error and its difference from the default."""
    draws = len(constants[0]) // FOLDS
    print(f"{places} synthetic places, {FOLDS} folds of blocks, {draws} draws; mean test error in km")
    columns = [f"{count} of 4 views replaced (constant {np.mean(constants[count]):.1f})" for count in REPLACED]
    print("| recipe | " + " | ".join(columns) + " |\n|" + " --- |" * (1 + len(columns)))
    for name in RECIPES:
        cells = []
        for replaced in REPLACED:
            values = np.array(errors[name, replaced])
            differences = values - np.array(errors["default", replaced])
            half_width = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
            change = "" if name == "default" else f" ({differences.mean():+.1f} ± {half_width:.1f})"
            cells.append(f"{values.mean():.1f}{change}")
        print(f"| {name} | " + " | ".join(cells) + " |")

    ratios = {
        f"{name}, {replaced}": round(float(np.mean(values) / np.mean(constants[replaced])), 4)
        for (name, replaced), values in errors.items()
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
