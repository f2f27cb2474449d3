"""Whether the defaults hold for a few hundred places: recipes on little synthetic data, easy and hard.

    python benchmarks/small_data.py [PLACES] [DRAWS]

Places are drawn from the synthetic demo, and are tested in five folds of whole blocks of 40 km. To make them as
hard as real ones, whose views say little, some of each place's four views are exchanged for those of random places
that were not drawn: none, two, or three of four. Every recipe sees the same places and folds; what counts is its
difference to the default, with a 95 % interval over draws and folds (Student's t; folds of one draw share training
places, so it is a little narrow). The table is Markdown; the last line is one JSON object of mean errors over the
best constant's.
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
EXCHANGED = (0, 2, 3)  # of four views
HEADINGS = ("0", "90", "180", "270")
USUAL = ["pictures=false", "logger=csv", "trainer=cpu", "data=places", "split=column"]
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


def dataset(folder: Path, places: int, draw: int, exchanged: int) -> Path:
    """Some of the demo's places, with a column for each fold, and with some views of other places."""
    source = ensure_demo(places=1000)
    random = np.random.default_rng(draw)
    whole = pd.read_csv(source / "data.csv", dtype={"uuid": str})
    order = random.permutation(len(whole))
    drawn, others = order[:places], order[places:]
    whose = np.repeat(drawn[:, None], 4, axis=1)
    lots = random.random((places, 4)).argsort(axis=1) < exchanged  # so many of each place's views
    for heading, some in enumerate(lots.T):
        whose[some, heading] = random.permutation(others)[: some.sum()]
    table = whole.iloc[drawn].copy()
    coords = table[["latitude", "longitude"]].to_numpy()
    for uuid, from_whom in zip(table["uuid"], whose, strict=True):
        home = folder / "images" / uuid
        home.mkdir(parents=True)
        for heading, other in zip(HEADINGS, from_whom, strict=True):
            os.link(source / "images" / whole["uuid"][other] / f"{heading}.jpg", home / f"{heading}.jpg")
    blocks = np.floor(country("HRV", "EPSG:3765").to_metres(coords) / BLOCK_M).astype(int)
    _, block = np.unique(blocks, axis=0, return_inverse=True)
    fold = random.permutation(np.arange(block.max() + 1) % FOLDS)[block]
    for number in range(FOLDS):
        kept = random.permutation(np.flatnonzero(fold != number))
        names = np.where(fold == number, "test", "train").astype(object)
        names[kept[: len(kept) // 10]] = "val"
        table[f"fold{number}"] = names
    table.to_csv(folder / "data.csv", index=False)
    return folder


def errors_of(words: list[str], folder: Path) -> dict[str, float]:
    """The mean test error of a run, and that of the best constant."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = run_training(hydra.compose("train", overrides=words), folder)
    constant = result["baseline"]["best_constant"]["error_km_mean"]
    return {"model": result["test"]["error_km_mean"], "constant": constant}


def main() -> None:
    places = int(sys.argv[1]) if len(sys.argv) > 1 else PLACES
    draws = int(sys.argv[2]) if len(sys.argv) > 2 else DRAWS
    filter_logs()
    keep_freed_memory()
    found: dict[tuple[str, int], list[float]] = {}
    constant: dict[int, list[float]] = {}
    start = time.perf_counter()

    # Views are linked, not copied, so that the scratch folder lies beside the demo.
    with (
        tempfile.TemporaryDirectory(dir=ensure_demo(places=1000).parent) as scratch,
        hydra.initialize_config_dir(conf_dir(), version_base="1.3"),
    ):
        for exchanged in EXCHANGED:
            for draw in range(draws):
                root = dataset(Path(scratch) / f"{exchanged}-{draw}", places, draw, exchanged)
                for fold in range(FOLDS):
                    base = [*USUAL, f"data.roots=[{root}]", f"split.column=fold{fold}", f"seed={draw}"]
                    for number, (name, recipe) in enumerate(RECIPES.items()):
                        own = Path(scratch) / f"{exchanged}-{draw}-{fold}-{number}"
                        errors = errors_of([*base, *recipe.split()], own)
                        found.setdefault((name, exchanged), []).append(errors["model"])
                    constant.setdefault(exchanged, []).append(errors["constant"])
                done = f"{exchanged} views exchanged, draw {draw}"
                print(f"{done}: after {time.perf_counter() - start:.0f} s", file=sys.stderr)
    show(found, constant, places)


def show(found: dict[tuple[str, int], list[float]], constant: dict[int, list[float]], places: int) -> None:
    """Prints a row per recipe: its mean error and how it differs from the default."""
    draws = len(constant[0]) // FOLDS
    print(f"{places} synthetic places, {FOLDS} folds of blocks, {draws} draws; mean test error in km")
    heads = [f"{count} of 4 views exchanged (constant {np.mean(constant[count]):.1f})" for count in EXCHANGED]
    print("| recipe | " + " | ".join(heads) + " |\n|" + " --- |" * (1 + len(heads)))
    for name in RECIPES:
        cells = []
        for exchanged in EXCHANGED:
            own, usual = np.array(found[name, exchanged]), np.array(found["default", exchanged])
            apart = own - usual
            reach = stats.t.ppf(0.975, len(apart) - 1) * stats.sem(apart)
            change = "" if name == "default" else f" ({apart.mean():+.1f} ± {reach:.1f})"
            cells.append(f"{own.mean():.1f}{change}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    ratios = {
        f"{name}, {exchanged}": round(float(np.mean(errors) / np.mean(constant[exchanged])), 4)
        for (name, exchanged), errors in found.items()
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
