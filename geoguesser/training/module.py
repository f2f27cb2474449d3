"""GeoLightningModule: a network in training. One `_step` for training, validation and test."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from geoguesser.data.batches import Batch, FeatureBatch
from geoguesser.errors import CheckpointError, ConfigError, GeoguesserError
from geoguesser.model.fusion import drop_views
from geoguesser.model.losses import LossTarget
from geoguesser.model.metrics import PlaceErrors, PlaceResults, summarise_errors
from geoguesser.model.network import GeoNetwork
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Schedule, compute_rates

MONITOR = "val/error_km_mean"
DECODE_BATCH_SIZE = 1024  # places of an evaluation, for a search costs nearly the same for one as for a hundred
VIEW_DROPOUT_SEED = (
    0x9E3779B9  # sets the seeds of view dropout apart from augmentation's; torch reads their low 32 bits
)


class GeoLightningModule(pl.LightningModule):
    """Trains a GeoNetwork.

    Args:
        network: Backbone, fusion, head.
        targets: The head's targets by row of the table of places, made once.
        optimizer: Torch's optimizer and base rates.
        schedule: The factor of the base rates.
        finetuning: What is unlocked when.
        diagonal_km: The region's diagonal, for the game score.
        record: Plain values that go into every checkpoint under `geoguesser` (the locator's state).
        results_file: Where a test leaves what each place got (index, predicted_deg, hits); a file, for
            the test may run in a process that Lightning forked.
        compile_network: Compile the backbone with torch.compile.
        seed: With the step it draws the views that are dropped in training.
    """

    def __init__(
        self,
        network: GeoNetwork,
        *,
        targets: LossTarget,
        optimizer: OptimizerSpec,
        schedule: Schedule,
        finetuning: Finetuning,
        diagonal_km: float,
        record: dict[str, Any],
        results_file: str | None = None,
        compile_network: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self._target_names = tuple(targets)
        for name, tensor in targets.items():
            self.register_buffer(f"target_{name}", tensor, persistent=False)
        self.optimizer_spec, self.schedule, self.finetuning = optimizer, schedule, finetuning
        self.groups = finetuning.make_groups(network)
        self.base_rates = [optimizer.base_rate(group) for group in self.groups]
        self.diagonal_km, self.record, self.compile_network = diagonal_km, record, compile_network
        self.errors = {"val": PlaceErrors(), "test": PlaceErrors()}
        self._val_errors, self._test_errors = self.errors["val"], self.errors["test"]  # registers them
        self.results_file, self.seed = results_file, seed
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # index, output, coords_deg of batches not decoded
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._opened: list[bool] | None = None
        self._trained: list[nn.Module] = []  # while validation goes on, the modules that were in training
        self.on_started: Callable[[], None] | None = None  # called when training really begins

    def configure_model(self) -> None:
        """Compiles the backbone in place: the state dict keeps its keys."""
        if self.compile_network:
            self.compile_network = False
            self.network.backbone.compile()

    def setup(self, stage: str) -> None:
        """Locks what is locked at this epoch, before any strategy wraps the network."""
        if stage != "fit":
            return
        check_late_unlocking(self.finetuning, self.trainer.world_size)
        self.finetuning.apply(self.network, self.groups, self.current_epoch)

    def configure_optimizers(self) -> Optimizer:
        """All parameters, in the groups of the fine-tuning's stages."""
        return self.optimizer_spec.make(self.network, self.groups)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """(B, 4, 3, H, W) uint8 and (B, 4) mask -> (B, 2) predicted latitude and longitude."""
        return self.network.head.decode(self.network(images, mask))

    @property
    def targets(self) -> LossTarget:
        """The head's targets of all places, on the module's device."""
        return {name: getattr(self, f"target_{name}") for name in self._target_names}

    def select_targets(self, index: Tensor) -> LossTarget:
        """The targets of the places in these rows."""
        return {name: torch.index_select(tensor, 0, index) for name, tensor in self.targets.items()}

    def _views(self, mask: Tensor, stage: str) -> Tensor:
        """(B, 4) the views that count: in training some are dropped, drawn from (seed, step) alone."""
        share = self.network.fusion.view_dropout
        if stage != "train" or share == 0.0:
            return mask
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx * self.trainer.world_size
        draw = self.seed * 1_000_003 + step + self.trainer.global_rank + VIEW_DROPOUT_SEED
        return drop_views(mask, share, draw % 2**63)

    def _step(self, batch: Batch | FeatureBatch, stage: str) -> Tensor:
        mask = self._views(batch.mask, stage)
        features = batch.features if isinstance(batch, FeatureBatch) else self.network.embed(batch.images, mask)
        out = self.network.from_features(features, mask)
        loss = self.network.head.loss(out, self.select_targets(batch.index))
        self._sums[stage] += len(batch.index) * loss.detach()
        self._counts[stage] += len(batch.index)
        if stage != "train":
            self._waiting.append((batch.index, out, batch.coords_deg))
            if sum(len(index) for index, _, _ in self._waiting) >= DECODE_BATCH_SIZE:
                self._decode_waiting(stage)
        return loss

    def _decode_waiting(self, stage: str) -> None:
        """Turns the outputs of the last batches into points and errors."""
        if self._waiting:
            index, out, coords_deg = (torch.cat(part) for part in zip(*self._waiting, strict=True))
            self._waiting = []
            head = self.network.head
            hits = head.hits(out, self.select_targets(index))
            self.errors[stage].update(index, head.decode(out), coords_deg, hits)

    def training_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> Tensor:
        """The loss alone: no distance in km is computed while training."""
        loss = self._step(batch, "train")
        last = batch_idx + 1 >= self.trainer.num_training_batches
        every = int(getattr(self.trainer, "log_every_n_steps", 1))
        if last or (self.trainer.loggers and self.trainer.global_step % every == 0):
            self._record({f"lr/{name}": rate for name, rate in self._learning()}, on_step=True)
        if last:  # here and not at the epoch's end, for callbacks' hooks come before the module's
            self._log_loss("train")
        return loss

    def _log_loss(self, stage: str) -> None:
        """Logs the mean over the epoch's places; Lightning's own sums take longer than a step of a small head."""
        both = torch.stack((self._sums[stage].double().cpu(), torch.tensor(self._counts[stage]).double()))
        if self.trainer.world_size > 1:
            both = self.trainer.strategy.reduce(both.to(self.device), reduce_op="sum").cpu()
        self._record({f"{stage}/loss": float(both[0] / both[1])})
        self._start_sums(stage)

    def _record(self, values: dict[str, float], *, on_step: bool = False) -> None:
        """Logs values of an epoch, or of a step.

        Where callbacks alone want them, they get them at once: Lightning's own way takes longer than the
        validation of a small head.
        """
        trainer = self.trainer
        if trainer.loggers or trainer.state.fn != TrainerFn.FITTING:
            self.log_dict(values, on_step=on_step, on_epoch=not on_step)
        else:
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    def _start_sums(self, stage: str) -> None:
        self._waiting = []
        self._sums[stage], self._counts[stage] = torch.zeros((), device=self.device), 0

    def validation_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> None:
        """Loss and errors in km."""
        self._step(batch, "val")

    def test_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> None:
        """Loss and errors in km."""
        self._step(batch, "test")

    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        batches = int(self.trainer.num_training_batches)
        return max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))

    def rates(self, step: int) -> list[float]:
        """The learning rate of each parameter group for the optimizer step number `step`."""
        return compute_rates(
            self.base_rates,
            [group.unlock_epoch for group in self.groups],
            self.schedule,
            step=step,
            steps_per_epoch=self.steps_per_epoch(),
            max_epochs=int(self.trainer.max_epochs or 1),
        )

    def on_train_start(self) -> None:
        """Tells that training begins: a resume that does not fit was refused before this."""
        # Lightning has it 1, and torch's optimizers, which ask for a GPU in each step, then ask the driver's files
        # each time: as long as a small head's step. The device is chosen by now.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        if self.on_started is not None:
            self.on_started()

    def on_train_epoch_start(self) -> None:
        """Unlocks what is due."""
        self._start_sums("train")
        epoch = self.current_epoch
        opened = [group.unlock_epoch is not None and epoch >= group.unlock_epoch for group in self.groups]
        if opened != self._opened:  # going through a network's modules takes as long as some steps of a head
            self.finetuning.apply(self.network, self.groups, epoch)
            self._opened = opened

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rates of the optimizer step that this batch belongs to."""
        optimizer = self.trainer.optimizers[0]
        for group, rate in zip(optimizer.param_groups, self.rates(self.trainer.global_step), strict=True):
            group["lr"] = rate

    def _learning(self) -> list[tuple[str, float]]:
        """Name and rate of each parameter group that learns at some time."""
        groups = self.trainer.optimizers[0].param_groups
        return [(group["name"], group["lr"]) for group in groups if group["name"] != "locked"]

    def on_train_epoch_end(self) -> None:
        """Stops a run whose loss is no number any more."""
        loss = self.trainer.callback_metrics.get("train/loss", torch.tensor(0.0))
        self._demand_finite("training loss", float(loss))

    def _demand_finite(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        shown = ", ".join(f"{name} {rate:.3g}" for name, rate in self._learning())
        raise GeoguesserError(
            f"The {what} is {value} after epoch {self.current_epoch + 1} (rates: {shown}). "
            "Lower optimizer.lr or optimizer.backbone_lr, or set trainer.gradient_clip_val."
        )

    def on_validation_model_zero_grad(self) -> None:
        """As Lightning does, without a walk through all modules."""
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()

    def on_validation_model_eval(self) -> None:
        """As Lightning does, but the many parts of a frozen backbone, in evaluation already, are let be."""
        self._trained = [module for module in self.modules() if module.training]
        for module in self._trained:
            module.training = False

    def on_validation_model_train(self) -> None:
        """The inverse."""
        for module in self._trained:
            module.training = True
        self._trained = []

    def on_validation_epoch_start(self) -> None:
        """Forgets the losses of the validation before."""
        self._start_sums("val")

    def on_test_epoch_start(self) -> None:
        """Forgets the losses of the test before."""
        self._start_sums("test")

    def on_validation_epoch_end(self) -> None:
        """Logs the errors of all validation places; the schedule sees their mean."""
        results = self._logged("val")
        if not self.trainer.sanity_checking:
            error = float(results.error_km.cpu().double().mean())
            self._demand_finite("validation error", error)
            self.schedule.observe(error, self.trainer.global_step)

    def on_test_epoch_end(self) -> None:
        """Logs the errors of all test places, and keeps them."""
        results = self._logged("test")
        if self.results_file is not None and self.trainer.is_global_zero:
            kept = {"index": results.index, "predicted_deg": results.predicted_deg, "hits": results.hits}
            torch.save({key: value.cpu() for key, value in kept.items()}, self.results_file)

    def _logged(self, stage: str) -> PlaceResults:
        self._decode_waiting(stage)
        self._log_loss(stage)
        metric = self.errors[stage]
        results: PlaceResults = metric.compute()
        metric.reset()
        summary = summarise_errors(results.error_km.cpu().double().numpy(), self.diagonal_km)
        shares = summary.pop("share_within_km")
        values = {f"{stage}/{key}": value for key, value in summary.items()}
        values |= {f"{stage}/share_within_{radius}_km": share for radius, share in shares.items()}
        for name, hits in zip(self.network.head.hit_names, results.hits.T, strict=True):
            values[f"{stage}/{name}"] = float(hits.cpu().double().mean())
        self._record(values)
        return results

    def _asked_rates(self) -> list[float]:
        """Each group's base rate as the config has it, whatever a search found."""
        return [float(self.optimizer_spec.base_rate(group)) for group in self.groups]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds plain values: what a locator needs, and the schedule's state."""
        checkpoint["geoguesser"] = self.record
        checkpoint["geoguesser_training"] = {
            "schedule": self.schedule.state_dict(),
            "base_rates": [float(rate) for rate in self.base_rates],
            "asked_rates": self._asked_rates(),
            "groups": {group.name: list(group.names) for group in self.groups},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the schedule and the base rates (a found rate is not searched again)."""
        state = checkpoint.get("geoguesser_training")
        if state is None or state["groups"] != {group.name: list(group.names) for group in self.groups}:
            raise CheckpointError(
                "The checkpoint was made with other stages of fine-tuning; it cannot be resumed."
            )
        if state["asked_rates"] != self._asked_rates():
            raise CheckpointError(
                "A resumed run keeps its learning rates. To train its network at others, "
                "start a new run with init_from=RUN_FOLDER."
            )
        self.schedule.load_state_dict(state["schedule"])
        self.base_rates = [float(rate) for rate in state["base_rates"]]


def check_late_unlocking(finetuning: Finetuning, world_size: int) -> None:
    """Raises ConfigError where parameters would be unlocked after a strategy of several processes wrapped them."""
    if world_size > 1 and finetuning.last_unlock_epoch > 0:
        raise ConfigError(
            "trainer=ddp cannot train finetune=staged: parameters unlocked after epoch 0 would not be "
            "synchronised between processes. Use one process (trainer=gpu or cpu), or finetune=full, frozen."
        )
