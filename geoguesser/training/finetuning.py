"""Fine-tuning: stages in which parameters are unlocked, with their base learning rates.

All parameters are in the optimizer from the start, in groups by the epoch at which they are unlocked. Only the
epoch decides which groups are trained, so a resumed run trains the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from geoguesser.data.augment import Augment
from geoguesser.errors import ConfigError, check_choice, check_int, check_number
from geoguesser.model.network import GeoNetwork


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are unlocked together.

    Attributes:
        name: Name for logs: `head`, `backbone`, `backbone@3` (unlocked at epoch 3), `locked`; with layer decay
            `backbone.5`, `backbone@3.5` (block 5, where the stem is 0).
        names: Names of the parameters in the network.
        unlock_epoch: First epoch in which they are trained; None for never.
        lr: Base rate; None for that of the optimizer.
        factor: Factor of the base rate, from the layer decay.
    """

    name: str
    names: tuple[str, ...]
    unlock_epoch: int | None
    lr: float | None
    factor: float = 1.0


class Finetuning:
    """Stages in which parameters are unlocked.

    Args:
        stages: Stages as `{epoch, from, lr}`. `from` names the first part that is trained from that epoch on:
            `head` (fusion and head), `last_N` (also the last N blocks of the backbone, in timm's grouping), `all`,
            or the name of a module of the backbone (`blocks.5`), which includes all modules after it. `lr` is the
            base rate of the newly unlocked parameters; null for that of the optimizer.
        batchnorm: `frozen` (running statistics are constant) or `train` (those of unlocked layers are updated).
        layer_decay: Factor of the rate from block to block towards the stem, above 0 and at most 1: early blocks
            hold general features, which need smaller changes. A stage's `lr` is the rate of the topmost block that
            it unlocks, the optimizer's `backbone_lr` that of the backbone's last block.

    Source: discriminative rates: J. Howard and S. Ruder (ULMFiT), arXiv 1801.06146 (they divide by 2.6 from
    layer to layer); as a layer decay of 0.65 to 0.95: H. Bao et al. (BEiT), arXiv 2106.08254.
    """

    def __init__(
        self, *, stages: list[dict[str, Any]], batchnorm: str = "frozen", layer_decay: float = 1.0
    ) -> None:
        check_choice("finetune.batchnorm", batchnorm, ("frozen", "train"))
        check_number("finetune.layer_decay", layer_decay, low=0.0, high=1.0, open_low=True)
        self.layer_decay = float(layer_decay)
        self.train_batchnorm = batchnorm == "train"

        if not stages:
            raise ConfigError.at("finetune.stages", "must hold at least one stage", found=stages)
        self.stages = [_check_stage(f"finetune.stages[{number}]", stage) for number, stage in enumerate(stages)]
        epochs = [epoch for epoch, _, _ in self.stages]
        if epochs[0] != 0 or epochs != sorted(set(epochs)):
            raise ConfigError.at("finetune.stages", "must have increasing epochs from 0", found=epochs)

        if self.layer_decay != 1.0 and self.freezes_backbone:
            rule, remedy = "must be 1 if no block is trained", "Choose finetune=staged or full."
            raise ConfigError.at("finetune.layer_decay", rule, found=layer_decay, remedy=remedy)

    @property
    def freezes_backbone(self) -> bool:
        """True if the backbone is never trained, so that its embeddings can be computed once."""
        return all(start == "head" for _, start, _ in self.stages)

    @property
    def last_unlock_epoch(self) -> int:
        return self.stages[-1][0]

    def embeds_once(self, augment: Augment) -> bool:
        """Returns whether each view has one embedding: the backbone is frozen and views are not augmented."""
        return self.freezes_backbone and not augment.active

    def make_groups(self, network: GeoNetwork) -> list[ParameterGroup]:
        """Groups the parameters of a network, each into exactly one group.

        Raises:
            ConfigError: A stage's `from` is not a part of the backbone, or unlocks nothing new; or there is layer
                decay, and timm does not divide the backbone into blocks.
        """
        names = [name for name, _ in network.named_parameters()]
        head_names = tuple(name for name in names if not name.startswith("backbone."))
        _, first_start, first_lr = self.stages[0]
        groups = [ParameterGroup("head", head_names, 0, first_lr if first_start == "head" else None)]

        unlocked: set[str] = set()
        for number, (epoch, start, lr) in enumerate(self.stages):
            key = f"finetune.stages[{number}].from"
            new = tuple(name for name in find_unlocked_names(network, start, key) if name not in unlocked)
            if new:
                unlocked.update(new)
                name = "backbone" if epoch == 0 else f"backbone@{epoch}"
                groups += self._split_by_block(network, ParameterGroup(name, new, epoch, lr))
            elif start != "head" or number > 0:
                raise ConfigError.at(key, "must unlock more than the stages before", found=start)

        locked = tuple(name for name in names if name.startswith("backbone.") and name not in unlocked)
        return [*groups, ParameterGroup("locked", locked, None, 0.0)] if locked else groups

    def _split_by_block(self, network: GeoNetwork, group: ParameterGroup) -> list[ParameterGroup]:
        """Splits a group by block from the stem up, if there is a layer decay."""
        if self.layer_decay == 1.0:
            return [group]
        blocks = network.backbone.blocks()
        if len(blocks) == 1:
            rule = f"must be 1 for {network.backbone.name}, which timm does not divide into blocks"
            raise ConfigError.at("finetune.layer_decay", rule, found=self.layer_decay)

        unlocked = set(group.names)
        parts = [tuple(name for name in to_network_names(network, block) if name in unlocked) for block in blocks]
        numbers = [number for number, names in enumerate(parts) if names]

        # A stage's rate belongs to the topmost block that it unlocks, that of the optimizer to the last block.
        top = len(blocks) - 1 if group.lr is None else numbers[-1]
        factors = {number: self.layer_decay ** (top - number) for number in numbers}
        return [
            replace(group, name=f"{group.name}.{number}", names=parts[number], factor=factor)
            for number, factor in factors.items()
        ]

    def apply(self, network: GeoNetwork, groups: list[ParameterGroup], epoch: int) -> None:
        """Locks and unlocks parameters for an epoch, and updates the modes of BatchNorm layers."""
        parameters = dict(network.named_parameters())
        for group in groups:
            unlocked = group.unlock_epoch is not None and epoch >= group.unlock_epoch
            for name in group.names:
                parameters[name].requires_grad_(unlocked)

        # The modes of BatchNorm layers depend on which parameters are unlocked; `train` sets them.
        network.train_batchnorm = self.train_batchnorm
        network.train(network.training)


def find_unlocked_names(network: GeoNetwork, start: str, key: str) -> list[str]:
    """Returns the names of the backbone's parameters that are trained if everything from `start` on is unlocked.

    Raises `ConfigError` for the config key if `start` is not a part of the backbone.
    """
    if start == "head":
        return []
    blocks = network.backbone.blocks()
    names = [name for block in blocks for name in block]

    if start == "all":
        return to_network_names(network, names)
    if start.startswith("last_") and start[5:].isdigit():
        count = int(start[5:])
        if not 1 <= count <= len(blocks):
            rule = f"must be last_1 to last_{len(blocks)} for {network.backbone.name}"
            raise ConfigError.at(key, rule, found=start)
        return to_network_names(network, [name for block in blocks[-count:] for name in block])

    for number, name in enumerate(names):
        if name == start or name.startswith(f"{start}."):
            return to_network_names(network, names[number:])
    parts = dict.fromkeys(".".join(name.split(".")[: 2 if name.startswith("blocks.") else 1]) for name in names)
    remedy = f"Parts of {network.backbone.name}: {', '.join(parts)}."
    raise ConfigError.at(key, "must be head, last_N, all or a part of the backbone", found=start, remedy=remedy)


def to_network_names(network: GeoNetwork, names: list[str]) -> list[str]:
    """Returns the names in the network of parameters of the backbone's blocks."""
    return [f"backbone.{network.backbone.prefix}{name}" for name in names]


def collect_parameters(network: nn.Module, group: ParameterGroup) -> list[nn.Parameter]:
    """Returns the parameters of a group."""
    parameters = dict(network.named_parameters())
    return [parameters[name] for name in group.names]


def _check_stage(key: str, stage: Any) -> tuple[int, str, float | None]:
    if not isinstance(stage, dict) or not {"epoch", "from"} <= set(stage) <= {"epoch", "from", "lr"}:
        raise ConfigError.at(key, "must have the keys epoch and from, and may have lr", found=stage)

    epoch = check_int(f"{key}.epoch", stage["epoch"], low=0)
    lr = stage.get("lr")
    if lr is not None:
        check_number(f"{key}.lr", lr, low=0.0, open_low=True)
    return epoch, str(stage["from"]), lr
