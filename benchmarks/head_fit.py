"""A head on cached features: a whole fit and test of 5,000 places, and what smoothed targets add to a step.

    python benchmarks/head_fit.py

The first part runs `geoguesser.train` on the synthetic demo three times, the features being in the cache after the
first, and shows the quickest: training and test, and the whole run after imports. The second part times a training
step of a head over 1,000 cells with the cross entropy against the true cell and with smoothed targets, in turn.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import torch
from measure import interleaved, median_ratio, milliseconds, report

from geoguesser.commands.configs import conf_dir
from geoguesser.commands.train import run_training
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CellLoss, CrossEntropy, SmoothedCrossEntropy
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.log_filters import filter_logs

PLACES, WIDTH, CELLS, BATCH, ROUNDS = 5000, 1280, 1000, 256, 3
WORDS = [f"data.places={PLACES}", "data.demo_seed=3", "pictures=false", "logger=csv", "trainer=cpu"]


def whole_runs() -> tuple[dict[str, str], float]:
    """The quickest of some runs, by part, and its seconds of fit and test."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        for number in range(1 + ROUNDS):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                result = run_training(hydra.compose("train", overrides=WORDS), Path(scratch) / str(number))
            times = result["times"]
            fit = times["fit_s"] + times["test_s"]
            found.append((fit, time.perf_counter() - start, result["epochs"], times))
    fit, whole, epochs, times = min(found[1:])
    rows = {
        f"fit ({epochs} epochs) and test, features cached": f"{fit:.2f} s",
        "the whole run after imports": f"{whole:.2f} s (data {times['data_s']:.2f} s of it)",
    }
    return rows, fit


def step(head: ClassificationHead, optimizer: torch.optim.Optimizer, features: torch.Tensor, target: dict) -> None:
    """One training step on a batch, the gathering of its targets included."""
    rows = torch.randint(0, PLACES, (BATCH,))
    some = {name: tensor[rows] for name, tensor in target.items()}
    optimizer.zero_grad()
    torch.autograd.backward(head.loss(head(torch.index_select(features, 0, rows)), some))
    optimizer.step()


def steps() -> tuple[dict[str, str], float]:
    """Steps of a head over many cells with both losses."""
    region = country(code="HRV", crs="EPSG:3765")
    rng = np.random.default_rng(0)
    drawn = np.stack((rng.uniform(42.4, 46.5, 4 * PLACES), rng.uniform(13.5, 19.4, 4 * PLACES)), axis=-1)
    places = drawn[region.contains(drawn)][:PLACES]
    features = torch.randn(PLACES, WIDTH)
    losses: dict[str, CellLoss] = {"cross entropy": CrossEntropy(), "smoothed targets": SmoothedCrossEntropy()}
    ways = {}
    for name, loss in losses.items():
        head = ClassificationHead.fit(
            in_features=WIDTH,
            region=region,
            train_coords_deg=places,
            grid=SquareGrid(size=CELLS),
            loss=loss,
            decoder=MedianDecoder(),
        )
        target = head.targets(places)
        ways[name] = partial(step, head, torch.optim.Adam(head.parameters()), features, target)
    seconds = interleaved(ways, rounds=60)
    rows = {
        f"a step of {BATCH} places over {CELLS} cells, {name}": milliseconds(one) for name, one in seconds.items()
    }
    return rows, median_ratio(seconds["smoothed targets"], seconds["cross entropy"])


def main() -> None:
    filter_logs()
    keep_freed_memory()
    torch.set_num_threads(1)
    some, ratio = steps()
    rows, fit = whole_runs()
    report(
        f"Synthetic demo, {PLACES:,} places", rows | some, {"fit_and_test_s": fit, "smoothed_over_plain": ratio}
    )


if __name__ == "__main__":
    main()
