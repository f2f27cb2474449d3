"""What the framework takes per job of a sweep, beside training: in one process, and in processes of their own.

    python benchmarks/sweep_overhead.py

A basic sweep over seeds on the synthetic demo, features cached, pictures off. Each job writes down when its first
step began and when its last one ended. The overhead is what lies between the last step of a job and the first step
of the next one: Hydra, data, grid, head, test, tables, the record. The other way is one command per job.
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

from measure import report
from pytorch_lightning import Callback

JOBS, ALONE = 8, 3
WORDS = ["pictures=false", "trainer=cpu", "trainer.max_epochs=10"]
CLOCK = "+callbacks.clock={_target_:sweep_overhead.Clock}"


class Clock(Callback):
    """Writes down when the first step began and the last one ended."""

    def __init__(self, folder: str) -> None:
        self.file = Path(folder) / "clock.json"

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the first time."""
        if trainer.global_step == 0:
            self.first = time.time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the last time."""
        self.last = time.time()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes both."""
        self.file.write_text(json.dumps([self.first, self.last]))


def train(folder: Path, *words: str) -> float:
    """Runs the command in a folder; seconds that it took."""
    start = time.perf_counter()
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent)}
    command = [sys.executable, "-m", "geoguesser.train", *words, *WORDS, CLOCK]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    return time.perf_counter() - start


def sweep(folder: Path, logger: str) -> tuple[float, float]:
    """Median seconds between the last step of a job and the first of the next one; and of a job's steps."""
    seeds = ",".join(map(str, range(JOBS)))
    train(folder, "--multirun", f"seed={seeds}", f"logger={logger}", f"sweep.name={logger}")
    clocks = sorted(json.loads(path.read_text()) for path in folder.glob(f"multirun/{logger}/*/clock.json"))
    between = [later[0] - earlier[1] for earlier, later in pairwise(clocks)]
    return statistics.median(between), statistics.median(last - first for first, last in clocks)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train(folder, "logger=csv")  # fills the cache
        shared, steps = sweep(folder, "csv")
        with_wandb, _ = sweep(folder, "wandb")
        alone = min(train(folder, "logger=csv", f"seed={seed}") for seed in range(ALONE)) - steps
    rows = {
        "in a sweep, logger=csv": f"{shared:.2f} s",
        "in a sweep, logger=wandb (offline)": f"{with_wandb:.2f} s",
        "one command per job, logger=csv": f"{alone:.2f} s",
        "(the steps of a job, 10 epochs)": f"{steps:.2f} s",
    }
    ratios = {"overhead_s": shared, "overhead_wandb_s": with_wandb, "alone_over_shared": alone / shared}
    report("Overhead per job, 1,000 synthetic places", rows, ratios)


if __name__ == "__main__":
    main()
