"""View dropout in real, tiny runs: drawn from seed and step, in training alone, and kept by a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from support.toy_run import STAGED, CheckpointCopier, ToyData, toy_features, toy_module, toy_network, toy_trainer

from geoguesser.model.fusion import MeanFusion
from geoguesser.model.network import GeoNetwork
from geoguesser.training.callbacks import LastCheckpoint
from geoguesser.training.module import VIEW_DROPOUT_SEED, GeoLightningModule
from geoguesser.training.optimizer import Adam


def dropping(share: float = 0.5, **more: Any) -> GeoLightningModule:
    network = toy_network()
    network.fusion = MeanFusion(network.backbone.feature_size, view_dropout=share)
    return toy_module(network=network, **more)


def watch(network: GeoNetwork) -> list[tuple[bool, torch.Tensor]]:
    """Notes each mask that reaches the fusion, and whether it was in training."""
    seen: list[tuple[bool, torch.Tensor]] = []
    original = network.from_features

    def noted(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append((network.fusion.training, mask.clone()))
        return original(features, mask)

    network.from_features = noted  # type: ignore[method-assign]
    return seen


def masks_of(folder: Path, seed: int, *, cached: bool, noise: int = 0) -> list[tuple[bool, torch.Tensor]]:
    module = dropping()
    module.seed = seed
    seen = watch(module.network)
    torch.manual_seed(noise)
    data = ToyData(features=toy_features(toy_network()) if cached else None)
    trainer = toy_trainer(folder)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    return seen


def test_in_training_alone_and_from_the_seed_alone(tmp_path: Path) -> None:
    first = masks_of(tmp_path, 0, cached=True)
    training = torch.cat([mask for train, mask in first if train])
    assert len(training) == 2 * 16
    assert training.any(dim=1).all()
    assert 0.3 < float(training.double().mean()) < 0.8
    assert not torch.equal(training[:16], training[16:])  # another step, another draw
    assert all(mask.all() for train, mask in first if not train)
    for cached, noise in ((True, 9), (False, 5)):  # whatever else is drawn, and for pixels as for features
        again = masks_of(tmp_path, 0, cached=cached, noise=noise)
        assert torch.equal(torch.cat([mask for train, mask in again if train]), training)
    other = torch.cat([mask for train, mask in masks_of(tmp_path, 1, cached=True) if train])
    assert not torch.equal(other, training)


def test_no_share_no_draw(tmp_path: Path) -> None:
    module = dropping(0.0)
    seen = watch(module.network)
    toy_trainer(tmp_path).fit(module, datamodule=ToyData(features=toy_features(toy_network())))
    assert all(mask.all() for _, mask in seen)


def test_draws_are_not_those_of_augmentation() -> None:
    seed, step = 3, 17
    taken = torch.rand(4, generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
    ours = torch.rand(4, generator=torch.Generator().manual_seed(seed * 1_000_003 + step + VIEW_DROPOUT_SEED))
    assert not torch.equal(ours, taken)
    assert VIEW_DROPOUT_SEED % 2**32 == VIEW_DROPOUT_SEED  # torch reads 32 bits of a seed


@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path, cut: int) -> None:
    folder = str(tmp_path / "c")

    def fit(callbacks: list[pl.Callback], **more: Any) -> GeoLightningModule:
        module = dropping(stages=STAGED, optimizer=Adam(lr=1e-3)).train()
        trainer = toy_trainer(tmp_path, epochs=4, callbacks=[LastCheckpoint(dirpath=folder), *callbacks])
        trainer.fit(module, datamodule=ToyData(batch_size=8), **more)
        return module

    whole = fit([CheckpointCopier(folder, cut)])
    torch.manual_seed(99)
    again = fit([], ckpt_path=f"{folder}/kept.ckpt", weights_only=True)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
