"""LightningModule that trains, validates and tests a GeoNetwork."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
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
from geoguesser.system.files import open_replacement
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Schedule, compute_rates

MONITOR = "val/error_km_mean"

# Places that validation and test decode together: the median takes nearly as long for 1 place as for 100.
DECODE_BATCH_SIZE = 1024

# Offset between the seeds of view dropout and those of augmentation. torch reads the low 32 bits of a seed.
VIEW_DROPOUT_SEED = 0x9E3779B9


class GeoLightningModule(pl.LightningModule):
    """Module for a GeoNetwork that is trained from images or from cached features.

    The hooks are in the order in which Lightning calls them. Hooks that only make training of a small head faster
    are at the end of the class; without them the results are the same.

    Args:
        network: Network to train.
        targets: Targets of the head, one row per row of the table of places.
        optimizer, schedule, finetuning: Base rates, their factors and the stages of unlocking.
        diagonal_km: Diagonal of the region, for the game score.
        record: State of the predictor as plain values, for the key `geoguesser` of each checkpoint.
        results_file: File for the results of a test by place (index, predicted_deg, hits). It is a file because
            Lightning may run the test in a forked process.
        compile_network: Whether to compile the backbone with torch.compile.
        seed: Seed of view dropout, which is drawn from seed and step.
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
        self.optimizer_spec, self.schedule, self.finetuning = optimizer, schedule, finetuning
        self.diagonal_km, self.record, self.compile_network = diagonal_km, record, compile_network
        self.results_file, self.seed = results_file, seed
        self.groups = finetuning.make_groups(network)
        self.base_rates = self._get_configured_rates()

        # Called at the start of training, when a checkpoint to resume has been accepted.
        self.on_started: Callable[[], None] | None = None

        # Buffers, so that Lightning moves the targets to the device.
        self._target_names = tuple(targets)
        for name, tensor in targets.items():
            self.register_buffer(f"target_{name}", tensor, persistent=False)

        # Lightning moves metrics that are attributes; those in a dictionary it does not see.
        self._val_errors, self._test_errors = PlaceErrors(), PlaceErrors()
        self.errors = {"val": self._val_errors, "test": self._test_errors}

        # Sum of the loss and number of places by stage, since the epoch began.
        self._loss_sums: dict[str, Tensor] = {}
        self._place_counts: dict[str, int] = {}

        # Index, output and coords_deg of the batches that are not yet decoded.
        self._undecoded: list[tuple[Tensor, Tensor, Tensor]] = []

        # Groups that are unlocked now, and modules that return to training after validation.
        self._unlocked: list[bool] | None = None
        self._training_modules: list[nn.Module] = []

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Predicts (B, 2) degrees from (B, V, 3, H, W) uint8 views and the (B, V) mask of views present."""
        return self.network.head.decode(self.network(images, mask))

    def configure_model(self) -> None:
        """Compiles the backbone in place, so that the state dict keeps its keys."""
        if self.compile_network:
            self.compile_network = False
            self.network.backbone.compile()

    def setup(self, stage: str) -> None:
        """Locks parameters for the current epoch, before a strategy wraps the network."""
        if stage == "fit":
            check_late_unlocking(self.finetuning, self.trainer.world_size)
            self.finetuning.apply(self.network, self.groups, self.current_epoch)

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer_spec.make(self.network, self.groups)

    # Training

    def on_train_start(self) -> None:
        # Lightning sets this variable to 1. torch then asks the driver for GPUs in each optimizer step, which
        # takes as long as a step of a small head. The device has been chosen by now.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        if self.on_started is not None:
            self.on_started()

    def on_train_epoch_start(self) -> None:
        self._reset_sums("train")
        epoch = self.current_epoch
        unlocked = [group.unlock_epoch is not None and epoch >= group.unlock_epoch for group in self.groups]

        # A walk through all modules takes as long as several steps of a small head.
        if unlocked != self._unlocked:
            self.finetuning.apply(self.network, self.groups, epoch)
            self._unlocked = unlocked

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        trainer = self.trainer
        rates = compute_rates(
            self.base_rates,
            [group.unlock_epoch for group in self.groups],
            self.schedule,
            step=trainer.global_step,
            steps_per_epoch=max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)),
            max_epochs=int(trainer.max_epochs or 1),
        )
        for group, rate in zip(trainer.optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate

    def training_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch. Coordinates are not decoded during training."""
        loss, _ = self._step(batch, "train")
        is_last = batch_idx + 1 >= self.trainer.num_training_batches

        interval = int(getattr(self.trainer, "log_every_n_steps", 1))
        if is_last or (self.trainer.loggers and self.trainer.global_step % interval == 0):
            rates = {f"lr/{name}": rate for name, rate in self._get_rates().items()}
            self._log_values(rates, on_step=True)

        # Not in on_train_epoch_end, because callbacks read the loss there and their hooks come first.
        if is_last:
            self._log_loss("train")
        return loss

    def on_train_epoch_end(self) -> None:
        loss = self.trainer.callback_metrics.get("train/loss", torch.tensor(0.0))
        self._check_finite("training loss", float(loss))

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self._reset_sums("val")

    def on_test_epoch_start(self) -> None:
        self._reset_sums("test")

    def validation_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, "val")

    def test_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs the errors of all validation places and passes their mean to the schedule."""
        results = self._log_errors("val")
        if not self.trainer.sanity_checking:
            error = float(results.error_km.cpu().double().mean())
            self._check_finite("validation error", error)
            self.schedule.observe(error, self.trainer.global_step)

    def on_test_epoch_end(self) -> None:
        """Logs the errors of all test places and writes the results by place to `results_file`."""
        results = self._log_errors("test")
        if self.results_file is not None and self.trainer.is_global_zero:
            saved = {name: getattr(results, name).cpu() for name in ("index", "predicted_deg", "hits")}
            with open_replacement(Path(self.results_file)) as stream:
                torch.save(saved, stream)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["geoguesser"] = self.record
        checkpoint["geoguesser_training"] = {
            "schedule": self.schedule.state_dict(),
            "base_rates": self.base_rates,
            "asked_rates": self._get_configured_rates(),
            "groups": {group.name: list(group.names) for group in self.groups},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the schedule and the base rates, which a learning rate search may have chosen.

        Raises CheckpointError if the checkpoint has other parameter groups or other configured rates.
        """
        state = checkpoint.get("geoguesser_training")
        if state is None or state["groups"] != {group.name: list(group.names) for group in self.groups}:
            raise CheckpointError(
                "The checkpoint was made with other stages of fine-tuning; it cannot be resumed."
            )
        if state["asked_rates"] != self._get_configured_rates():
            raise CheckpointError(
                "A resumed run keeps its learning rates. To train its network at others, "
                "start a new run with init_from=RUN_FOLDER."
            )

        self.schedule.load_state_dict(state["schedule"])
        self.base_rates = [float(rate) for rate in state["base_rates"]]

    def _get_configured_rates(self) -> list[float]:
        return [float(self.optimizer_spec.base_rate(group)) for group in self.groups]

    # Loss, errors and logging, shared by the stages

    @property
    def targets(self) -> LossTarget:
        """Targets of all places, on the module's device."""
        return {name: getattr(self, f"target_{name}") for name in self._target_names}

    def select_targets(self, index: Tensor) -> LossTarget:
        return {name: torch.index_select(tensor, 0, index) for name, tensor in self.targets.items()}

    def _step(self, batch: Batch | FeatureBatch, stage: str) -> tuple[Tensor, Tensor]:
        """Returns the loss and the head's output for a batch, and adds the loss to the sums."""
        mask = self._drop_views(batch.mask) if stage == "train" else batch.mask
        features = batch.features if isinstance(batch, FeatureBatch) else self.network.embed(batch.images, mask)
        out = self.network.from_features(features, mask)
        loss = self.network.head.loss(out, self.select_targets(batch.index))

        self._loss_sums[stage] += len(batch.index) * loss.detach()
        self._place_counts[stage] += len(batch.index)
        return loss, out

    def _evaluation_step(self, batch: Batch | FeatureBatch, stage: str) -> None:
        _, out = self._step(batch, stage)
        self._undecoded.append((batch.index, out, batch.coords_deg))
        if sum(len(index) for index, _, _ in self._undecoded) >= DECODE_BATCH_SIZE:
            self._decode(stage)

    def _decode(self, stage: str) -> None:
        """Adds the errors of the batches that are not yet decoded to the stage's metric."""
        if self._undecoded:
            index, out, coords_deg = (torch.cat(part) for part in zip(*self._undecoded, strict=True))
            self._undecoded = []
            head = self.network.head
            hits = head.hits(out, self.select_targets(index))
            self.errors[stage].update(index, head.decode(out), coords_deg, hits)

    def _drop_views(self, mask: Tensor) -> Tensor:
        """Returns the mask with the views dropped for this step; the draw depends on seed and step only."""
        rate = self.network.fusion.view_dropout
        if rate == 0.0:
            return mask

        step = self.trainer.fit_loop.epoch_loop.total_batch_idx * self.trainer.world_size
        seed = self.seed * 1_000_003 + step + self.trainer.global_rank + VIEW_DROPOUT_SEED
        return drop_views(mask, rate, seed % 2**63)

    def _reset_sums(self, stage: str) -> None:
        self._undecoded = []
        self._loss_sums[stage], self._place_counts[stage] = torch.zeros((), device=self.device), 0

    def _log_loss(self, stage: str) -> None:
        # Lightning's own sums, by `self.log` in each step, take longer than a step of a small head.
        totals = torch.tensor([float(self._loss_sums[stage]), self._place_counts[stage]], dtype=torch.float64)
        if self.trainer.world_size > 1:
            totals = self.trainer.strategy.reduce(totals.to(self.device), reduce_op="sum").cpu()
        self._log_values({f"{stage}/loss": float(totals[0] / totals[1])})
        self._reset_sums(stage)

    def _log_errors(self, stage: str) -> PlaceResults:
        """Logs loss, errors and hits of all places of a stage, and returns the results by place."""
        self._decode(stage)
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
        self._log_values(values)
        return results

    def _log_values(self, values: dict[str, float], *, on_step: bool = False) -> None:
        # Without a logger, callbacks get the values directly: `log_dict` takes longer than the validation of a
        # small head.
        trainer = self.trainer
        if trainer.loggers or trainer.state.fn != TrainerFn.FITTING:
            self.log_dict(values, on_step=on_step, on_epoch=not on_step)
        else:
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    def _get_rates(self) -> dict[str, float]:
        """Returns the current learning rate of each group that is trained at some epoch."""
        groups = self.trainer.optimizers[0].param_groups
        return {group["name"]: group["lr"] for group in groups if group["name"] != "locked"}

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            rates = ", ".join(f"{name} {rate:.3g}" for name, rate in self._get_rates().items())
            raise GeoguesserError(
                f"The {what} is {value} after epoch {self.current_epoch + 1} (rates: {rates}). "
                "Lower optimizer.lr or optimizer.backbone_lr, or set trainer.gradient_clip_val."
            )

    # Faster versions of Lightning's hooks, which walk through all modules of the network

    def on_validation_model_zero_grad(self) -> None:
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()

    def on_validation_model_eval(self) -> None:
        """Sets modules in training to evaluation. Most of a frozen backbone is in evaluation already."""
        self._training_modules = [module for module in self.modules() if module.training]
        for module in self._training_modules:
            module.training = False

    def on_validation_model_train(self) -> None:
        for module in self._training_modules:
            module.training = True
        self._training_modules = []


def check_late_unlocking(finetuning: Finetuning, world_size: int) -> None:
    """Raises ConfigError for stages after epoch 0 in training by several processes."""
    # A distributed strategy wraps the network before training and would not synchronise parameters unlocked later.
    if world_size > 1 and finetuning.last_unlock_epoch > 0:
        raise ConfigError(
            "trainer=ddp cannot train finetune=staged: parameters unlocked after epoch 0 would not be "
            "synchronised between processes. Use one process (trainer=gpu or cpu), or finetune=full, frozen."
        )
