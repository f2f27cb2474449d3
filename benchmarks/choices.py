"""Which choices matter: head x loss x decoder x fusion x grid on the synthetic demo, in several seeds.

    python benchmarks/choices.py [PLACES] [SEEDS]

Every run is a whole run of `geoguesser.train` on cached features of the frozen default backbone; each seed also
draws its own split. All choices see the same places, so what counts is the difference to the default in the same
seed: its mean and 95 % interval (Student's t over the seeds). The predecessor's recipe (views side by side, true
cell, weighted mean) is one of the rows. The table is Markdown; the last line is one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import hydra
import numpy as np
from scipy import stats

from geoguesser.commands.configs import conf_dir
from geoguesser.commands.train import run_training
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.log_filters import filter_logs

PLACES, SEEDS = 1000, 5
USUAL = ["pictures=false", "logger=csv", "trainer=cpu"]
FUSIONS = ("mean", "concat", "attention")
LOSSES = ("cross_entropy", "smoothed", "expected_distance")
DECODERS = ("mean", "argmax", "top_k", "median")
DEFAULT = "fusion=mean loss=smoothed decoder=median"
PREDECESSOR = "fusion=concat loss=cross_entropy decoder=mean"


def recipes() -> list[str]:
    """All combinations of fusion, loss and decoder; then one thing at a time beside the default."""
    crossed = [
        f"fusion={fusion} loss={loss} decoder={decoder}"
        for fusion, loss, decoder in itertools.product(FUSIONS, LOSSES, DECODERS)
    ]
    grids = [f"{DEFAULT} grid.size={size}" for size in (30, 120, 240)]
    grids += [f"{DEFAULT} grid={kind}" for kind in ("quadtree", "kmeans", "staggered", "pyramid")]
    reach = [f"{DEFAULT} loss.tau={tau}" for tau in (0.1, 0.2, 0.5, 1.0)]
    heads = [f"{DEFAULT} head=hybrid", f"{DEFAULT} head=hybrid decoder=argmax", "fusion=mean head=regression"]
    heads += ["fusion=concat head=regression"]
    others = [
        f"{DEFAULT} loss.class_balance=0.5",
        f"{DEFAULT} fusion.view_dropout=0.3",
        f"{DEFAULT} callbacks=ema",
    ]
    rates = [f"{DEFAULT} schedule=plateau optimizer.lr=1e-3 epochs=50", f"{DEFAULT} schedule=onecycle"]
    rates += [f"{DEFAULT} optimizer.lr={rate}" for rate in ("5e-4", "1e-3", "2e-3", "3e-3")]
    rates += [f"{DEFAULT} epochs={epochs}" for epochs in (10, 40)]
    return [*crossed, *grids, *reach, *heads, *others, *rates]


def main() -> None:
    places = int(sys.argv[1]) if len(sys.argv) > 1 else PLACES
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS
    filter_logs()
    keep_freed_memory()
    errors: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    constants, start = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        for seed in range(seeds):
            for number, recipe in enumerate(recipes()):
                words = [f"seed={seed}", f"split.seed={seed}", f"data.places={places}", *USUAL, *recipe.split()]
                with contextlib.redirect_stdout(io.StringIO()):  # each run prints a table of its own
                    result = run_training(
                        hydra.compose("train", overrides=words), Path(scratch) / f"{seed}-{number}"
                    )
                errors.setdefault(recipe, []).append(result["test"]["error_km_mean"])
                seconds.setdefault(recipe, []).append(result["times"]["fit_s"] + result["times"]["test_s"])
            constants.append(result["baseline"]["best_constant"]["error_km_mean"])
            print(f"seed {seed} done after {time.perf_counter() - start:.0f} s", file=sys.stderr)
    show(errors, seconds, constants, places)


def show(
    errors: dict[str, list[float]], seconds: dict[str, list[float]], constants: list[float], places: int
) -> None:
    """Prints the table, best first, and the ratios."""
    seeds = len(constants)
    print(f"Synthetic demo, {places} places, {seeds} seeds; best constant {np.mean(constants):.1f} km")
    print("| choices | test mean km | 95 % interval | difference to the default | fit and test s |")
    print("| --- | --- | --- | --- | --- |")
    for recipe in sorted(errors, key=lambda one: float(np.mean(errors[one]))):
        values = np.array(errors[recipe])
        apart = values - np.array(errors[DEFAULT])
        named = {DEFAULT: " (default)", PREDECESSOR: " (the predecessor's)"}.get(recipe, "")
        difference = "" if recipe == DEFAULT else f"{apart.mean():+.1f} ± {half_width(apart):.1f}"
        shown = recipe.replace(f"{DEFAULT} ", "default, ")
        low, high = values.mean() - half_width(values), values.mean() + half_width(values)
        print(
            f"| {shown}{named} | {values.mean():.1f} | {low:.1f} to {high:.1f} | {difference} | "
            f"{np.mean(seconds[recipe]):.1f} |"
        )
    print("\nMarginal means over all combinations of the other choices (km):")
    for group, choices in (("fusion", FUSIONS), ("loss", LOSSES), ("decoder", DECODERS)):
        crossed = [one for one in errors if len(one.split()) == 3 and "head=" not in one]
        means = {c: np.mean([errors[one] for one in crossed if f"{group}={c}" in one.split()]) for c in choices}
        print(f"  {group}: " + ", ".join(f"{choice} {mean:.1f}" for choice, mean in means.items()))
    usual, old = np.mean(errors[DEFAULT]), np.mean(errors[PREDECESSOR])
    ratios = {
        "default_over_constant": round(float(usual / np.mean(constants)), 4),
        "default_over_predecessor": round(float(usual / old), 4),
        "seconds_default_over_predecessor": round(
            float(np.mean(seconds[DEFAULT]) / np.mean(seconds[PREDECESSOR])), 4
        ),
    }
    print(json.dumps(ratios))


def half_width(values: np.ndarray) -> float:
    """Half of the 95 % interval of the mean."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


if __name__ == "__main__":
    main()
