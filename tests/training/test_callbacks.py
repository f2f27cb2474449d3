"""Callbacks: best and last checkpoint, and metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from support.toy_run import (
    STAGED,
    LearningRateRecorder,
    ToyData,
    toy_module,
    toy_trainer,
)
from torch.utils.data import DataLoader

from geoguesser.training.callbacks import BestCheckpoint, LastCheckpoint, MetricsCsv
from geoguesser.training.schedule import Cosine


class Scripted(pl.LightningModule):
    """Module with given validation errors; its only weight counts validations."""

    def __init__(self, errors: list[float]) -> None:
        super().__init__()
        self.script = errors
        self.count = torch.nn.Parameter(torch.zeros(()))
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("train/loss", torch.tensor(float(self.current_epoch)), on_step=False, on_epoch=True)
        return self.count * 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("val/error_km_mean", self.script[self.seen])
        self.seen += 1
        self.count.data.fill_(self.seen)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(errors: list[float], folder: Path, callbacks: list[Any], **more: Any) -> pl.Trainer:
    epochs = more.pop("epochs", len(errors))
    trainer = toy_trainer(folder, epochs=epochs, callbacks=callbacks, **more)
    loader = DataLoader(torch.zeros(4, 1), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(Scripted(errors), loader, loader)
    return trainer


def load_validation(path: Path) -> int:
    """Returns the number of the validation, from 1, at which a checkpoint was saved."""
    return int(torch.load(path, weights_only=True)["state_dict"]["count"])


ERRORS = [[5.0, 4.0, 3.0, 2.0], [5.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [4.0, 2.0, 3.0, 1.0]]


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("errors", ERRORS)
def test_the_best_checkpoints_are_kept(errors: list[float], keep: int, tmp_path: Path) -> None:
    fit(errors, tmp_path, [BestCheckpoint(dirpath=str(tmp_path / "c"), save_top_k=keep)])
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    lowest = sorted(range(4), key=lambda at: errors[at])[:keep]

    # Four steps an epoch. A single checkpoint has no name with its epoch.
    expected = [f"epoch{epoch:03d}-step{4 * (epoch + 1):06d}.ckpt" for epoch in lowest] if keep > 1 else []
    assert names == sorted(["best.ckpt", *expected])
    assert load_validation(tmp_path / "c" / "best.ckpt") == errors.index(min(errors)) + 1
    assert all((tmp_path / "c" / "best.ckpt").samefile(tmp_path / "c" / name) for name in expected[:1])


class CheckpointObserver(pl.Callback):
    """Records the validations of the checkpoints that exist at the start of each epoch."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.seen: list[tuple[int, ...]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch:
            self.seen.append((trainer.current_epoch, *map(load_validation, self.paths)))


def test_last_is_renewed_each_epoch(tmp_path: Path) -> None:
    last = tmp_path / "c" / "last.ckpt"
    observer = CheckpointObserver(last)
    fit([1.0, 2.0, 3.0], tmp_path, [observer, LastCheckpoint(dirpath=str(tmp_path / "c"))])
    assert observer.seen == [(1, 1), (2, 2)]
    assert load_validation(last) == 3
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["last.ckpt"]


def make_limited_checkpoints(folder: Path) -> list[Any]:
    """Makes both checkpoints with a long minimum interval between writes."""
    checkpoints: list[Any] = [LastCheckpoint(dirpath=str(folder)), BestCheckpoint(dirpath=str(folder))]
    for checkpoint in checkpoints:
        checkpoint.min_interval_s = 1e9
    return checkpoints


def test_few_checkpoints_of_short_epochs_are_written(tmp_path: Path) -> None:
    """They are written after the first epoch and at the end."""
    observer = CheckpointObserver(tmp_path / "c" / "last.ckpt", tmp_path / "c" / "best.ckpt")
    fit([4.0, 2.0, 1.0, 3.0], tmp_path, [observer, *make_limited_checkpoints(tmp_path / "c")])
    assert observer.seen == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert load_validation(tmp_path / "c" / "last.ckpt") == 4
    assert load_validation(tmp_path / "c" / "best.ckpt") == 3
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_failed_run_has_its_best_checkpoint(tmp_path: Path) -> None:
    class Break(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 3:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit([4.0, 2.0, 1.0, 3.0], tmp_path, [Break(), *make_limited_checkpoints(tmp_path / "c")])
    assert load_validation(tmp_path / "c" / "best.ckpt") == 3
    assert load_validation(tmp_path / "c" / "last.ckpt") == 1


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_table(path: Path) -> list[tuple[str, ...]]:
    """Reads epoch, step, validation error and training loss of each row."""
    names = ("epoch", "step", "val/error_km_mean", "train/loss")
    return [tuple(row[name] for name in names) for row in read_rows(path)]


def test_one_row_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit([5.0, 4.0, 6.0], tmp_path, [MetricsCsv(path)])
    assert read_table(path) == [("0", "4", "5.0", "0.0"), ("1", "8", "4.0", "1.0"), ("2", "12", "6.0", "2.0")]
    rows = read_rows(path)
    assert list(rows[0]) == ["epoch", "step", "seconds", "val/error_km_mean", "train/loss"]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 <= seconds[0] <= seconds[1] <= seconds[2]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_one_row_per_validation_within_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit([5.0, 4.0, 6.0, 3.0], tmp_path, [MetricsCsv(path)], epochs=2, val_check_interval=0.5)
    table = read_table(path)
    assert table[:2] == [("0", "2", "5.0", ""), ("0", "4", "4.0", "0.0")]
    assert table[2:] == [("1", "6", "6.0", ""), ("1", "8", "3.0", "1.0")]


def test_epochs_without_validation_have_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit([5.0], tmp_path, [MetricsCsv(path)], epochs=2, check_val_every_n_epoch=2)
    assert read_table(path) == [("0", "4", "", "0.0"), ("1", "8", "5.0", "1.0")]


def test_rates_are_those_of_the_epochs_last_step(tmp_path: Path) -> None:
    module, steps = toy_module(stages=STAGED, schedule=Cosine()), LearningRateRecorder()
    callbacks = [MetricsCsv(tmp_path / "metrics.csv"), steps]
    toy_trainer(tmp_path, epochs=3, callbacks=callbacks).fit(module, datamodule=ToyData())
    rows = read_rows(tmp_path / "metrics.csv")
    for group in ("head", "backbone@1", "backbone@3"):
        expected = [steps.rates[last][group] for last in (3, 7, 11)]
        assert [float(row[f"lr/{group}"]) for row in rows] == pytest.approx(expected)
    assert float(rows[0]["lr/backbone@1"]) == 0.0 < float(rows[1]["lr/backbone@1"])
    assert "lr/locked" not in rows[0]


class Stop(BaseException):
    """Error that no handler of Exception catches."""


def test_a_resumed_run_drops_the_rows_of_epochs_that_are_done_again(tmp_path: Path) -> None:
    path, folder = tmp_path / "metrics.csv", str(tmp_path / "c")
    fit([5.0, 4.0], tmp_path, [MetricsCsv(path), LastCheckpoint(dirpath=folder)])
    first = read_rows(path)
    lines = path.read_text().splitlines()

    # The last row is of an epoch that was killed before its end.
    path.write_text("\n".join([*lines, "2,12,99.0,77.0,", ""]))
    trainer = toy_trainer(tmp_path, epochs=4, callbacks=[MetricsCsv(path), LastCheckpoint(dirpath=folder)])
    loader = DataLoader(torch.zeros(4, 1), batch_size=1)  # type: ignore[arg-type]
    again = Scripted([3.0, 2.0])
    trainer.fit(again, loader, loader, ckpt_path=f"{folder}/last.ckpt", weights_only=True)
    assert read_rows(path)[:2] == first
    assert read_table(path)[2:] == [("2", "12", "3.0", "2.0"), ("3", "16", "2.0", "3.0")]


def test_a_new_run_drops_earlier_rows_and_a_sanity_check_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,seconds,val/error_km_mean\n0,4,1.0,77.0\n")
    fit([9.0, 5.0], tmp_path, [MetricsCsv(path)], epochs=1, num_sanity_val_steps=1)
    assert [row["val/error_km_mean"] for row in read_rows(path)] == ["5.0"]


def test_a_run_that_ends_between_validations_has_its_history(tmp_path: Path) -> None:
    class Bomb(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 7:
                raise Stop

    path = tmp_path / "metrics.csv"
    with pytest.raises(Stop):
        fit([5.0, 4.0, 3.0], tmp_path, [MetricsCsv(path), Bomb()], epochs=2, val_check_interval=0.5)
    assert [row[:3] for row in read_table(path)] == [("0", "2", "5.0"), ("0", "4", "4.0"), ("1", "6", "3.0")]


def test_a_run_killed_while_writing_has_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    fit([5.0, 4.0], tmp_path, [MetricsCsv(path)])
    before = path.read_bytes()

    def write_half(self: Any, rows: Any) -> None:
        self.writerow(rows[0])
        raise Stop

    monkeypatch.setattr(csv.DictWriter, "writerows", write_half)
    with pytest.raises(Stop):
        fit([3.0], tmp_path, [MetricsCsv(path)])
    assert path.read_bytes() == before
