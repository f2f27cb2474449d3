"""Progress of a run: one line per epoch in log and terminal, and a bar where somebody sees it."""

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
    """Logs one line per epoch: loss, validation mean error, the best so far, the head's learning rate."""

    def __init__(self) -> None:
        self.best = math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the epoch's line."""
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        error = metrics.get(MONITOR, math.nan)
        self.best = min(self.best, error) if not math.isnan(error) else self.best
        epochs = len(str(trainer.max_epochs))
        log.info(
            "epoch %*d/%s: loss %.3f, validation %.1f km (best %.1f), rate %.2g",
            epochs,
            trainer.current_epoch + 1,
            trainer.max_epochs,
            metrics.get("train/loss", math.nan),
            error,
            self.best,
            metrics.get("lr/head", math.nan),
        )

    def state_dict(self) -> dict[str, Any]:
        """Keeps the best error over a resume."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.best = float(state_dict["best"])


def make_progress_callbacks() -> list[Callback]:
    """The lines, and Lightning's bar where somebody sees it."""
    lines: list[Callback] = [EpochLines()]
    return [*lines, TQDMProgressBar(refresh_rate=10, leave=False)] if sys.stderr.isatty() else lines
