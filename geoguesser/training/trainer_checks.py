"""Checks of the values for Lightning's Trainer and for early stopping, before any long work.

Lightning accepts many values that lead to a division by zero, or after hours to no checkpoint or no test.
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
    """Raises ConfigError for values of the group `trainer` with which a run cannot train, validate and test."""
    epochs = check_int("trainer.max_epochs", node.get("max_epochs"), low=1)

    precision = str(node.get("precision", "32-true"))
    if precision in HALF_PRECISIONS:
        rule = "must not be 16-bit throughout, which rounds coordinates by up to half a degree"
        raise ConfigError.at("trainer.precision", rule, found=precision, remedy="Use bf16-mixed or 16-mixed.")
    if node.get("fast_dev_run"):
        rule, remedy = "must be false, because it writes no checkpoint to test", "Use trainer=debug."
        raise ConfigError.at("trainer.fast_dev_run", rule, found=node["fast_dev_run"], remedy=remedy)

    for name in (*LIMITS, "val_check_interval"):
        if isinstance(node.get(name), int | float):
            check_number(f"trainer.{name}", node[name], low=0.0, open_low=True)
    if node.get("gradient_clip_val") is not None:
        check_number("trainer.gradient_clip_val", node["gradient_clip_val"], low=0.0)
    check_int("trainer.accumulate_grad_batches", node.get("accumulate_grad_batches", 1), low=1)

    interval = node.get("check_val_every_n_epoch")
    if interval is not None and check_int("trainer.check_val_every_n_epoch", interval, low=1) > epochs:
        rule = f"must be at most trainer.max_epochs={epochs}, otherwise there is no validation"
        raise ConfigError.at("trainer.check_val_every_n_epoch", rule, found=interval)


def check_early_stopping(callbacks: Iterable[Any], hit_names: Iterable[str]) -> None:
    """Raises ConfigError for early stopping on a metric that validation lacks, or in the wrong direction."""
    metrics = summarise_errors(np.ones(1), 1.0)
    shares = [f"share_within_{radius}_km" for radius in metrics.pop("share_within_km")]
    lower = ["val/loss", "train/loss", *(f"val/{name}" for name in metrics if name.startswith("error"))]
    higher = [f"val/{name}" for name in (*metrics, *shares, *hit_names) if not name.startswith("error")]

    key = "callbacks.early_stopping"
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping):
            continue
        check_int(f"{key}.patience", callback.patience, low=0)
        if callback.monitor not in (*lower, *higher):
            rule = f"must be one of {', '.join((*lower, *higher))}"
            raise ConfigError.at(f"{key}.monitor", rule, found=callback.monitor)
        mode = "min" if callback.monitor in lower else "max"
        if callback.mode != mode:
            raise ConfigError.at(f"{key}.mode", f"must be {mode} for {callback.monitor}", found=callback.mode)


def warn_unreachable_stages(finetuning: Finetuning, schedule: Schedule, epochs: int) -> None:
    """Warns if `max_epochs` ends before the last fine-tuning stage or before the end of the warm-up."""
    if finetuning.last_unlock_epoch >= epochs:
        message = "finetune.stages: the last stage begins at epoch %d, but trainer.max_epochs=%d ends before it"
        log.warning(message, finetuning.last_unlock_epoch, epochs)
    if schedule.warmup_epochs >= epochs:
        message = "schedule.warmup_epochs=%g: with trainer.max_epochs=%d no learning rate reaches its base rate"
        log.warning(message, schedule.warmup_epochs, epochs)


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Turns values that Lightning refuses only when it has the data into errors of the config."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning refuses values of trainer or callbacks: {first_line(error)}") from error
