"""Overhead per job of a sweep, in one process and with one command per job.

    python benchmarks/sweep_overhead.py

A sweep over seeds on the synthetic demo with cached features and without pictures. Each job records the time of
its first and last step. The overhead is the time between the last step of a job and the first step of the next
one: Hydra, data, grid, head, test, tables and logger.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from measure import print_report
from pytorch_lightning import Callback

SWEEP_JOBS, SINGLE_JOBS = 8, 3
WORDS = ["pictures=false", "trainer=cpu", "trainer.max_epochs=10"]
TIMER = "+callbacks.timer={_target_:sweep_overhead.StepTimer}"


class StepTimer(Callback):
    """Records when the first step began and the last one ended."""

    def __init__(self, folder: str) -> None:
        self.file = Path(folder) / "steps.json"

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Records the time of the first step."""
        if trainer.global_step == 0:
            self.first = time.time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Records the time of the last step."""
        self.last = time.time()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes both times."""
        self.file.write_text(json.dumps([self.first, self.last]))


def train(folder: Path, *words: str) -> float:
    """Runs the command in a folder and returns the seconds that it took."""
    start = time.perf_counter()
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent)}
    command = [sys.executable, "-m", "geoguesser.train", *words, *WORDS, TIMER]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    return time.perf_counter() - start


def time_sweep(folder: Path, logger: str) -> tuple[float, float]:
    """Returns the median seconds between jobs, and of the steps of a job."""
    seeds = ",".join(map(str, range(SWEEP_JOBS)))
    train(folder, "--multirun", f"seed={seeds}", f"logger={logger}", f"sweep.name={logger}")
    times = sorted(json.loads(path.read_text()) for path in folder.glob(f"multirun/{logger}/*/steps.json"))
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(times)]
    return statistics.median(gaps), statistics.median(last - first for first, last in times)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        # Fills the cache of features.
        train(folder, "logger=csv")

        shared_s, steps_s = time_sweep(folder, "csv")
        wandb_s, _ = time_sweep(folder, "wandb")
        single_s = min(train(folder, "logger=csv", f"seed={seed}") for seed in range(SINGLE_JOBS)) - steps_s

    rows = {
        "in a sweep, logger=csv": f"{shared_s:.2f} s",
        "in a sweep, logger=wandb (offline)": f"{wandb_s:.2f} s",
        "one command per job, logger=csv": f"{single_s:.2f} s",
        "steps of a job, 10 epochs": f"{steps_s:.2f} s",
    }
    ratios = {"overhead_s": shared_s, "overhead_wandb_s": wandb_s, "alone_over_shared": single_s / shared_s}
    print_report("Overhead per job, 1,000 synthetic places", rows, ratios)


if __name__ == "__main__":
    main()
