"""Callbacks of each run: best and last checkpoint, and metrics.csv.

Where an epoch takes less time than writing the network, as for a head on cached features, checkpoints are written
after the first epoch, then every few seconds, and at the end. `last.ckpt` always belongs to the end of an epoch,
and `best.ckpt` to the best validation up to then.
"""

from __future__ import annotations

import csv
import io
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

from geoguesser.errors import CheckpointError, DataError, check_int, first_line
from geoguesser.system.files import open_replacement, replace_file
from geoguesser.system.received_files import is_plain_name, read_received
from geoguesser.training.module import MONITOR

# A row of metrics.csv has some 200 bytes.
MAX_CSV_BYTES = 2**26


class NamedCheckpoint(ModelCheckpoint):
    """ModelCheckpoint whose state holds file names instead of paths, so that a run can be resumed after a move."""

    # Minimum time between two writes, except after the first epoch and at the end.
    min_interval_s: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        return _map_paths(super().state_dict(), lambda path: Path(path).name if path else path, ".")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = str(self.dirpath)

        # Lightning removes the files of this state when it saves better ones.
        def locate(name: str) -> str:
            if name and not is_plain_name(name):
                raise CheckpointError.at("the checkpoint", "must name checkpoints of its own folder", found=name)
            return str(Path(folder) / name) if name else name

        state = _map_paths(state_dict, locate, folder)
        super().load_state_dict(state)


class BestCheckpoint(NamedCheckpoint):
    """Keeps the `save_top_k` checkpoints with the lowest mean validation error; `best.ckpt` is the best one.

    With more than one, they are named by epoch and step, and `best.ckpt` is a hard link.
    """

    def __init__(self, *, dirpath: str, save_top_k: int = 1) -> None:
        check_int("callbacks.checkpoint.save_top_k", save_top_k, low=1)

        # With save_on_train_epoch_end Lightning would save after `on_validation_end` has renewed best.ckpt.
        super().__init__(
            dirpath=dirpath,
            filename="best" if save_top_k == 1 else "epoch{epoch:03d}-step{step:06d}",
            monitor=MONITOR,
            mode="min",
            save_top_k=save_top_k,
            save_on_train_epoch_end=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._pending: tuple[str, dict[str, Any]] | None = None

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """Saves a checkpoint, or keeps a copy in memory for `flush` if writes are limited.

        Lightning has no public hook between the decision to save and the write, so this does what the private
        `ModelCheckpoint._save_checkpoint` and `Trainer.save_checkpoint` of Lightning 2.6 do, except for the write.
        tests/training/test_callbacks.py fails if a later version of Lightning calls something else.
        """
        if self.min_interval_s == 0.0 or self.save_top_k != 1:
            super()._save_checkpoint(trainer, filepath)
            return

        # Training changes the tensors in place, so those that it may change are copied.
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(self.save_weights_only)
        parameters = trainer.lightning_module.named_parameters()
        trained = {name for name, parameter in parameters if parameter.requires_grad}
        checkpoint["state_dict"] = {
            name: value.clone() if name in trained else value for name, value in checkpoint["state_dict"].items()
        }
        checkpoint["optimizer_states"] = _copy_state(checkpoint["optimizer_states"])

        self._pending = (filepath, checkpoint)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath

    def flush(self, trainer: pl.Trainer) -> None:
        """Writes the checkpoint that is kept in memory, if there is one."""
        if self._pending is not None:
            filepath, checkpoint = self._pending
            self._pending = None
            trainer.strategy.save_checkpoint(checkpoint, filepath)
            trainer.strategy.barrier("BestCheckpoint.flush")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self.flush(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self.flush(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        best, target = Path(self.best_model_path), Path(str(self.dirpath)) / "best.ckpt"
        if self.save_top_k > 1 and trainer.is_global_zero and best.is_file():
            with replace_file(target) as temporary:
                temporary.unlink()
                try:
                    os.link(best, temporary)
                except OSError:
                    shutil.copyfile(best, temporary)


class LastCheckpoint(NamedCheckpoint):
    """Keeps `last.ckpt` at the end of an epoch. Resuming is exact between epochs only."""

    def __init__(self, *, dirpath: str) -> None:
        self._written_at = -math.inf
        super().__init__(
            dirpath=dirpath, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the checkpoint as Lightning does, at most every `min_interval_s`, and after the last epoch."""
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        is_due = time.monotonic() - self._written_at >= self.min_interval_s
        if not trainer.strategy.broadcast(is_last or is_due):
            return

        # last.ckpt refers to best.ckpt, which must be on disk first.
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                callback.flush(trainer)
        super().on_train_epoch_end(trainer, pl_module)
        self._written_at = time.monotonic()


class MetricsCsv(Callback):
    """Writes `metrics.csv`, one row per validation, at once, so that a killed run has its history.

    A resumed run drops the rows of epochs that are trained again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []
        self.started = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads the rows of the epochs before a resume, whose seconds are added to those of this run."""
        self.started = time.perf_counter()
        if self.path.exists():
            try:
                text = read_received(self.path, MAX_CSV_BYTES).decode()
                rows = csv.DictReader(io.StringIO(text, newline=""))
                self.rows = [row for row in rows if int(row["epoch"]) < trainer.current_epoch]
                self.started -= float(self.rows[-1]["seconds"]) if self.rows else 0.0
            except (ValueError, TypeError, KeyError, csv.Error) as error:
                rule = f"must be the metrics of a run ({first_line(error)})"
                raise DataError.at(str(self.path), rule) from error

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.pending.append(self._make_row(trainer, ("val/",)))

        # After the last batch, the end of the epoch follows at once and writes the row.
        if not trainer.is_last_batch:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.pending:
            self.pending.append({})
        self.pending[-1] |= self._make_row(trainer, ("train/", "lr/"))
        self.rows.extend(self.pending)
        self.pending = []
        self._write(trainer)

    def _make_row(self, trainer: pl.Trainer, prefixes: tuple[str, ...]) -> dict[str, Any]:
        metrics = trainer.callback_metrics.items()
        seconds = round(time.perf_counter() - self.started, 3)

        # Lightning keeps float32, which has seven significant digits.
        values = {key: float(f"{float(value):.7g}") for key, value in metrics if key.startswith(prefixes)}
        return {"epoch": trainer.current_epoch, "step": trainer.global_step, "seconds": seconds, **values}

    def _write(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        rows = [*self.rows, *self.pending]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with open_replacement(self.path, "w") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _map_paths(state: dict[str, Any], change: Callable[[str], str], folder: str) -> dict[str, Any]:
    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    scores = {change(path): score for path, score in state.get("best_k_models", {}).items()}
    changed = {key: change(state[key]) for key in paths if key in state}
    return state | changed | {"best_k_models": scores, "dirpath": folder}


def _copy_state(value: Any) -> Any:
    """Returns an optimizer's state with copied tensors; `copy.deepcopy` would visit each id of a parameter."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy_state(item) for key, item in value.items()}
    if isinstance(value, list) and not all(isinstance(item, int) for item in value):
        return [_copy_state(item) for item in value]
    return value
