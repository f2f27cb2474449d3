"""Callback that records the places that each process trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback


class BatchRecorder(Callback):
    """Callback that appends [epoch, rank, rows] to a file for each training batch.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        line = json.dumps([trainer.current_epoch, trainer.global_rank, batch.index.tolist()])
        with (Path(self.folder) / f"rows-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(line + "\n")
