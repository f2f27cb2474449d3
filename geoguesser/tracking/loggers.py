"""Loggers: where a run is recorded besides its own folder. metrics.csv and result.json are always written.

W&B's has a module of its own, `wandb_record`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger

Outcome = Literal["done", "failed", "interrupted"]


class RunLogger(ABC):
    """One run's record with some service. Making it checks what it is given, before any long work."""

    def start(self) -> None:  # noqa: B027  # most services need nothing
        """Opens the record, once training begins.

        Raises:
            GeoguesserError: The service refuses.
        """

    @abstractmethod
    def make_lightning_logger(self) -> Logger | bool:
        """What Lightning's Trainer takes as its logger."""

    def log_results(  # noqa: B027  # most services take nothing
        self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame
    ) -> None:
        """Takes what the run came to."""

    def finish(self, outcome: Outcome) -> str | None:
        """Ends the record, always; returns a line for the user, or None."""
        return None


class CsvRunLogger(RunLogger):
    """`logger=csv`: nothing besides the run folder's own files."""

    def make_lightning_logger(self) -> Logger | bool:
        return False


class TensorBoardRunLogger(RunLogger):
    """`logger=tensorboard`: event files in the run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def make_lightning_logger(self) -> Logger | bool:
        return TensorBoardLogger(save_dir=self.folder, name="", version="tensorboard")

    def finish(self, outcome: Outcome) -> str | None:
        return f"See the curves: tensorboard --logdir {self.folder}/tensorboard"
