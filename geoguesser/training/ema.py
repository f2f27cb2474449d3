"""Exponential moving average of the network's weights, which validation sees and checkpoints keep.

A class over Lightning's `WeightAveraging` was tried with 2.6.6 and fails tests in
tests/training/test_ema.py. It copies the complete LightningModule, so a frozen backbone is averaged at each
step and stands twice in each checkpoint. And after a fit, `trainer.test(ckpt_path=...)` loads the raw weights
of the checkpoint, not the averages. The averaging function here is torch's.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from geoguesser.errors import CheckpointError, ConfigError, check_number
from geoguesser.inference.checkpoint import STATE_PREFIX
from geoguesser.model.network import GeoNetwork

# Key of the raw weights in a checkpoint.
RAW = "geoguesser_ema"


class EmaWeights(Callback):
    """Exponential moving average of the weights after each optimizer step.

    `average = d average + (1 - d) weights` with `d = min(decay, (1 + t) / (10 + t))` after t steps: the warm-up
    lets a short run forget its initial weights. Parameters that are trained and the statistics of BatchNorm layers
    in training are averaged; the counts of these layers are taken as they are. A locked tensor equals its average,
    so it is not copied until it is unlocked. The result is that of averaging all tensors from the first step on.

    The averages are validated and tested. A checkpoint holds them under the network's own keys, so that prediction
    works without this class, and the raw weights under `geoguesser_ema`, from which training is resumed. After
    training the network holds the averages.

    Args:
        decay: d in a long run, above 0 and below 1; the average is over about the last 1 / (1 - decay) steps.

    Source: B. Polyak and A. Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is that of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, *, decay: float = 0.999) -> None:
        self.decay = check_number("callbacks.ema.decay", decay, low=0.0, high=1.0, open_low=True)
        if self.decay == 1.0:
            raise ConfigError.at("callbacks.ema.decay", "must be below 1", found=decay)
        self._averages: dict[str, Tensor] = {}
        # The raw weights while the network holds the averages, else None.
        self._raw: dict[str, Tensor] | None = None
        # The network's own tensors in the order of the averages, gathered once per epoch.
        self._weights: dict[str, Tensor] = {}
        self._step = 0

    def decay_after(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the raw weights if an earlier fit left the averages in the network."""
        self._restore_raw(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the averages of tensors unlocked for this epoch, with their values before its first step."""
        self._step = trainer.global_step
        if batch_idx > 0 and self._weights:
            return

        network = _network(pl_module)
        names = self._averages.keys() | _moving_names(network)
        self._weights = {name: tensor for name, tensor in network.state_dict().items() if name in names}
        self._averages = {
            name: self._averages[name].to(tensor.device) if name in self._averages else tensor.clone()
            for name, tensor in self._weights.items()
        }

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the averages if the batch ended an optimizer step; gradients may be accumulated over several."""
        if trainer.global_step > self._step:
            update = get_ema_multi_avg_fn(self.decay_after(self._step))  # type: ignore[no-untyped-call]
            update(list(self._averages.values()), list(self._weights.values()), self._step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._use_averages(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the raw weights. A checkpoint written before or after has the same content."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._restore_raw(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._use_averages(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["state_dict"]
        raw = self._raw if self._raw is not None else {name: state[STATE_PREFIX + name] for name in self._averages}

        # Copies, because a checkpoint may be written later, when training has gone on.
        checkpoint[RAW] = {name: tensor.clone() for name, tensor in raw.items()}
        averages = {STATE_PREFIX + name: tensor.clone() for name, tensor in self._averages.items()}
        checkpoint["state_dict"] = state | averages

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if RAW not in checkpoint:
            raise CheckpointError(
                "The checkpoint was made without callbacks.ema; it cannot be resumed with it. "
                "Resume without, or start a new run with init_from=RUN_FOLDER."
            )

        self._averages = {name: checkpoint["state_dict"][STATE_PREFIX + name].clone() for name in checkpoint[RAW]}
        self._raw, self._weights = None, {}
        _copy_into(pl_module, checkpoint[RAW])

    def _use_averages(self, pl_module: pl.LightningModule) -> None:
        if self._raw is None:
            state = _network(pl_module).state_dict()
            self._raw = {name: state[name].clone() for name in self._averages}
            _copy_into(pl_module, self._averages)

    def _restore_raw(self, pl_module: pl.LightningModule) -> None:
        if self._raw is not None:
            _copy_into(pl_module, self._raw)
            self._raw = None


def refuse_lost_averages(checkpoint: dict[str, Any], callbacks: list[Any]) -> None:
    """Refuses to resume a run with averages without the callback: training would go on from the averages."""
    if RAW in checkpoint and not any(isinstance(callback, EmaWeights) for callback in callbacks):
        raise CheckpointError(
            "The checkpoint was made with callbacks.ema; it cannot be resumed without it. "
            "Resume with callbacks=ema, or start a new run with init_from=RUN_FOLDER."
        )


def _moving_names(network: GeoNetwork) -> set[str]:
    """Returns the names of tensors that training may change now: unlocked parameters and BatchNorm statistics."""
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for prefix, module in network.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            buffers = module.named_buffers(prefix, recurse=False)
            names |= {name for name, buffer in buffers if buffer.is_floating_point()}
    return names & network.state_dict().keys()


def _copy_into(pl_module: pl.LightningModule, tensors: dict[str, Tensor]) -> None:
    state = _network(pl_module).state_dict()
    for name, tensor in tensors.items():
        state[name].copy_(tensor)


def _network(pl_module: pl.LightningModule) -> GeoNetwork:
    network = pl_module.network
    assert isinstance(network, GeoNetwork)
    return network
