"""Callbacks of our own: the best checkpoint by name, and metrics.csv.

Where an epoch takes less time than writing the network (a head on cached features), checkpoints are written
after the first epoch, then every few seconds, and at the end: `last.ckpt` always belongs to the end of an
epoch, and `best.ckpt` to the best validation up to it.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from geoguesser.errors import check_int
from geoguesser.system.files import open_replacement, replace_file
from geoguesser.training.module import MONITOR


class NamedCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint whose state holds file names, not paths: a run folder may be moved, then resumed.

    Attributes:
        min_interval_s: How many seconds must lie between two writes, except after the first epoch and at the end.
    """

    min_interval_s: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state with the folder left out."""
        return _renamed(super().state_dict(), lambda path: Path(path).name if path else path, ".")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse, in the folder at hand."""
        folder = str(self.dirpath)
        here = _renamed(state_dict, lambda path: str(Path(folder) / path) if path else path, folder)
        super().load_state_dict(here)


def _renamed(state: dict[str, Any], rename: Callable[[str], str], folder: str) -> dict[str, Any]:
    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    kept = {rename(path): score for path, score in state.get("best_k_models", {}).items()}
    renamed = {key: rename(state[key]) for key in paths if key in state}
    return state | renamed | {"best_k_models": kept, "dirpath": folder}


class BestCheckpoint(NamedCheckpoint):
    """Keeps the checkpoints of lowest validation mean error; the lowest is always `best.ckpt`.

    Args:
        dirpath: The run's checkpoints folder.
        save_top_k: How many to keep. With more than one they are named by epoch and step, and
            `best.ckpt` is a hard link to the best of them.
    """

    def __init__(self, *, dirpath: str, save_top_k: int = 1) -> None:
        check_int("callbacks.checkpoint.save_top_k", save_top_k, low=1)
        super().__init__(
            dirpath=dirpath,
            filename="best" if save_top_k == 1 else "epoch{epoch:03d}-step{step:06d}",
            monitor=MONITOR,
            mode="min",
            save_top_k=save_top_k,
            save_on_train_epoch_end=False,  # else Lightning saves after `on_validation_end` has renewed best.ckpt
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._waiting: tuple[str, dict[str, Any]] | None = None

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """As Lightning does, but where writes are to be few, a copy of what learns waits for `flush`."""
        if self.min_interval_s == 0.0 or self.save_top_k != 1:
            super()._save_checkpoint(trainer, filepath)
            return
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(self.save_weights_only)
        learns = {name for name, one in trainer.lightning_module.named_parameters() if one.requires_grad}
        checkpoint["state_dict"] = {
            name: value.clone() if name in learns else value for name, value in checkpoint["state_dict"].items()
        }
        checkpoint["optimizer_states"] = _copied(checkpoint["optimizer_states"])
        self._waiting = (filepath, checkpoint)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath

    def flush(self, trainer: pl.Trainer) -> None:
        """Writes the checkpoint that waits."""
        if self._waiting is not None:
            filepath, checkpoint = self._waiting
            self._waiting = None
            trainer.strategy.save_checkpoint(checkpoint, filepath)
            trainer.strategy.barrier("BestCheckpoint.flush")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes what waits."""
        super().on_train_end(trainer, pl_module)
        self.flush(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes what waits: a run that breaks off keeps its best."""
        super().on_exception(trainer, pl_module, exception)
        self.flush(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves as Lightning does, then renews `best.ckpt`."""
        super().on_validation_end(trainer, pl_module)
        best, target = Path(self.best_model_path), Path(str(self.dirpath)) / "best.ckpt"
        if self.save_top_k > 1 and trainer.is_global_zero and best.is_file():
            with replace_file(target) as temporary:
                _link(best, temporary)


class LastCheckpoint(NamedCheckpoint):
    """Keeps `last.ckpt` at the end of an epoch: between epochs, where resuming is exact.

    Args:
        dirpath: The run's checkpoints folder.
    """

    def __init__(self, *, dirpath: str) -> None:
        self._written = -math.inf
        super().__init__(
            dirpath=dirpath,
            filename="last",
            monitor=None,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """The best one first: what `last.ckpt` says of it must be on disk."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                callback.flush(trainer)
        super()._save_checkpoint(trainer, filepath)
        self._written = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves as Lightning does, unless the last time was only just before and more epochs follow."""
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.strategy.broadcast(ends or time.monotonic() - self._written >= self.min_interval_s):
            super().on_train_epoch_end(trainer, pl_module)


class MetricsCsv(Callback):
    """Writes `metrics.csv`: one row per validation, at once, so that a killed run keeps its history.

    Args:
        path: The file. Where it exists (a resumed run), rows of epochs that are done again are dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []
        self.started = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the rows of the epochs before a resume."""
        self.started = time.perf_counter()
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]
            if self.rows:
                self.started -= float(self.rows[-1]["seconds"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes a validation's metrics."""
        if not trainer.sanity_checking:
            self.pending.append(self._row(trainer, "val/"))
            if not trainer.is_last_batch:  # else the epoch's end, which comes at once, writes it
                self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch's training loss and rates to its last row."""
        if not self.pending:
            self.pending.append(self._head(trainer))
        self.pending[-1] |= self._row(trainer, ("train/", "lr/"))
        self.rows.extend(self.pending)
        self.pending = []
        self._write(trainer)

    def _head(self, trainer: pl.Trainer) -> dict[str, Any]:
        seconds = round(time.perf_counter() - self.started, 3)
        return {"epoch": trainer.current_epoch, "step": trainer.global_step, "seconds": seconds}

    def _row(self, trainer: pl.Trainer, prefixes: str | tuple[str, ...]) -> dict[str, Any]:
        metrics = trainer.callback_metrics.items()
        # Lightning keeps float32: seven digits are all that is meant.
        values = {key: float(f"{float(value):.7g}") for key, value in metrics if key.startswith(prefixes)}
        return self._head(trainer) | values

    def _write(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        rows = [*self.rows, *self.pending]
        columns = list(dict.fromkeys(key for row in rows for key in row))

        with open_replacement(self.path, "w") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _copied(value: Any) -> Any:
    """Plain values with tensors of their own; what the copy module does, but without asking each number."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list) and not all(isinstance(one, int) for one in value):
        return [_copied(one) for one in value]
    return value


def _link(source: Path, target: Path) -> None:
    """Makes `target`, which exists and is empty, a hard link to `source`, or a copy if links are not supported."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
