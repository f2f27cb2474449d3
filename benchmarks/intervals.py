"""What the intervals of python -m geoguesser.compare cover: nominal 95 %, at least 2,000 simulations of each kind.

python benchmarks/intervals.py [RUN_A RUN_B]     (run folders whose errors serve as populations, too)

In each simulation places (and seeds) are drawn anew from a known population, and the interval either holds the
population's own figure or does not. The bootstrap is that of the program, with its default number of resamples.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.data.demo.land import get_synthetic_land
from geoguesser.evaluation.bootstrap import Resampling
from geoguesser.evaluation.intervals import (
    MIN_FOR_MEAN,
    Interval,
    combine,
    compute_mean_interval,
    compute_median_interval,
    compute_seed_noise,
)
from geoguesser.evaluation.resampling_units import make_units

SIMULATIONS, SAMPLES, CONFIDENCE = 2000, 5000, 0.95
WITH_SEEDS = 8000  # simulations of each of the many cases with seeds: 2,000 leave a coverage uncertain by 1 %
LARGE = 4_000_000  # draws that stand for a population where its median has no formula
Draw = Callable[[np.random.Generator, int], FloatArray]
Pair = tuple[FloatArray, FloatArray]


def populations() -> dict[str, Draw]:
    """Errors of single runs, from mildly to very skewed (skewness 1.4 to 6.2)."""
    return {
        "gamma 2": lambda random, n: random.gamma(2.0, 20.0, n),
        "gamma 1": lambda random, n: random.gamma(1.0, 40.0, n),
        "lognormal 0.5": lambda random, n: 40.0 * random.lognormal(0.0, 0.5, n),
        "lognormal 1": lambda random, n: 40.0 * random.lognormal(0.0, 1.0, n),
    }


def pairs() -> dict[str, Callable[[np.random.Generator, int], Pair]]:
    """Errors of two runs on the same places: what is hard for one is hard for the other."""

    def alike(random: np.random.Generator, n: int) -> Pair:
        place = random.gamma(1.0, 30.0, n)
        return place + random.gamma(1.0, 10.0, n), 0.9 * place + random.gamma(2.0, 6.0, n)

    def apart(random: np.random.Generator, n: int) -> Pair:
        return 40.0 * random.gamma(1.0, 1.0, n), 32.0 * random.lognormal(0.0, 0.7, n)

    def heavy(random: np.random.Generator, n: int) -> Pair:
        place = random.gamma(2.0, 20.0, n)
        return place, place + 5.0 * random.standard_t(3, n) + 1.0

    return {"alike": alike, "unrelated": apart, "heavy tails": heavy}


def of_mean(name: str, places: int) -> str:
    """The name of a case, in brackets where the program gives no interval for so few places."""
    return name if places >= MIN_FOR_MEAN else f"(not given) {name}"


def share(holds: Iterator[tuple[Interval, float]]) -> float:
    """The share of intervals that hold what they should."""
    return float(np.mean([one.low <= truth <= one.high for one, truth in holds]))  # type: ignore[operator]


def over_places(found: dict[str, float], given: list[pd.DataFrame]) -> None:
    """Means and medians of errors over single places, and of paired differences."""
    singles, doubles = populations(), pairs()
    if given:
        errors = given[0]["error_km"].to_numpy()
        singles["a run"] = lambda random, n: random.choice(errors, n)
    if len(given) == 2:
        both = given[0].merge(given[1], on="uuid")[["error_km_x", "error_km_y"]].to_numpy()
        doubles["two runs"] = lambda random, n: tuple(both[random.integers(len(both), size=n)].T)  # type: ignore
    for n in (20, 30, 50, 100, 500):
        draws = Resampling(np.arange(n), samples=SAMPLES, seed=0)
        for name, draw in singles.items():
            random = np.random.default_rng(n)
            many = draw(random, LARGE)
            mean, median = float(many.mean()), float(np.median(many))
            sets = [draw(random, n) for _ in range(SIMULATIONS)]
            found[of_mean(f"mean, {name}, {n} places", n)] = share(
                (compute_mean_interval(draws.mean(one), CONFIDENCE), mean) for one in sets
            )
            if n <= 100 or name == "gamma 1":  # medians of 500 places take their time
                found[f"median, {name}, {n} places"] = share(
                    (compute_median_interval(draws, one, CONFIDENCE), median) for one in sets
                )
        for name, draw_pair in doubles.items():
            random = np.random.default_rng(n)
            a, b = draw_pair(random, LARGE)
            mean, median = float((a - b).mean()), float(np.median(a - b))
            two = [draw_pair(random, n) for _ in range(SIMULATIONS)]
            found[f"mean difference, {name}, {n} places"] = share(
                (compute_mean_interval(draws.mean(one - other), CONFIDENCE), mean) for one, other in two
            )
            if n <= 100:
                found[f"median difference, {name}, {n} places"] = share(
                    (compute_median_interval(draws, one - other, CONFIDENCE), median) for one, other in two
                )


def towns(random: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
    """Places in towns: where they are (N, 2) and each one's town (N,)."""
    land = get_synthetic_land()
    centres = land.region.to_metres(land.draw_positions(int(random.integers(2**31)), count))
    town = np.repeat(np.arange(count), 1 + random.poisson(2.0, count))
    xy = centres[town] + random.normal(0.0, 1000.0, (len(town), 2))
    return land.region.to_degrees(xy), town


def over_blocks(found: dict[str, float]) -> None:
    """Places in towns whose luck they share, and errors that change over a few kilometres."""
    region, each = get_synthetic_land().region, 20
    for count in (100, 300):
        random = np.random.default_rng(count)
        cases: dict[str, list[bool]] = {}
        for _ in range(SIMULATIONS // each):
            coords, town = towns(random, count)
            units = make_units(region, coords, None)
            assert units.block_km is not None
            draws = Resampling(units.unit, samples=SAMPLES, seed=0)
            alone = Resampling(np.arange(len(coords)), samples=SAMPLES, seed=0)
            for _ in range(each):
                luck, own = random.normal(size=(count, 2))[town], random.normal(size=(len(town), 2))
                a, b = (30.0 * np.exp(0.5 * luck + 0.5 * own)).T
                mean, median = 30.0 * np.exp(0.25), 30.0
                for name, one, truth in (
                    ("mean", compute_mean_interval(draws.mean(a), CONFIDENCE), mean),
                    ("median", compute_median_interval(draws, a, CONFIDENCE), median),
                    ("mean difference", compute_mean_interval(draws.mean(a - b), CONFIDENCE), 0.0),
                    ("median difference", compute_median_interval(draws, a - b, CONFIDENCE), 0.0),
                    (
                        "(for comparison) mean, single places",
                        compute_mean_interval(alone.mean(a), CONFIDENCE),
                        mean,
                    ),
                ):
                    held = one.low is not None and one.high is not None and one.low <= truth <= one.high
                    cases.setdefault(name, []).append(held)
        for name, held_all in cases.items():
            found[f"{name}, {count} towns, blocks"] = float(np.mean(held_all))


def over_seeds(found: dict[str, float]) -> None:
    """Means over places and seeds, alone and as a difference: seeds matter much, little, not at all."""
    for n in (20, 40, 100):
        draws = Resampling(np.arange(n), samples=SAMPLES, seed=0)
        for seeds in (3, 5, 10):
            for name, spread in (("much", 8.0), ("little", 2.0), ("nothing", 0.0)):
                random = np.random.default_rng(n + seeds)
                single, double = [], []
                for _ in range(WITH_SEEDS):
                    place = random.gamma(2.0, 15.0, n)
                    one, other = (
                        place * random.gamma(4.0, 0.25, (seeds, n)) + spread * random.normal(size=(seeds, 1))
                        for _ in range(2)
                    )
                    noise, rest = compute_seed_noise(one), compute_seed_noise(other)
                    single.append(compute_mean_interval(draws.mean(one.mean(axis=0)), CONFIDENCE, noise))
                    change = draws.mean(one.mean(axis=0) - other.mean(axis=0))
                    double.append(compute_mean_interval(change, CONFIDENCE, combine(noise, rest)))
                where = f"{n} places, {seeds} seeds that matter {name}"
                found[of_mean(f"mean, {where}", n)] = share((interval, 30.0) for interval in single)
                found[f"mean difference, {where}"] = share((interval, 0.0) for interval in double)


def main() -> None:
    given = [pd.read_csv(Path(word) / "predictions_test.csv", dtype={"uuid": str}) for word in sys.argv[1:3]]
    start = time.perf_counter()
    found: dict[str, float] = {}
    over_places(found, given)
    over_blocks(found)
    over_seeds(found)
    each = f"{SIMULATIONS:,} simulations each, {WITH_SEEDS:,} with seeds"
    print(f"Coverage of nominal {CONFIDENCE:.0%} intervals, {each}")
    for name, value in found.items():
        print(f"  {value:7.1%}  {name}")
    inside = [0.93 <= value <= 0.97 for name, value in found.items() if not name.startswith("(")]
    print(f"{sum(inside)} of {len(inside)} between 93 and 97 %; {time.perf_counter() - start:.0f} s")
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
