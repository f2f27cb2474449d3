"""Coverage of the 95 % intervals of python -m geoguesser.compare, from at least 2,000 simulations per case.

python benchmarks/intervals.py [RUN_A RUN_B]     (the errors of these run folders serve as populations too)

Each simulation draws places (and seeds) from a known population and checks if the interval holds the value of the
population. The bootstrap is that of the program, with its default number of resamples.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.demo.land import get_synthetic_land
from geoguesser.evaluation.bootstrap import Resampling
from geoguesser.evaluation.intervals import (
    MIN_PLACES_FOR_MEAN,
    Interval,
    combine_seed_noise,
    compute_mean_interval,
    compute_median_interval,
    compute_seed_noise,
)
from geoguesser.evaluation.resampling_units import make_units

SIMULATIONS, SAMPLES, CONFIDENCE = 2000, 5000, 0.95
# The cases with seeds are many, and 2,000 simulations leave a coverage uncertain by 1 %.
SIMULATIONS_WITH_SEEDS = 8000
# Sample that represents a population whose median has no formula.
POPULATION_SIZE = 4_000_000
Draw = Callable[[np.random.Generator, int], FloatArray]
Pair = tuple[FloatArray, FloatArray]


def make_populations() -> dict[str, Draw]:
    """Returns distributions of the errors of a run, from mildly to very skewed (skewness 1.4 to 6.2)."""
    return {
        "gamma 2": lambda random, n: random.gamma(2.0, 20.0, n),
        "gamma 1": lambda random, n: random.gamma(1.0, 40.0, n),
        "lognormal 0.5": lambda random, n: 40.0 * random.lognormal(0.0, 0.5, n),
        "lognormal 1": lambda random, n: 40.0 * random.lognormal(0.0, 1.0, n),
    }


def make_pair_populations() -> dict[str, Callable[[np.random.Generator, int], Pair]]:
    """Returns distributions of the errors of two runs on the same places, correlated or not."""

    def correlated(random: np.random.Generator, n: int) -> Pair:
        place = random.gamma(1.0, 30.0, n)
        return place + random.gamma(1.0, 10.0, n), 0.9 * place + random.gamma(2.0, 6.0, n)

    def unrelated(random: np.random.Generator, n: int) -> Pair:
        return 40.0 * random.gamma(1.0, 1.0, n), 32.0 * random.lognormal(0.0, 0.7, n)

    def heavy_tailed(random: np.random.Generator, n: int) -> Pair:
        place = random.gamma(2.0, 20.0, n)
        return place, place + 5.0 * random.standard_t(3, n) + 1.0

    return {"correlated": correlated, "unrelated": unrelated, "heavy tails": heavy_tailed}


def name_mean_case(name: str, places: int) -> str:
    """Returns the name of a case, marked if the program gives no interval for this number of places."""
    return name if places >= MIN_PLACES_FOR_MEAN else f"(not given) {name}"


def holds(interval: Interval, truth: float) -> bool:
    """Returns False also if the program gives no limits."""
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def compute_coverage(cases: Iterator[tuple[Interval, float]]) -> float:
    """Returns the share of intervals that hold the true value."""
    return float(np.mean([holds(interval, truth) for interval, truth in cases]))


def simulate_places(coverage: dict[str, float], tables: list[pd.DataFrame]) -> None:
    """Adds the coverage of means and medians over single places, and of paired differences."""
    singles, doubles = make_populations(), make_pair_populations()
    if tables:
        errors = tables[0]["error_km"].to_numpy()
        singles["a run"] = lambda random, n: random.choice(errors, n)
    if len(tables) == 2:
        shared = tables[0].merge(tables[1], on="uuid")[["error_km_x", "error_km_y"]].to_numpy()

        def draw_shared(random: np.random.Generator, n: int) -> Pair:
            first, second = shared[random.integers(len(shared), size=n)].T
            return first, second

        doubles["two runs"] = draw_shared

    for n in (20, 30, 50, 100, 500):
        draws = Resampling(np.arange(n), samples=SAMPLES, seed=0)
        for name, draw in singles.items():
            random = np.random.default_rng(n)
            population = draw(random, POPULATION_SIZE)
            mean, median = float(population.mean()), float(np.median(population))
            samples = [draw(random, n) for _ in range(SIMULATIONS)]
            coverage[name_mean_case(f"mean, {name}, {n} places", n)] = compute_coverage(
                (compute_mean_interval(draws.mean(sample), CONFIDENCE), mean) for sample in samples
            )
            # Medians of 500 places take long.
            if n <= 100 or name == "gamma 1":
                coverage[f"median, {name}, {n} places"] = compute_coverage(
                    (compute_median_interval(draws, sample, CONFIDENCE), median) for sample in samples
                )

        for name, draw_pair in doubles.items():
            random = np.random.default_rng(n)
            first, second = draw_pair(random, POPULATION_SIZE)
            mean, median = float((first - second).mean()), float(np.median(first - second))
            samples = [np.subtract(*draw_pair(random, n)) for _ in range(SIMULATIONS)]
            coverage[f"mean difference, {name}, {n} places"] = compute_coverage(
                (compute_mean_interval(draws.mean(sample), CONFIDENCE), mean) for sample in samples
            )
            if n <= 100:
                coverage[f"median difference, {name}, {n} places"] = compute_coverage(
                    (compute_median_interval(draws, sample, CONFIDENCE), median) for sample in samples
                )


def draw_towns(random: np.random.Generator, count: int) -> tuple[FloatArray, IntArray]:
    """Draws places in towns.

    Returns:
        (N, 2) coordinates in degrees, and (N,) the town of each place.
    """
    land = get_synthetic_land()
    centres = land.region.to_metres(land.draw_positions(int(random.integers(2**31)), count))
    town = np.repeat(np.arange(count), 1 + random.poisson(2.0, count))
    xy = centres[town] + random.normal(0.0, 1000.0, (len(town), 2))
    return land.region.to_degrees(xy), town


def simulate_blocks(coverage: dict[str, float]) -> None:
    """Adds the coverage if blocks are resampled, for places whose errors are correlated within a town."""
    region, draws_per_layout = get_synthetic_land().region, 20
    for count in (100, 300):
        random = np.random.default_rng(count)
        held: dict[str, list[bool]] = {}
        for _ in range(SIMULATIONS // draws_per_layout):
            coords, town = draw_towns(random, count)
            units = make_units(region, coords, None)
            assert units.block_km is not None
            draws = Resampling(units.unit, samples=SAMPLES, seed=0)
            place_draws = Resampling(np.arange(len(coords)), samples=SAMPLES, seed=0)

            for _ in range(draws_per_layout):
                # exp(0.5 x + 0.5 y) of standard normal x and y has the mean exp(0.25) and the median 1.
                shared, own = random.normal(size=(count, 2))[town], random.normal(size=(len(town), 2))
                a, b = (30.0 * np.exp(0.5 * shared + 0.5 * own)).T
                mean, median = 30.0 * np.exp(0.25), 30.0
                cases = {
                    "mean": (compute_mean_interval(draws.mean(a), CONFIDENCE), mean),
                    "median": (compute_median_interval(draws, a, CONFIDENCE), median),
                    "mean difference": (compute_mean_interval(draws.mean(a - b), CONFIDENCE), 0.0),
                    "median difference": (compute_median_interval(draws, a - b, CONFIDENCE), 0.0),
                    "(for comparison) mean, single places": (
                        compute_mean_interval(place_draws.mean(a), CONFIDENCE),
                        mean,
                    ),
                }
                for name, case in cases.items():
                    held.setdefault(name, []).append(holds(*case))

        for name, results in held.items():
            coverage[f"{name}, {count} towns, blocks"] = float(np.mean(results))


def simulate_seeds(coverage: dict[str, float]) -> None:
    """Adds the coverage of means and differences over places and seeds; the effect of seeds is large to none."""
    for n in (20, 40, 100):
        draws = Resampling(np.arange(n), samples=SAMPLES, seed=0)
        for seeds in (3, 5, 10):
            for effect, spread_km in (("large", 8.0), ("small", 2.0), ("no", 0.0)):
                random = np.random.default_rng(n + seeds)
                means, differences = [], []
                for _ in range(SIMULATIONS_WITH_SEEDS):
                    place = random.gamma(2.0, 15.0, n)
                    first, second = (
                        place * random.gamma(4.0, 0.25, (seeds, n)) + spread_km * random.normal(size=(seeds, 1))
                        for _ in range(2)
                    )
                    first_noise, second_noise = compute_seed_noise(first), compute_seed_noise(second)
                    means.append(compute_mean_interval(draws.mean(first.mean(axis=0)), CONFIDENCE, first_noise))

                    difference = draws.mean(first.mean(axis=0) - second.mean(axis=0))
                    noise = combine_seed_noise(first_noise, second_noise)
                    differences.append(compute_mean_interval(difference, CONFIDENCE, noise))

                name = f"{n} places, {seeds} seeds, {effect} effect of seeds"
                coverage[name_mean_case(f"mean, {name}", n)] = compute_coverage((item, 30.0) for item in means)
                coverage[f"mean difference, {name}"] = compute_coverage((item, 0.0) for item in differences)


def main() -> None:
    tables = [pd.read_csv(Path(word) / "predictions_test.csv", dtype={"uuid": str}) for word in sys.argv[1:3]]
    start = time.perf_counter()
    coverage: dict[str, float] = {}
    simulate_places(coverage, tables)
    simulate_blocks(coverage)
    simulate_seeds(coverage)

    counts = f"{SIMULATIONS:,} simulations each, {SIMULATIONS_WITH_SEEDS:,} with seeds"
    print(f"Coverage of nominal {CONFIDENCE:.0%} intervals, {counts}")
    for name, value in coverage.items():
        print(f"  {value:7.1%}  {name}")
    inside = [0.93 <= value <= 0.97 for name, value in coverage.items() if not name.startswith("(")]
    print(f"{sum(inside)} of {len(inside)} between 93 and 97 %; {time.perf_counter() - start:.0f} s")
    print(json.dumps({name: round(value, 4) for name, value in coverage.items()}))


if __name__ == "__main__":
    main()
