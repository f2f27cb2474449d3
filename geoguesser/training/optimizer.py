"""Optimizers: torch's own, with a base rate for head and backbone. A group's rate is base x schedule x gate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from geoguesser.errors import ConfigError, check_bool, check_number
from geoguesser.model.network import GeoNetwork
from geoguesser.training.finetuning import ParameterGroup, collect_parameters


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(ABC):
    """What every optimizer has.

    Attributes:
        lr: Base rate of fusion and head.
        backbone_lr: Base rate of the backbone, once unlocked.
        weight_decay: As torch means it.
    """

    lr: float = 1e-3
    backbone_lr: float = 2e-5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for key in ("lr", "backbone_lr"):
            check_number(f"optimizer.{key}", getattr(self, key), low=0.0, open_low=True)
        check_number("optimizer.weight_decay", self.weight_decay, low=0.0)

    def base_rate(self, group: ParameterGroup) -> float:
        """The group's rate before schedule and gate; 0 for parameters that never learn."""
        if group.unlock_epoch is None:
            return 0.0
        own = self.lr if group.name == "head" else self.backbone_lr
        return (own if group.lr is None else group.lr) * group.factor

    def make(self, network: GeoNetwork, groups: list[ParameterGroup]) -> Optimizer:
        """The optimizer over all groups, in their order."""
        return self._make(
            [
                {"params": collect_parameters(network, group), "lr": self.base_rate(group), "name": group.name}
                for group in groups
            ]
        )

    @abstractmethod
    def _make(self, groups: list[dict[str, Any]]) -> Optimizer: ...


@dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSpec):
    """torch.optim.Adam.

    Attributes:
        betas: Decay of the two running means.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    _kind: ClassVar[Any] = torch.optim.Adam

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.betas)

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return self._kind(groups, betas=tuple(self.betas), weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """torch.optim.AdamW: weight decay apart from the gradient."""

    _kind: ClassVar[Any] = torch.optim.AdamW


@dataclass(frozen=True, kw_only=True)
class SGD(OptimizerSpec):
    """torch.optim.SGD.

    Attributes:
        momentum: From 0 to below 1.
        nesterov: Nesterov's variant; it needs momentum.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if check_number("optimizer.momentum", self.momentum, low=0.0, high=1.0) == 1.0:
            raise ConfigError.at("optimizer.momentum", "must be below 1", found=self.momentum)
        if check_bool("optimizer.nesterov", self.nesterov) and self.momentum == 0.0:
            raise ConfigError.at("optimizer.nesterov", "must be false without momentum", found=True)

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.SGD(
            groups, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )


def _check_betas(betas: Any) -> None:
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise ConfigError.at("optimizer.betas", "must be two numbers", found=betas)
    for beta in betas:
        if check_number("optimizer.betas", beta, low=0.0, high=1.0) == 1.0:
            raise ConfigError.at("optimizer.betas", "must be below 1", found=beta)
