"""EmaWeights: an exponential moving average of the network's weights, which is what validation sees and keeps.

Not Lightning's own EMAWeightAveraging (read in 2.6.6): that copies the whole module, with targets, metrics and
all that is locked, averages integers as well, has no warm-up, and keeps no average from before an unlocking.
The averaging itself is torch's.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from geoguesser.errors import CheckpointError, ConfigError, check_number
from geoguesser.inference.predictor import PREFIX
from geoguesser.model.network import GeoNetwork

RAW = "geoguesser_ema"  # in a checkpoint: the raw weights, by the network's names


class EmaWeights(Callback):
    """Averages the weights after each optimizer step; the averages are validated, tested and kept.

    `average = d average + (1 - d) weights` with `d = min(decay, (1 + t) / (10 + t))` after t steps, so
    that the start is soon forgotten in a short run. Averaged are parameters that learn and the statistics of
    BatchNorm layers in training; their counts are taken as they are. A locked tensor is its own average, so
    it is not copied, and its average begins with its value at the unlocking: just as if all had been
    averaged from the first step on.

    A checkpoint holds the averages where weights always stand, so that whatever reads it needs nothing
    special, and the raw weights apart, for a resume. After training the network holds the averages.

    Args:
        decay: d in the long run, above 0 and below 1; about 1 / (1 - decay) steps count.

    Raises:
        ConfigError: `callbacks.ema.decay` breaks its rule.

    Source: B. Polyak and A. Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is that of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, *, decay: float = 0.999) -> None:
        self.decay = check_number("callbacks.ema.decay", decay, low=0.0, high=1.0, open_low=True)
        if self.decay == 1.0:
            raise ConfigError.at("callbacks.ema.decay", "must be below 1", found=decay)
        self._kept: dict[str, Tensor] = {}  # the averages; the raw weights while the network holds the averages
        self._swapped = False
        self._step = 0
        self._epochs_pairs: tuple[list[Tensor], list[Tensor]] | None = None  # gathered once, for many short steps

    def decay_after(self, step: int) -> float:
        """The decay at the optimizer step that follows `step` others."""
        return min(self.decay, (1 + step) / (10 + step))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on with the raw weights, also where another fit came before."""
        self._swap(pl_module, averages=False)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Takes in what has been unlocked since, before it moves."""
        self._step = trainer.global_step
        if batch_idx == 0 or self._epochs_pairs is None:
            network = _network(pl_module)
            tensors = network.state_dict()
            for name in moving(network) - self._kept.keys():
                self._kept[name] = tensors[name].clone()
            self._epochs_pairs = self._pairs(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Averages, where this batch ended an optimizer step."""
        if trainer.global_step > self._step:
            assert self._epochs_pairs is not None
            raw, averages = self._epochs_pairs
            average = get_ema_multi_avg_fn(self.decay_after(self._step))  # type: ignore[no-untyped-call]
            average(averages, raw, self._step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the averages into the network."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module, averages=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the raw weights back. The best checkpoint may be written before or after: it looks the same."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module, averages=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the averages in the network."""
        self._swap(pl_module, averages=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes the averages as the weights, and the raw weights apart; copies, for a checkpoint may wait."""
        state = checkpoint["state_dict"]
        held = {name: state[PREFIX + name] for name in self._kept}
        averages, raw = (held, self._kept) if self._swapped else (self._kept, held)
        checkpoint["state_dict"] = state | {PREFIX + name: tensor.clone() for name, tensor in averages.items()}
        checkpoint[RAW] = {name: tensor.clone() for name, tensor in raw.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """On a resume, takes the averages and puts the raw weights into the network."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if RAW not in checkpoint:
            raise CheckpointError(
                "The checkpoint was made without callbacks.ema; it cannot be resumed with it. "
                "Resume without, or start a new run with init_from=RUN_FOLDER."
            )
        raw, tensors = checkpoint[RAW], _network(pl_module).state_dict()
        self._kept = {name: checkpoint["state_dict"][PREFIX + name].clone() for name in raw}
        self._swapped, self._epochs_pairs = False, None
        for name, tensor in raw.items():
            tensors[name].copy_(tensor)

    def _pairs(self, pl_module: pl.LightningModule) -> tuple[list[Tensor], list[Tensor]]:
        """What the network holds and what is kept here, in the same order, on the same devices."""
        held = _network(pl_module).state_dict()
        self._kept = {name: tensor.to(held[name].device) for name, tensor in self._kept.items()}
        return [held[name] for name in self._kept], list(self._kept.values())

    def _swap(self, pl_module: pl.LightningModule, *, averages: bool) -> None:
        if self._swapped == averages:
            return
        for held, kept in zip(*self._pairs(pl_module), strict=True):
            before = held.clone()
            held.copy_(kept)
            kept.copy_(before)
        self._swapped = averages


def moving(network: GeoNetwork) -> set[str]:
    """Names of the tensors that training may change now: unlocked ones, and BatchNorm's statistics."""
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for prefix, module in network.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            buffers = module.named_buffers(prefix, recurse=False)
            names |= {name for name, buffer in buffers if buffer.is_floating_point()}
    return names & network.state_dict().keys()


def refuse_lost_averages(checkpoint: dict[str, Any], callbacks: list[Any]) -> None:
    """Raises CheckpointError where a run with averages would be resumed without: it would train on from them."""
    if RAW in checkpoint and not any(isinstance(one, EmaWeights) for one in callbacks):
        raise CheckpointError(
            "The checkpoint was made with callbacks.ema; it cannot be resumed without it. "
            "Resume with callbacks=ema, or start a new run with init_from=RUN_FOLDER."
        )


def _network(pl_module: pl.LightningModule) -> GeoNetwork:
    network = pl_module.network
    assert isinstance(network, GeoNetwork)
    return network
