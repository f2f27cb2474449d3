"""Values of schedules, optimizers, fine-tuning and callbacks that are refused with their key and rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.toy_run import HEAD_ONLY

from geoguesser.errors import ConfigError
from geoguesser.training.callbacks import BestCheckpoint
from geoguesser.training.ema import EmaWeights
from geoguesser.training.feature_cache import FeatureCache
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Constant, Cosine, OneCycle, Plateau, Step

ALL = [{"epoch": 0, "from": "all"}]
NESTEROV_WITH_DAMPENING = {"name": "SGD", "dampening": 0.5, "momentum": 0.9, "nesterov": True}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Constant, {"warmup_epochs": -1}, "schedule.warmup_epochs must be a number from 0"),
        (Step, {"every_epochs": 0}, "schedule.every_epochs must be a positive integer"),
        (Step, {"factor": 0}, "schedule.factor must be a number above 0 to 1"),
        (Cosine, {"final_factor": 2}, "schedule.final_factor must be a number from 0 to 1"),
        (OneCycle, {"pct_start": 1.0}, "schedule.pct_start must be a number above 0 to 0.99"),
        (OneCycle, {"start": 0}, "schedule.start must be a number above 0 to 1"),
        (OneCycle, {"final_factor": 0.0}, "schedule.final_factor must be a number above 0 to 1"),
        (OneCycle, {"warmup_epochs": 1}, "schedule.warmup_epochs must be 0 with schedule=onecycle"),
        (Plateau, {"factor": 1.0}, "schedule.factor must be a number above 0 to 0.999"),
        (Plateau, {"patience": 1.5}, "schedule.patience must be an integer from 0 up"),
        (Plateau, {"threshold": -0.1}, "schedule.threshold must be a number from 0 to 1"),
        (Plateau, {"cooldown": "a"}, "schedule.cooldown must be an integer from 0 up"),
        (Plateau, {"floor": 1.1}, "schedule.floor must be a number from 0 to 1"),
        (OptimizerSpec, {"name": "LBFGS"}, "optimizer.name must be one of ASGD, "),
        (OptimizerSpec, {"name": "Adam", "momentum": 0.9}, "optimizer.momentum is not a key of Adam. Its keys: "),
        (OptimizerSpec, {"name": "Adam", "params": []}, "optimizer.params is not a key of Adam"),
        (OptimizerSpec, {"name": "Adam", "lr": "fast"}, "optimizer.lr must be a number above 0"),
        (OptimizerSpec, {"name": "AdamW", "backbone_lr": -1.0}, "optimizer.backbone_lr must be a number above 0"),
        (OptimizerSpec, {"name": "SGD", "weight_decay": -1}, "optimizer.weight_decay must be a number from 0"),
        (OptimizerSpec, {"name": "Adam", "betas": 0.9}, "optimizer.betas must be two numbers"),
        (OptimizerSpec, {"name": "AdamW", "betas": [0.9, 1.0]}, "optimizer.betas must be below 1"),
        (OptimizerSpec, {"name": "AdamW", "betas": [0.9, "a"]}, "optimizer.betas must be a number from 0 to 1"),
        (OptimizerSpec, {"name": "SGD", "momentum": 1.0}, "optimizer.momentum must be below 1"),
        (OptimizerSpec, {"name": "SGD", "nesterov": "yes"}, "optimizer.nesterov must be true or false"),
        (OptimizerSpec, {"name": "SGD", "nesterov": True}, "optimizer.nesterov must be false without momentum"),
        (OptimizerSpec, {"name": "Adam", "eps": -1}, "optimizer.eps must be a value that torch.optim.Adam takes"),
        (OptimizerSpec, NESTEROV_WITH_DAMPENING, "optimizer.nesterov must be a value that torch.optim.SGD takes"),
        (Finetuning, {"stages": []}, "finetune.stages must hold at least one stage"),
        (Finetuning, {"stages": ["all"]}, "finetune.stages[0] must have the keys epoch and from"),
        (Finetuning, {"stages": [{"epoch": 0}]}, "finetune.stages[0] must have the keys epoch and from"),
        (Finetuning, {"stages": [ALL[0] | {"rate": 1}]}, "finetune.stages[0] must have the keys epoch and from"),
        (Finetuning, {"stages": [ALL[0] | {"epoch": 0.5}]}, "finetune.stages[0].epoch must be an integer from 0"),
        (Finetuning, {"stages": [ALL[0] | {"lr": 0}]}, "finetune.stages[0].lr must be a number above 0"),
        (Finetuning, {"stages": [ALL[0] | {"epoch": 1}]}, "finetune.stages must have increasing epochs from 0"),
        (Finetuning, {"stages": [*HEAD_ONLY, *ALL]}, "finetune.stages must have increasing epochs from 0"),
        (Finetuning, {"stages": ALL, "batchnorm": "eval"}, "finetune.batchnorm must be one of frozen, train"),
        (Finetuning, {"stages": ALL, "layer_decay": 0}, "finetune.layer_decay must be a number above 0 to 1"),
        (Finetuning, {"stages": ALL, "layer_decay": 1.5}, "finetune.layer_decay must be a number above 0 to 1"),
        (Finetuning, {"stages": HEAD_ONLY, "layer_decay": 0.9}, "finetune.layer_decay must be 1 if no block is"),
        (EmaWeights, {"decay": 1.0}, "callbacks.ema.decay must be below 1"),
        (EmaWeights, {"decay": 0}, "callbacks.ema.decay must be a number above 0 to 1"),
        (FeatureCache, {"cache": 1}, "features.cache must be true or false"),
        (FeatureCache, {"limit_gib": -1}, "features.limit_gib must be a number from 0"),
        (FeatureCache, {"batch_size": 0}, "features.batch_size must be a positive integer"),
        (BestCheckpoint, {"dirpath": "c", "save_top_k": 0}, "callbacks.checkpoint.save_top_k must be a positive"),
    ],
)
def test_a_wrong_value_is_refused(kind: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        kind(**options)
