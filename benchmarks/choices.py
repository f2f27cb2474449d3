"""Effect of head, loss, decoder, fusion and grid on the test error on the synthetic demo, over several seeds.

    python benchmarks/choices.py [PLACES] [SEEDS]

Each run is a complete run of `geoguesser.train` on cached features of the frozen default backbone. Each seed also
draws its own split. All choices see the same places, so the table compares them with the default in the same seed:
mean difference and 95 % interval (Student's t over the seeds). The predecessor's recipe (concatenated views, cross
entropy, weighted mean) is one of the rows. The table is Markdown; the last line is one JSON object.
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
COMMON = ["pictures=false", "logger=csv", "trainer=cpu"]
FUSIONS = ("mean", "concat", "attention")
LOSSES = ("cross_entropy", "smoothed", "expected_distance")
DECODERS = ("mean", "argmax", "top_k", "median")
DEFAULT = "fusion=mean loss=smoothed decoder=median"
PREDECESSOR = "fusion=concat loss=cross_entropy decoder=mean"


def list_recipes() -> list[str]:
    """Returns all combinations of fusion, loss and decoder, then the default with single changes."""
    crossed = [
        f"fusion={fusion} loss={loss} decoder={decoder}"
        for fusion, loss, decoder in itertools.product(FUSIONS, LOSSES, DECODERS)
    ]

    grids = [f"{DEFAULT} grid.size={size}" for size in (30, 120, 240)]
    grids += [f"{DEFAULT} grid={kind}" for kind in ("quadtree", "kmeans", "staggered", "pyramid")]
    tau = [f"{DEFAULT} loss.tau={value}" for value in (0.1, 0.2, 0.5, 1.0)]
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

    return [*crossed, *grids, *tau, *heads, *others, *rates]


def main() -> None:
    places = int(sys.argv[1]) if len(sys.argv) > 1 else PLACES
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS
    filter_logs()
    keep_freed_memory()

    errors: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    constants: list[float] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        for seed in range(seeds):
            for number, recipe in enumerate(list_recipes()):
                data = [f"split.seed={seed}", f"data.places={places}"]
                overrides = [f"seed={seed}", *data, *COMMON, *recipe.split()]
                config = hydra.compose("train", overrides=overrides)

                # Each run prints a table of its own.
                with contextlib.redirect_stdout(io.StringIO()):
                    result = run_training(config, Path(scratch) / f"{seed}-{number}")

                errors.setdefault(recipe, []).append(result["test"]["error_km_mean"])
                seconds.setdefault(recipe, []).append(result["times"]["fit_s"] + result["times"]["test_s"])
            constants.append(result["baseline"]["best_constant"]["error_km_mean"])
            print(f"seed {seed} done after {time.perf_counter() - start:.0f} s", file=sys.stderr)

    print_tables(errors, seconds, constants, places)


def print_tables(
    errors: dict[str, list[float]], seconds: dict[str, list[float]], constants: list[float], places: int
) -> None:
    """Prints the table with the lowest error first, the marginal means and the ratios."""
    seeds = len(constants)
    print(f"Synthetic demo, {places} places, {seeds} seeds; best constant {np.mean(constants):.1f} km")
    print("| choices | test mean km | 95 % interval | difference to the default | fit and test s |")
    print("| --- | --- | --- | --- | --- |")
    for recipe in sorted(errors, key=lambda name: float(np.mean(errors[name]))):
        values = np.array(errors[recipe])
        differences = values - np.array(errors[DEFAULT])
        note = {DEFAULT: " (default)", PREDECESSOR: " (the predecessor's)"}.get(recipe, "")
        difference = (
            "" if recipe == DEFAULT else f"{differences.mean():+.1f} ± {compute_half_width(differences):.1f}"
        )
        label = recipe.replace(f"{DEFAULT} ", "default, ")
        half_width = compute_half_width(values)
        low, high = values.mean() - half_width, values.mean() + half_width
        print(
            f"| {label}{note} | {values.mean():.1f} | {low:.1f} to {high:.1f} | {difference} | "
            f"{np.mean(seconds[recipe]):.1f} |"
        )

    print("\nMarginal means over all combinations of the other choices (km):")
    for group, choices in (("fusion", FUSIONS), ("loss", LOSSES), ("decoder", DECODERS)):
        crossed = [name for name in errors if len(name.split()) == 3 and "head=" not in name]
        means = {
            choice: np.mean([errors[name] for name in crossed if f"{group}={choice}" in name.split()])
            for choice in choices
        }
        print(f"  {group}: " + ", ".join(f"{choice} {mean:.1f}" for choice, mean in means.items()))

    default, predecessor = np.mean(errors[DEFAULT]), np.mean(errors[PREDECESSOR])
    ratios = {
        "default_over_constant": round(float(default / np.mean(constants)), 4),
        "default_over_predecessor": round(float(default / predecessor), 4),
        "seconds_default_over_predecessor": round(
            float(np.mean(seconds[DEFAULT]) / np.mean(seconds[PREDECESSOR])), 4
        ),
    }
    print(json.dumps(ratios))


def compute_half_width(values: np.ndarray) -> float:
    """Returns half of the width of the 95 % interval of the mean; NaN for a single value."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


if __name__ == "__main__":
    main()
