"""Runs that are recorded by W&B, and the upload of offline runs to the stub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import TINY, compose

from geoguesser.commands.train import run_training
from geoguesser.system.log_filters import filter_logs
from geoguesser.tracking.wandb_run import WandbRunLogger
from support.wandb_stub import WandbStub

CHOICES = {"head": "classification", "grid": "square", "backbone": "efficientnet_lite0", "logger": "wandb"}
WORDS = [word for word in TINY if word != "logger=csv"]
WANDB = Path(sys.executable).parent / "wandb"


def end_client() -> None:
    """Ends W&B's client, as at the end of a process."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.teardown()


def train_run(
    folder: Path, *words: str, group: str | None = None, overrides: list[str] | None = None
) -> dict[str, Any]:
    """Trains a run in this process."""
    filter_logs()
    cfg = compose([*WORDS, *words])
    return run_training(cfg, folder, group=group, overrides=overrides or list(words), choices=CHOICES)


def make_record(folder: Path, **more: Any) -> WandbRunLogger:
    """Makes a record without a run around it."""
    folder.mkdir(exist_ok=True)
    options = {"config": {"seed": 1}, "name": "a", "group": "g", "choices": CHOICES, "overrides": [], **more}
    return WandbRunLogger(**{"folder": str(folder), **options})


def upload_runs(server: WandbStub, *runs: Path) -> None:
    """Uploads runs as docs/wandb.md describes, and checks that no folder of this machine is named."""
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | server.env
    env |= {"WANDB_PROGRAM": "geoguesser", "WANDB_ERROR_REPORTING": "false"}
    words = [WANDB, "sync", "--include-online", *runs]

    # The command writes its logs into the working directory.
    place = runs[0].parents[1]
    done = subprocess.run(words, env=env, cwd=place, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = b"\n".join(server.received)
    for word in (str(runs[0].parents[2]), str(Path.home()), sys.prefix):
        assert word.encode() not in sent, word
