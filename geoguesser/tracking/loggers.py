"""Run loggers for services besides the run folder, where metrics.csv and result.json are always written.

The logger of W&B is in `wandb_run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger

Outcome = Literal["done", "failed", "interrupted"]


class RunLogger(ABC):
    """Record of a run with a service. The constructor checks its values, before any long work."""

    def start(self) -> None:  # noqa: B027
        """Opens the record when training begins; raises `GeoguesserError` if the service refuses."""

    @abstractmethod
    def make_lightning_logger(self) -> Logger | bool:
        """Returns the argument `logger` of Lightning's Trainer."""

    def log_results(  # noqa: B027
        self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame
    ) -> None:
        """Records the content of result.json, the picture files and the table of the test predictions."""

    def finish(self, outcome: Outcome) -> str | None:
        """Ends the record, also after an error; returns a line for the user or None."""
        return None


class CsvRunLogger(RunLogger):
    """Logger for `logger=csv`: only the run folder's own files."""

    def make_lightning_logger(self) -> Logger | bool:
        return False


class TensorBoardRunLogger(RunLogger):
    """Logger for `logger=tensorboard`: event files in the run folder."""

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def make_lightning_logger(self) -> Logger | bool:
        return TensorBoardLogger(save_dir=self.folder, name="", version="tensorboard")

    def finish(self, outcome: Outcome) -> str | None:
        return f"See the curves: tensorboard --logdir {self.folder}/tensorboard"
