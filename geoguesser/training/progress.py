"""Progress of a run: one line per epoch in log and terminal, and a progress bar in a terminal."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from geoguesser.training.module import MONITOR

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs one line per epoch: loss, mean validation error, lowest error so far, learning rate of the head."""

    def __init__(self) -> None:
        self.best = math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        error = metrics.get(MONITOR, math.nan)
        self.best = min(self.best, error) if not math.isnan(error) else self.best

        log.info(
            "epoch %*d/%s: loss %.3f, validation %.1f km (best %.1f), rate %.2g",
            len(str(trainer.max_epochs)),
            trainer.current_epoch + 1,
            trainer.max_epochs,
            metrics.get("train/loss", math.nan),
            error,
            self.best,
            metrics.get("lr/head", math.nan),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = float(state_dict["best"])


def make_progress_callbacks() -> list[Callback]:
    """Makes the callback of the lines, and Lightning's progress bar if stderr is a terminal."""
    lines: list[Callback] = [EpochLines()]
    return [*lines, TQDMProgressBar(refresh_rate=10, leave=False)] if sys.stderr.isatty() else lines
