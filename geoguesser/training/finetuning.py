"""Fine-tuning: which parameters are unlocked when, and at which base rate.

All parameters are in the optimizer from the start, in groups by the epoch at which they are unlocked.
Everything follows from the epoch alone, so a resumed run cannot lose an unlocking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from geoguesser.errors import ConfigError, check_choice, check_int, check_number
from geoguesser.model.network import GeoNetwork


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are unlocked together.

    Attributes:
        name: For logs: `head`, `backbone`, `backbone@3` (unlocked at epoch 3), `locked`.
        names: Their names in the network.
        unlock_epoch: From when they learn; None for never.
        lr: Their base rate; None for the optimizer's.
    """

    name: str
    names: tuple[str, ...]
    unlock_epoch: int | None
    lr: float | None


class Finetuning:
    """Stages of unlocking.

    Args:
        stages: Each `{epoch, from, lr}`. `from` says what learns from that epoch on: `head` (fusion and
            head), `last_N` (also the backbone's last N blocks, by timm's grouping), `all`, or a name of a
            backbone's module (`blocks.5`): that block and all behind it. `lr` is the base rate of what
            the stage unlocks newly; null for the optimizer's.
        batchnorm: `frozen` (statistics stand still) or `train` (those of unlocked layers move).

    Raises:
        ConfigError: A stage breaks a rule.
    """

    def __init__(self, *, stages: list[dict[str, Any]], batchnorm: str = "frozen") -> None:
        check_choice("finetune.batchnorm", batchnorm, ("frozen", "train"))
        self.train_batchnorm = batchnorm == "train"
        if not stages:
            raise ConfigError.at("finetune.stages", "must hold at least one stage", found=stages)
        self.stages: list[tuple[int, str, float | None]] = []
        for number, stage in enumerate(stages):
            key = f"finetune.stages[{number}]"
            if (
                not isinstance(stage, dict)
                or set(stage) - {"epoch", "from", "lr"}
                or not {"epoch", "from"} <= set(stage)
            ):
                raise ConfigError.at(key, "must have the keys epoch and from, and may have lr", found=stage)
            epoch = check_int(f"{key}.epoch", stage["epoch"], low=0)
            lr = stage.get("lr")
            if lr is not None:
                check_number(f"{key}.lr", lr, low=0.0, open_low=True)
            self.stages.append((epoch, str(stage["from"]), lr))
        epochs = [epoch for epoch, _, _ in self.stages]
        if epochs[0] != 0 or epochs != sorted(set(epochs)):
            raise ConfigError.at("finetune.stages", "must begin at epoch 0 and rise", found=epochs)

    def groups(self, network: GeoNetwork) -> list[ParameterGroup]:
        """All parameters of the network, each in one group.

        Raises:
            ConfigError: A stage's `from` fits no part of the backbone, or unlocks nothing new.
        """
        rest = tuple(name for name, _ in network.named_parameters() if not name.startswith("backbone."))
        first_lr = self.stages[0][2] if self.stages[0][1] == "head" else None
        groups = [ParameterGroup("head", rest, 0, first_lr)]
        taken: set[str] = set()
        for number, (epoch, start, lr) in enumerate(self.stages):
            unlocked = unlocked_from(network, start, f"finetune.stages[{number}].from")
            new = tuple(name for name in unlocked if name not in taken)
            if not new and (start != "head" or number > 0):
                raise ConfigError.at(
                    f"finetune.stages[{number}].from", "must unlock more than the stages before", found=start
                )
            taken.update(new)
            if new:
                groups.append(ParameterGroup("backbone" if epoch == 0 else f"backbone@{epoch}", new, epoch, lr))
        locked = tuple(
            name for name, _ in network.named_parameters() if name.startswith("backbone.") and name not in taken
        )
        if locked:
            groups.append(ParameterGroup("locked", locked, None, 0.0))
        return groups

    def apply(self, network: GeoNetwork, groups: list[ParameterGroup], epoch: int) -> None:
        """Locks and unlocks parameters as the epoch demands, and sets the modes that follow from it."""
        parameters = dict(network.named_parameters())
        for group in groups:
            unlocked = group.unlock_epoch is not None and epoch >= group.unlock_epoch
            for name in group.names:
                parameters[name].requires_grad_(unlocked)
        network.train_batchnorm = self.train_batchnorm
        network.train(network.training)

    @property
    def keeps_backbone(self) -> bool:
        """Whether the backbone never learns, so that its embeddings can be computed once."""
        return all(start == "head" for _, start, _ in self.stages)

    @property
    def last_unlocking(self) -> int:
        """The epoch of the last stage."""
        return self.stages[-1][0]


def unlocked_from(network: GeoNetwork, start: str, key: str) -> list[str]:
    """Names of the backbone's parameters that learn when everything from `start` on is unlocked.

    Raises:
        ConfigError: `start` fits nothing.
    """
    if start == "head":
        return []
    blocks = network.backbone.blocks()
    ordered = [name for block in blocks for name in block]
    if start == "all":
        chosen = ordered
    elif start.startswith("last_") and start[5:].isdigit():
        count = int(start[5:])
        if not 1 <= count <= len(blocks):
            raise ConfigError.at(
                key, f"must be last_1 to last_{len(blocks)} for {network.backbone.name}", found=start
            )
        chosen = [name for block in blocks[-count:] for name in block]
    else:
        first = next((i for i, name in enumerate(ordered) if name == start or name.startswith(f"{start}.")), None)
        if first is None:
            tops = dict.fromkeys(
                ".".join(name.split(".")[:2]) if name.startswith("blocks.") else name.split(".")[0]
                for name in ordered
            )
            raise ConfigError.at(
                key,
                "must be head, last_N, all or a part of the backbone",
                found=start,
                remedy=f"Parts of {network.backbone.name}: {', '.join(tops)}.",
            )
        chosen = ordered[first:]
    return [f"backbone.model.{name}" for name in chosen]


def parameters_of(network: nn.Module, group: ParameterGroup) -> list[nn.Parameter]:
    """The parameters of a group."""
    own = dict(network.named_parameters())
    return [own[name] for name in group.names]
