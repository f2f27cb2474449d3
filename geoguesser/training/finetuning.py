"""Fine-tuning: which parameters are unlocked when, and at which base rate.

All parameters are in the optimizer from the start, in groups by the epoch at which they are unlocked.
Everything follows from the epoch alone, so a resumed run cannot lose an unlocking.
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
        name: For logs: `head`, `backbone`, `backbone@3` (unlocked at epoch 3), `locked`; with layer decay
            `backbone.5`, `backbone@3.5` (block 5, counted from the stem's 0).
        names: Their names in the network.
        unlock_epoch: From when they learn; None for never.
        lr: Their base rate; None for the optimizer's.
        factor: By what that rate is multiplied: the layer decay of their depth.
    """

    name: str
    names: tuple[str, ...]
    unlock_epoch: int | None
    lr: float | None
    factor: float = 1.0


class Finetuning:
    """Stages of unlocking.

    Args:
        stages: Each `{epoch, from, lr}`. `from` says what learns from that epoch on: `head` (fusion and
            head), `last_N` (also the backbone's last N blocks, by timm's grouping), `all`, or a name of a
            backbone's module (`blocks.5`): that block and all behind it. `lr` is the base rate of what
            the stage unlocks newly; null for the optimizer's.
        batchnorm: `frozen` (statistics stand still) or `train` (those of unlocked layers move).
        layer_decay: From block to block towards the stem the rate is multiplied by this, above 0 and up to
            1: early blocks hold what all images share and want to move less. A stage's `lr` is the rate of
            the topmost block that it unlocks, the optimizer's backbone_lr that of the backbone's last block.

    Raises:
        ConfigError: A value breaks its rule.

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
        if self.layer_decay != 1.0 and self.freezes_backbone:
            raise ConfigError.at(
                "finetune.layer_decay",
                "must be 1 where no block ever learns",
                found=layer_decay,
                remedy="Choose finetune=staged or full.",
            )

    def make_groups(self, network: GeoNetwork) -> list[ParameterGroup]:
        """All parameters of the network, each in one group.

        Raises:
            ConfigError: A stage's `from` fits no part of the backbone, or unlocks nothing new; or
                there is a layer decay and timm tells the backbone's blocks not apart.
        """
        rest = tuple(name for name, _ in network.named_parameters() if not name.startswith("backbone."))
        first_lr = self.stages[0][2] if self.stages[0][1] == "head" else None
        groups = [ParameterGroup("head", rest, 0, first_lr)]
        taken: set[str] = set()
        for number, (epoch, start, lr) in enumerate(self.stages):
            unlocked = find_unlocked_names(network, start, f"finetune.stages[{number}].from")
            new = tuple(name for name in unlocked if name not in taken)
            if not new and (start != "head" or number > 0):
                raise ConfigError.at(
                    f"finetune.stages[{number}].from", "must unlock more than the stages before", found=start
                )
            taken.update(new)
            if new:
                name = "backbone" if epoch == 0 else f"backbone@{epoch}"
                groups += self._by_depth(network, ParameterGroup(name, new, epoch, lr))
        locked = tuple(
            name for name, _ in network.named_parameters() if name.startswith("backbone.") and name not in taken
        )
        if locked:
            groups.append(ParameterGroup("locked", locked, None, 0.0))
        return groups

    def _by_depth(self, network: GeoNetwork, group: ParameterGroup) -> list[ParameterGroup]:
        """One stage's parameters, with a layer decay in a group per block, from the stem on."""
        if self.layer_decay == 1.0:
            return [group]
        blocks = network.backbone.blocks()
        if len(blocks) == 1:
            raise ConfigError.at(
                "finetune.layer_decay",
                f"must be 1 for {network.backbone.name}, whose blocks timm does not tell apart",
                found=self.layer_decay,
            )
        new = set(group.names)
        parts = [tuple(name for name in to_network_names(block) if name in new) for block in blocks]
        touched = [number for number, names in enumerate(parts) if names]
        top = len(blocks) - 1 if group.lr is None else touched[-1]
        return [
            replace(
                group,
                name=f"{group.name}.{number}",
                names=parts[number],
                factor=self.layer_decay ** (top - number),
            )
            for number in touched
        ]

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
    def freezes_backbone(self) -> bool:
        """Whether the backbone never learns, so that its embeddings can be computed once."""
        return all(start == "head" for _, start, _ in self.stages)

    def embeds_once(self, augment: Augment) -> bool:
        """Whether the backbone sees each view once: it never learns, and views never change."""
        return self.freezes_backbone and not augment.active

    @property
    def last_unlock_epoch(self) -> int:
        """The epoch of the last stage."""
        return self.stages[-1][0]


def find_unlocked_names(network: GeoNetwork, start: str, key: str) -> list[str]:
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
    return to_network_names(chosen)


def to_network_names(names: list[str]) -> list[str]:
    """The network's names of a timm model's parameters."""
    return [f"backbone.model.{name}" for name in names]


def collect_parameters(network: nn.Module, group: ParameterGroup) -> list[nn.Parameter]:
    """The parameters of a group."""
    own = dict(network.named_parameters())
    return [own[name] for name in group.names]
