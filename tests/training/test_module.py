"""The LightningModule in small runs."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from support.toy_run import (
    HEAD_ONLY,
    REGION,
    STAGED,
    TRAIN,
    VAL,
    CheckpointCopier,
    LearningRateRecorder,
    ToyData,
    is_plain,
    toy_features,
    toy_module,
    toy_network,
    toy_trainer,
)

from geoguesser.errors import CheckpointError, ConfigError, GeoguesserError
from geoguesser.geo.distance import haversine_km
from geoguesser.model.fusion import MeanFusion
from geoguesser.training.callbacks import BestCheckpoint, LastCheckpoint, MetricsCsv
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Cosine, Plateau


@pytest.fixture
def cached() -> ToyData:
    """Features of a frozen toy backbone."""
    return ToyData(features=toy_features(toy_network()))


def test_training_computes_no_distance(tmp_path: Path, cached: ToyData) -> None:
    module = toy_module()

    def forbidden(*_: Any) -> None:
        raise AssertionError("decoded while training")

    module.network.head.decode = forbidden  # type: ignore[method-assign,assignment]
    trainer = toy_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(module, datamodule=cached)
    assert set(trainer.callback_metrics) == {"train/loss", "lr/head"}
    assert trainer.global_step == 8


def test_training_loss_is_the_mean_over_places_of_uneven_batches(tmp_path: Path, cached: ToyData) -> None:
    # The weights practically stay as they are. 16 places make batches of 5, 5, 5 and 1.
    module = toy_module(optimizer=OptimizerSpec("SGD", lr=1e-12, momentum=0.0))
    cached.batch_size = 5
    trainer = toy_trainer(tmp_path, epochs=1, limit_val_batches=0)
    trainer.fit(module, datamodule=cached)
    assert cached.features is not None
    with torch.no_grad():
        out = module.network.from_features(cached.features[:TRAIN], torch.ones(TRAIN, 4, dtype=torch.bool))
        expected = torch.nn.functional.cross_entropy(out, module.targets["cell"][:TRAIN])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_validation_means_are_per_place_not_per_batch(tmp_path: Path, cached: ToyData) -> None:
    module = toy_module()
    # 7 places make batches of 6 and 1.
    cached.batch_size = 6
    rows = torch.arange(TRAIN, TRAIN + VAL)
    assert cached.features is not None
    with torch.no_grad():
        module.network.head.linear.weight.mul_(30.0)
        out = module.network.from_features(cached.features[rows], torch.ones(VAL, 4, dtype=torch.bool))
        predicted = module.network.head.decode(out).double().numpy()
        losses = (
            torch.nn.functional.cross_entropy(out, module.targets["cell"][rows], reduction="none").double().numpy()
        )
    errors = haversine_km(predicted, cached.coords_deg[rows.numpy()])
    metrics = toy_trainer(tmp_path).validate(module, datamodule=cached, verbose=False)[0]
    assert metrics["val/loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert metrics["val/error_km_mean"] == pytest.approx(errors.mean(), rel=1e-4)
    assert metrics["val/error_km_median"] == pytest.approx(np.median(errors), rel=1e-4)
    assert metrics["val/error_km_p90"] == pytest.approx(np.percentile(errors, 90), rel=1e-4)
    assert metrics["val/share_within_25_km"] == pytest.approx((errors <= 25).mean())
    scores = 5000 * np.exp(-10 * errors / REGION.diagonal_km)
    assert metrics["val/score_mean"] == pytest.approx(scores.mean(), rel=1e-4)
    hits = out.argmax(dim=1) == module.targets["cell"][rows]
    assert metrics["val/cell_top1"] == pytest.approx(float(hits.double().mean()))

    # A mean of the batches' means would differ.
    by_batch = (errors[:6].mean() + errors[6:].mean()) / 2
    assert by_batch != pytest.approx(errors.mean(), rel=0.01)


def test_outputs_are_decoded_together_and_each_place_once(
    tmp_path: Path, cached: ToyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, cached.batch_size, sizes = toy_module(), 2, []
    with torch.no_grad():
        module.network.head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    decode = module.network.head.decode

    def record(out: torch.Tensor) -> torch.Tensor:
        sizes.append(len(out))
        return decode(out)

    module.network.head.decode = record  # type: ignore[method-assign,assignment]
    metrics = []
    for size in (1024, 4, 1):
        monkeypatch.setattr("geoguesser.training.module.DECODE_BATCH_SIZE", size)
        metrics += toy_trainer(tmp_path).validate(module, datamodule=cached, verbose=False)
    assert sizes == [7, 4, 3, 2, 2, 2, 1]
    assert metrics[1:] == [pytest.approx(metrics[0], rel=1e-6)] * 2


def test_callbacks_see_the_same_with_a_logger_and_without(tmp_path: Path) -> None:
    seen = []
    for logger in (False, CSVLogger(tmp_path)):
        cached = ToyData(features=toy_features(toy_network()))
        trainer = toy_trainer(tmp_path, logger=logger)
        trainer.fit(toy_module(), datamodule=cached)
        seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert {"train/loss", "lr/head", "val/loss", "val/error_km_mean", "val/cell_top1"} <= set(seen[0])
    assert seen[0] == pytest.approx(seen[1], rel=1e-6)


@pytest.mark.parametrize("validates", [True, False])
def test_a_loss_of_nan_ends_the_run_and_names_the_rates(tmp_path: Path, cached: ToyData, validates: bool) -> None:
    module = toy_module()
    torch.nn.init.constant_(module.network.head.linear.bias, float("nan"))
    trainer = toy_trainer(tmp_path, limit_val_batches=1.0 if validates else 0)
    quantity = "validation error" if validates else "training loss"
    with pytest.raises(GeoguesserError, match=rf"{quantity} is nan after epoch 1 \(rates: head 0\.01\)"):
        trainer.fit(module, datamodule=cached)


@pytest.mark.parametrize(("accumulate", "per_epoch"), [(1, 4), (3, 2)])
def test_rates_of_every_step_of_a_staged_run(tmp_path: Path, accumulate: int, per_epoch: int) -> None:
    steps = LearningRateRecorder()
    module = toy_module(
        stages=STAGED,
        schedule=Cosine(final_factor=0.0),
        optimizer=OptimizerSpec("SGD", lr=1e-2, backbone_lr=1e-3, momentum=0.9),
    )
    trainer = toy_trainer(tmp_path, epochs=4, callbacks=[steps], accumulate_grad_batches=accumulate)
    trainer.fit(module, datamodule=ToyData())
    total = 4 * per_epoch
    assert len(steps.rates) == total

    def cosine(base: float, unlocked: int, step: int) -> float:
        if step < unlocked:
            return 0.0
        return base * (1 + np.cos(np.pi * (step - unlocked) / (total - unlocked))) / 2

    for step, rates in enumerate(steps.rates):
        assert rates == pytest.approx(
            {
                "head": cosine(1e-2, 0, step),
                "backbone@1": cosine(3e-3, per_epoch, step),
                "backbone@3": cosine(1e-3, 3 * per_epoch, step),
                "locked": 0.0,
            }
        ), step


class Snapshots(pl.Callback):
    """Copies the network's tensors at the start of each epoch and at the end."""

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.taken.append(copy.deepcopy(pl_module.network.state_dict()))

    on_train_end = on_train_epoch_start

    def get_changed(self, epoch: int, *, statistics: bool) -> set[str]:
        """Returns the parts whose parameters, or statistics, changed in an epoch."""
        before, after = self.taken[epoch], self.taken[epoch + 1]
        names = [name for name in before if not torch.equal(before[name], after[name])]
        names = [name for name in names if ("running" in name or "batches" in name) == statistics]
        return {name.removeprefix("backbone.model.").split(".")[0] for name in names}


@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_parts_change_only_after_they_are_unlocked(batchnorm: str, tmp_path: Path) -> None:
    snapshots = Snapshots()
    trainer = toy_trainer(tmp_path, epochs=4, callbacks=[snapshots])
    trainer.fit(toy_module(stages=STAGED, batchnorm=batchnorm).train(), datamodule=ToyData())
    for epoch, layers in enumerate((set(), {"layer4"}, {"layer4"}, {"layer4", "layer3"})):
        assert snapshots.get_changed(epoch, statistics=False) == {"head", *layers}
        expected = layers if batchnorm == "train" else set()
        assert snapshots.get_changed(epoch, statistics=True) == expected


def test_cached_features_train_the_same_head_as_images(tmp_path: Path, cached: ToyData) -> None:
    heads = []
    for data in (cached, ToyData()):
        module = toy_module()
        module.network.train()
        toy_trainer(tmp_path).fit(module, datamodule=data)
        heads.append(module.network.head.linear.weight.detach())
    torch.testing.assert_close(heads[0], heads[1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(heads[0], toy_network().head.linear.weight, atol=1e-4)


def test_checkpoints_hold_plain_values_only(tmp_path: Path, cached: ToyData) -> None:
    folder = str(tmp_path / "c")
    callbacks = [BestCheckpoint(dirpath=folder), LastCheckpoint(dirpath=folder), MetricsCsv(tmp_path / "m.csv")]
    module = toy_module(schedule=Plateau(), optimizer=OptimizerSpec("Adam"))
    toy_trainer(tmp_path, callbacks=callbacks).fit(module, datamodule=cached)
    for name in ("best", "last"):
        checkpoint = torch.load(f"{folder}/{name}.ckpt", weights_only=True)
        for key in set(checkpoint) - {"loops"}:
            assert is_plain(checkpoint[key]), key
        assert checkpoint["geoguesser"]["format"] == 2
        assert checkpoint["geoguesser"]["config"] == {"seed": 0, "data": {"batch_size": 4}}
        assert all(key.startswith("network.") for key in checkpoint["state_dict"])


@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path, cut: int) -> None:
    def module() -> GeoLightningModule:
        schedule = Plateau(factor=0.5, patience=0, threshold=0.9)
        optimizer = OptimizerSpec("Adam", lr=1e-3)
        return toy_module(stages=STAGED, batchnorm="train", schedule=schedule, optimizer=optimizer).train()

    folder = str(tmp_path / "c")
    steps = LearningRateRecorder()
    expected = module()
    callbacks = [LastCheckpoint(dirpath=folder), CheckpointCopier(folder, cut), steps]
    toy_trainer(tmp_path, epochs=4, callbacks=callbacks).fit(expected, datamodule=ToyData(batch_size=8))
    again, more = module(), LearningRateRecorder()
    torch.manual_seed(99)
    with torch.no_grad():
        for parameter in again.network.parameters():
            parameter.zero_()
    toy_trainer(tmp_path, epochs=4, callbacks=[LastCheckpoint(dirpath=folder), more]).fit(
        again, datamodule=ToyData(batch_size=8), ckpt_path=f"{folder}/kept.ckpt", weights_only=True
    )
    assert more.rates == steps.rates[2 * cut :]
    assert len({rate["head"] for rate in steps.rates}) > 2
    for name, tensor in expected.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    assert again.schedule.state_dict() == expected.schedule.state_dict()


@pytest.mark.parametrize("stages", [STAGED, [{"epoch": 0, "from": "last_1"}], [{"epoch": 0, "from": "all"}]])
def test_other_stages_cannot_resume(tmp_path: Path, cached: ToyData, stages: list[dict[str, Any]]) -> None:
    folder = str(tmp_path / "c")
    toy_trainer(tmp_path, epochs=1, callbacks=[LastCheckpoint(dirpath=folder)]).fit(
        toy_module(), datamodule=cached
    )
    with pytest.raises(CheckpointError, match="was made with other stages of fine-tuning"):
        toy_trainer(tmp_path, epochs=2).fit(
            toy_module(stages=stages), datamodule=cached, ckpt_path=f"{folder}/last.ckpt", weights_only=True
        )


def test_several_processes_cannot_unlock_after_epoch_0() -> None:
    module = toy_module(stages=STAGED)
    module.trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    module.setup("test")
    with pytest.raises(ConfigError, match="trainer=ddp cannot train finetune=staged"):
        module.setup("fit")
    frozen = toy_module(stages=HEAD_ONLY)
    frozen.trainer = SimpleNamespace(world_size=2, current_epoch=0)  # type: ignore[assignment]
    frozen.setup("fit")
    assert not any(parameter.requires_grad for parameter in frozen.network.backbone.parameters())


def test_the_plateau_sees_the_validation_mean_but_no_sanity_check(tmp_path: Path, cached: ToyData) -> None:
    seen: list[tuple[float, int]] = []

    class Watch(Plateau):
        def observe(self, error: float, step: int) -> None:
            seen.append((error, step))

    errors: list[float] = []

    class Note(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                errors.append(float(trainer.callback_metrics["val/error_km_mean"]))

    module = toy_module(schedule=Watch())
    toy_trainer(tmp_path, callbacks=[Note()], num_sanity_val_steps=1).fit(module, datamodule=cached)
    assert [step for _, step in seen] == [4, 8]
    assert [error for error, _ in seen] == pytest.approx(errors, rel=1e-6)


def collect_masks(folder: Path, seed: int, *, cached: bool, noise: int = 0) -> list[tuple[bool, torch.Tensor]]:
    """Collects each mask that reaches the fusion with view dropout, and whether the fusion is in training."""
    network = toy_network()
    network.fusion = MeanFusion(network.backbone.feature_size, view_dropout=0.5)
    masks: list[tuple[bool, torch.Tensor]] = []
    original = network.from_features

    def record(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        masks.append((network.fusion.training, mask.clone()))
        return original(features, mask)

    network.from_features = record  # type: ignore[method-assign]
    module = toy_module(network=network)
    module.seed = seed
    torch.manual_seed(noise)
    data = ToyData(features=toy_features(toy_network()) if cached else None)
    trainer = toy_trainer(folder)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    return masks


def test_draws_depend_on_seed_and_step_only(tmp_path: Path) -> None:
    first = collect_masks(tmp_path, 0, cached=True)
    training = torch.cat([mask for train, mask in first if train])
    assert len(training) == 2 * 16
    assert training.any(dim=1).all()
    assert 0.3 < float(training.double().mean()) < 0.8
    assert not torch.equal(training[:16], training[16:])
    assert all(mask.all() for train, mask in first if not train)

    # Other random numbers, and pixels instead of features, do not change the draws.
    for cached, noise in ((True, 9), (False, 5)):
        again = collect_masks(tmp_path, 0, cached=cached, noise=noise)
        assert torch.equal(torch.cat([mask for train, mask in again if train]), training)
    other = torch.cat([mask for train, mask in collect_masks(tmp_path, 1, cached=True) if train])
    assert not torch.equal(other, training)
