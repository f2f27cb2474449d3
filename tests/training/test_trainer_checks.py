"""Values of Trainer and of early stopping that are refused before any long work."""

from __future__ import annotations

from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from geoguesser.errors import ConfigError
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.schedule import Constant
from geoguesser.training.trainer_checks import check_early_stopping, check_trainer, warn_unreachable_stages

VALUES = {"max_epochs": 5, "val_check_interval": 1.0, "accumulate_grad_batches": 1, "gradient_clip_val": None}
HITS = ("cell_top1", "cell_top5")


@pytest.mark.parametrize(
    "change",
    [
        {"val_check_interval": 7},
        {"check_val_every_n_epoch": 5},
        {"check_val_every_n_epoch": None},
        {"gradient_clip_val": 0},
        {"limit_val_batches": 3},
        {"limit_test_batches": 0.5},
        {"fast_dev_run": False},
    ],
)
def test_accepted_values(change: dict[str, Any]) -> None:
    check_trainer({**VALUES, **change})


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("max_epochs", 0, "a positive integer"),
        ("max_epochs", None, "a positive integer"),
        ("precision", "bf16-true", "not be 16-bit .*, got 'bf16-true'. Use bf16-mixed"),
        ("val_check_interval", 0, "a number above 0"),
        ("limit_val_batches", 0, "a number above 0"),
        ("limit_test_batches", 0.0, "a number above 0"),
        ("accumulate_grad_batches", 0, "a positive integer"),
        ("gradient_clip_val", -1, "a number from 0"),
        ("check_val_every_n_epoch", 0, "a positive integer"),
        ("check_val_every_n_epoch", 6, "at most trainer.max_epochs=5"),
        ("fast_dev_run", 2, "false, .*, got 2. Use trainer=debug"),
    ],
)
def test_refused_values(key: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^trainer.{key} must (be )?{rule}"):
        check_trainer({**VALUES, key: value})


@pytest.mark.parametrize(
    ("monitor", "mode", "other"),
    [
        ("val/error_km_mean", "min", "max"),
        ("train/loss", "min", "max"),
        ("val/score_mean", "max", "min"),
        ("val/cell_top5", "max", "min"),
        ("val/share_within_25_km", "max", "min"),
    ],
)
def test_the_direction_of_early_stopping(monitor: str, mode: str, other: str) -> None:
    check_early_stopping([EarlyStopping(monitor, mode=mode), object()], HITS)
    with pytest.raises(ConfigError, match=rf"^callbacks\.early_stopping\.mode must be {mode} for {monitor}"):
        check_early_stopping([EarlyStopping(monitor, mode=other)], HITS)


def test_early_stopping_on_an_unknown_metric() -> None:
    """A head without cells has no hits."""
    with pytest.raises(ConfigError, match=r"^callbacks\.early_stopping\.monitor must be one of val/loss, "):
        check_early_stopping([EarlyStopping("val/cell_top1", mode="max")], ())
    with pytest.raises(ConfigError, match=r"^callbacks\.early_stopping\.patience must be an integer from 0 up"):
        check_early_stopping([EarlyStopping("val/loss", patience=-1)], ())


def test_warnings_of_unreachable_stages_and_warm_ups(caplog: pytest.LogCaptureFixture) -> None:
    staged = Finetuning(stages=[{"epoch": 0, "from": "head"}, {"epoch": 3, "from": "all"}])
    warn_unreachable_stages(staged, Constant(warmup_epochs=3), epochs=4)
    assert caplog.messages == []
    warn_unreachable_stages(staged, Constant(warmup_epochs=3), epochs=3)
    stages, warmup = caplog.messages
    assert stages.startswith("finetune.stages: the last stage begins at epoch 3, but trainer.max_epochs=3")
    assert warmup.startswith("schedule.warmup_epochs=3: with trainer.max_epochs=3")
