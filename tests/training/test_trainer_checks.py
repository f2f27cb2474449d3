"""What of Lightning's Trainer and of early stopping is refused before any long work."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from geoguesser.errors import ConfigError
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.schedule import Constant
from geoguesser.training.trainer_checks import check_early_stopping, check_trainer, warn_unreachable_stages

USUAL = {"max_epochs": 5, "val_check_interval": 1.0, "accumulate_grad_batches": 1, "gradient_clip_val": None}
HITS = ("cell_top1", "cell_top5")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"val_check_interval": 0.25},
        {"val_check_interval": 7},
        {"check_val_every_n_epoch": 5},
        {"check_val_every_n_epoch": None},
        {"gradient_clip_val": 0},
        {"limit_val_batches": 3},
        {"limit_test_batches": 0.5},
        {"fast_dev_run": False},
        {"precision": "bf16-mixed"},
    ],
)
def test_what_a_run_can_do_with(change: dict[str, Any]) -> None:
    check_trainer({**USUAL, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 0}, "trainer.max_epochs must be a positive integer, got 0."),
        ({"max_epochs": None}, "trainer.max_epochs must be a positive integer, got None."),
        (
            {"precision": "bf16-true"},
            "trainer.precision must not be 16-bit throughout, which rounds coordinates by up to half a degree, "
            "got 'bf16-true'. Use bf16-mixed or 16-mixed.",
        ),
        ({"val_check_interval": 0}, "trainer.val_check_interval must be a number above 0, got 0."),
        ({"limit_val_batches": 0}, "trainer.limit_val_batches must be a number above 0, got 0."),
        ({"limit_test_batches": 0.0}, "trainer.limit_test_batches must be a number above 0, got 0.0."),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches must be a positive integer, got 0."),
        ({"gradient_clip_val": -1}, "trainer.gradient_clip_val must be a number from 0, got -1."),
        ({"check_val_every_n_epoch": 0}, "trainer.check_val_every_n_epoch must be a positive integer, got 0."),
        (
            {"check_val_every_n_epoch": 6},
            "trainer.check_val_every_n_epoch must be at most trainer.max_epochs=5, otherwise there is no "
            "validation, got 6.",
        ),
        (
            {"fast_dev_run": 2},
            "trainer.fast_dev_run must be false, because it writes no checkpoint to test, got 2. "
            "Use trainer=debug.",
        ),
    ],
)
def test_what_it_cannot(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_trainer({**USUAL, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/error_km_mean", "min"), ("train/loss", "min"), ("val/score_mean", "max"), ("val/cell_top5", "max"),
     ("val/share_within_25_km", "max")],
)  # fmt: skip
def test_early_stopping_goes_one_way(monitor: str, mode: str) -> None:
    check_early_stopping([EarlyStopping(monitor, mode=mode), object()], HITS)
    other = "max" if mode == "min" else "min"
    with pytest.raises(ConfigError) as caught:
        check_early_stopping([EarlyStopping(monitor, mode=other)], HITS)
    assert str(caught.value) == f"callbacks.early_stopping.mode must be {mode} for {monitor}, got '{other}'."


def test_early_stopping_on_what_nobody_gives() -> None:
    """A head without cells has no hits."""
    with pytest.raises(ConfigError, match=r"^callbacks\.early_stopping\.monitor must be one of val/loss, "):
        check_early_stopping([EarlyStopping("val/cell_top1", mode="max")], ())
    with pytest.raises(ConfigError, match=r"^callbacks\.early_stopping\.patience must be an integer from 0 up"):
        check_early_stopping([EarlyStopping("val/loss", patience=-1)], ())


def test_a_stage_and_a_warm_up_that_never_come_are_said(caplog: pytest.LogCaptureFixture) -> None:
    staged = Finetuning(stages=[{"epoch": 0, "from": "head"}, {"epoch": 3, "from": "all"}])
    with caplog.at_level(logging.WARNING):
        warn_unreachable_stages(staged, Constant(warmup_epochs=3), epochs=4)
        assert caplog.messages == []
        warn_unreachable_stages(staged, Constant(warmup_epochs=3), epochs=3)
    assert caplog.messages == [
        "finetune.stages: the last stage begins at epoch 3, but trainer.max_epochs=3 ends before it",
        "schedule.warmup_epochs=3: with trainer.max_epochs=3 no learning rate reaches its base rate",
    ]
