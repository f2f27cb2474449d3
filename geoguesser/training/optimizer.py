"""Optimizer from `torch.optim`, with base learning rates for the head and the backbone."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Optimizer

from geoguesser.errors import ConfigError, check_bool, check_choice, check_number, first_line
from geoguesser.model.network import GeoNetwork
from geoguesser.training.finetuning import ParameterGroup, collect_parameters

# LBFGS has no parameter groups, SparseAdam needs sparse gradients, and Muon takes matrices only, not biases.
UNUSABLE = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
NAMES = tuple(
    name
    for name, value in inspect.getmembers(torch.optim, inspect.isclass)
    if issubclass(value, Optimizer) and name not in UNUSABLE
)

# Arguments that are set per parameter group, not for the optimizer as a whole.
BY_GROUP = ("params", "lr")


class OptimizerSpec:
    """Class of `torch.optim` with its arguments, and the base learning rates.

    The learning rate of a parameter group is base x schedule x gate.

    Args:
        name: Name of a class in `torch.optim`, for example `Adam`.
        lr: Base learning rate of fusion and head.
        backbone_lr: Base learning rate of the backbone, once unlocked.
        options: Further arguments of the class, for example `weight_decay`, `betas` or `momentum`.

    Raises:
        ConfigError: The class is unknown, it has no such argument, or it refuses a value.
    """

    def __init__(self, name: str, *, lr: float = 1e-3, backbone_lr: float = 2e-5, **options: Any) -> None:
        self.name = check_choice("optimizer.name", name, NAMES)
        self.lr = check_number("optimizer.lr", lr, low=0.0, open_low=True)
        self.backbone_lr = check_number("optimizer.backbone_lr", backbone_lr, low=0.0, open_low=True)
        self._class: Any = getattr(torch.optim, name)
        self.options = self._check_options(options)

    def base_rate(self, group: ParameterGroup) -> float:
        """Returns the learning rate of a group before schedule and gate; 0 for parameters that never learn."""
        if group.unlock_epoch is None:
            return 0.0
        default = self.lr if group.name == "head" else self.backbone_lr
        return (default if group.lr is None else group.lr) * group.factor

    def make(self, network: GeoNetwork, groups: list[ParameterGroup]) -> Optimizer:
        parameters = [
            {"params": collect_parameters(network, group), "lr": self.base_rate(group), "name": group.name}
            for group in groups
        ]
        return self._class(parameters, **self.options)

    def _check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Binds options to the signature of the class and checks their values."""
        parameters = inspect.signature(self._class).parameters
        defaults = {key: item.default for key, item in parameters.items() if key not in BY_GROUP}
        unknown = sorted(set(options) - set(defaults))
        if unknown:
            keys = ", ".join(sorted({"name", "lr", "backbone_lr", *defaults}))
            raise ConfigError(f"optimizer.{unknown[0]} is not a key of {self.name}. Its keys: {keys}.")

        checked = {key: _check_value(f"optimizer.{key}", value, defaults[key]) for key, value in options.items()}
        if checked.get("nesterov") and not checked.get("momentum", defaults["momentum"]):
            raise ConfigError.at("optimizer.nesterov", "must be false without momentum", found=True)

        # torch refuses other values in the constructor: call it now, before any data are read.
        error = self._refusal(checked)
        if error is not None:
            key = next((name for name, value in checked.items() if self._refusal({name: value})), None)
            where = "optimizer" if key is None else f"optimizer.{key}"
            rule = f"must be a value that torch.optim.{self.name} takes ({first_line(error)})"
            raise ConfigError.at(where, rule, found=checked if key is None else checked[key]) from error
        return checked

    def _refusal(self, options: dict[str, Any]) -> Exception | None:
        """Returns the error of torch for these options; None if it takes them."""
        try:
            self._class([torch.nn.Parameter(torch.zeros(1))], lr=self.lr, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            return error
        return None


def _check_value(key: str, value: Any, default: Any) -> Any:
    """Checks a value against the type of the argument's default, and returns it as torch wants it."""
    if isinstance(default, bool):
        return check_bool(key, value)
    if isinstance(default, int | float):
        return _check_option(key, value)
    if not isinstance(default, tuple):
        return value

    # YAML has lists for tuples. Adafactor allows null for a number whose default is null.
    if not isinstance(value, list | tuple) or len(value) != len(default):
        raise ConfigError.at(key, "must be two numbers", found=value)
    pairs = zip(value, default, strict=True)
    return tuple(None if item is None and usual is None else _check_option(key, item) for item, usual in pairs)


def _check_option(key: str, value: Any) -> float:
    """Checks a number; decay rates of running means must be below 1, where torch does not always refuse 1."""
    if key == "optimizer.weight_decay":
        return check_number(key, value, low=0.0)
    if key not in ("optimizer.betas", "optimizer.momentum"):
        return check_number(key, value)
    if check_number(key, value, low=0.0, high=1.0) == 1.0:
        raise ConfigError.at(key, "must be below 1", found=value)
    return float(value)
