"""What a run asks of Lightning's Trainer and of early stopping, beyond what Lightning itself refuses in time.

Lightning takes many values that end in a division by zero, or after hours in no checkpoint or no test.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping

from geoguesser.errors import ConfigError, check_int, check_number, first_line
from geoguesser.model.metrics import summarise_errors
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.schedule import Schedule

log = logging.getLogger(__name__)

HALF_PRECISIONS = ("bf16-true", "16-true")
LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")


def check_trainer(node: Mapping[str, Any]) -> None:
    """Refuses values of the group `trainer` with which a run cannot train, validate and test.

    Args:
        node: The group, as resolved.

    Raises:
        ConfigError: A value breaks its rule.
    """
    epochs = check_int("trainer.max_epochs", node.get("max_epochs"), low=1)
    precision = str(node.get("precision", "32-true"))
    if precision in HALF_PRECISIONS:
        raise ConfigError.at(
            "trainer.precision",
            "must not hold coordinates in 16 bits, where a degree is all they tell apart",
            found=precision,
            remedy="Use bf16-mixed or 16-mixed.",
        )
    if node.get("fast_dev_run"):
        raise ConfigError.at(
            "trainer.fast_dev_run",
            "must be false, for it writes no checkpoint to test",
            found=node["fast_dev_run"],
            remedy="Use trainer=debug.",
        )
    for name in (*LIMITS, "val_check_interval"):
        if isinstance(node.get(name), int | float):
            check_number(f"trainer.{name}", node[name], low=0.0, open_low=True)
    if node.get("gradient_clip_val") is not None:
        check_number("trainer.gradient_clip_val", node["gradient_clip_val"], low=0.0)
    check_int("trainer.accumulate_grad_batches", node.get("accumulate_grad_batches", 1), low=1)
    every = node.get("check_val_every_n_epoch")
    if every is not None:
        check_int("trainer.check_val_every_n_epoch", every, low=1)
        if every > epochs:
            raise ConfigError.at(
                "trainer.check_val_every_n_epoch",
                f"must not be more than trainer.max_epochs={epochs}, else nothing is ever validated",
                found=every,
            )


def check_early_stopping(callbacks: Iterable[Any], hit_names: Iterable[str]) -> None:
    """Refuses early stopping on a figure that no validation gives, or that is to go the wrong way.

    Args:
        callbacks: Those of the run.
        hit_names: What the head's hits are called.

    Raises:
        ConfigError: A value breaks its rule.
    """
    figures = summarise_errors(np.ones(1), 1.0)
    shares = [f"share_within_{radius}_km" for radius in figures.pop("share_within_km")]
    lower = ["val/loss", "train/loss", *(f"val/{name}" for name in figures if name.startswith("error"))]
    higher = [f"val/{name}" for name in (*figures, *shares, *hit_names) if not name.startswith("error")]
    for one in callbacks:
        if not isinstance(one, EarlyStopping):
            continue
        key = "callbacks.early_stopping"
        check_int(f"{key}.patience", one.patience, low=0)
        if one.monitor not in (*lower, *higher):
            rule = f"must be one of {', '.join((*lower, *higher))}"
            raise ConfigError.at(f"{key}.monitor", rule, found=one.monitor)
        mode = "min" if one.monitor in lower else "max"
        if one.mode != mode:
            raise ConfigError.at(f"{key}.mode", f"must be {mode} for {one.monitor}", found=one.mode)


def warn_unreachable_stages(finetuning: Finetuning, schedule: Schedule, epochs: int) -> None:
    """Warns of a stage that no epoch reaches, and of a warm-up that no epoch ends.

    Args:
        finetuning: The run's, like `schedule`.
        schedule: As there.
        epochs: The most epochs that it trains.
    """
    if finetuning.last_unlock_epoch >= epochs:
        log.warning(
            "finetune.stages: the last begins at epoch %d, but trainer.max_epochs=%d ends before it",
            finetuning.last_unlock_epoch,
            epochs,
        )
    if schedule.warmup_epochs >= epochs:
        log.warning(
            "schedule.warmup_epochs=%g: with trainer.max_epochs=%d no rate ever comes to its full height",
            schedule.warmup_epochs,
            epochs,
        )


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Makes an error of the config of what Lightning refuses only when it knows the data.

    Raises:
        ConfigError: Lightning refused the trainer's or a callback's values.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer or callbacks cannot be as they are: {first_line(error)}") from error
