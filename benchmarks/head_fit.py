"""Training of a head on cached features: fit and test with 5,000 places, and the cost of smoothed targets.

    python benchmarks/head_fit.py

The first part runs `geoguesser.train` on the synthetic demo with cached features and shows the fastest of three
runs: fit and test, and the complete run after imports. The second part times a training step of a head with 1,000
cells, in turn with the plain cross entropy and with smoothed targets.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import torch
from measure import compute_median_ratio, format_median_ms, print_report, time_interleaved
from torch import Tensor

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


def time_runs() -> tuple[dict[str, str], float]:
    """Returns table rows of the fastest run, and its seconds of fit and test."""
    runs = []
    with tempfile.TemporaryDirectory() as scratch, hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        for number in range(1 + ROUNDS):
            config = hydra.compose("train", overrides=WORDS)
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                result = run_training(config, Path(scratch) / str(number))
            total_s = time.perf_counter() - start

            times = result["times"]
            runs.append((times["fit_s"] + times["test_s"], total_s, result["epochs"], times["data_s"]))

    # The first run fills the cache.
    fit_s, total_s, epochs, data_s = min(runs[1:])
    rows = {
        f"fit ({epochs} epochs) and test, features cached": f"{fit_s:.2f} s",
        "complete run after imports": f"{total_s:.2f} s, of which data {data_s:.2f} s",
    }
    return rows, fit_s


def train_step(
    head: ClassificationHead, optimizer: torch.optim.Optimizer, features: Tensor, targets: dict[str, Tensor]
) -> None:
    """Trains on a random batch; the time includes gathering its targets."""
    rows = torch.randint(0, PLACES, (BATCH,))
    batch_targets = {name: tensor[rows] for name, tensor in targets.items()}
    optimizer.zero_grad()
    torch.autograd.backward(head.loss(head(torch.index_select(features, 0, rows)), batch_targets))
    optimizer.step()


def time_steps() -> tuple[dict[str, str], float]:
    """Returns table rows of a step with either loss, and the median ratio."""
    region = country(code="HRV", crs="EPSG:3765")
    rng = np.random.default_rng(0)
    drawn = np.stack((rng.uniform(42.4, 46.5, 4 * PLACES), rng.uniform(13.5, 19.4, 4 * PLACES)), axis=-1)
    places = drawn[region.contains(drawn)][:PLACES]
    features = torch.randn(PLACES, WIDTH)

    losses: dict[str, CellLoss] = {"cross entropy": CrossEntropy(), "smoothed targets": SmoothedCrossEntropy()}
    ways: dict[str, Callable[[], None]] = {}
    for name, loss in losses.items():
        head = ClassificationHead.fit(
            in_features=WIDTH,
            region=region,
            train_coords_deg=places,
            grid=SquareGrid(size=CELLS),
            loss=loss,
            decoder=MedianDecoder(),
        )
        optimizer = torch.optim.Adam(head.parameters())
        ways[name] = partial(train_step, head, optimizer, features, head.targets(places))

    seconds = time_interleaved(ways, rounds=60)
    rows = {
        f"step of {BATCH} places and {CELLS} cells, {name}": format_median_ms(times)
        for name, times in seconds.items()
    }
    return rows, compute_median_ratio(seconds["smoothed targets"], seconds["cross entropy"])


def main() -> None:
    filter_logs()
    keep_freed_memory()
    torch.set_num_threads(1)
    step_rows, ratio = time_steps()
    run_rows, fit_s = time_runs()
    print_report(
        f"Synthetic demo, {PLACES:,} places",
        run_rows | step_rows,
        {"fit_and_test_s": fit_s, "smoothed_over_plain": ratio},
    )


if __name__ == "__main__":
    main()
