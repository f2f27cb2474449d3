"""View dropout in small runs: drawn from seed and step, in training only, and continued by a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support.toy_run import ToyData, toy_features, toy_module, toy_network, toy_trainer

from geoguesser.model.fusion import MeanFusion
from geoguesser.model.network import GeoNetwork
from geoguesser.training.module import VIEW_DROPOUT_SEED, GeoLightningModule


def make_module(**more: Any) -> GeoLightningModule:
    network = toy_network()
    network.fusion = MeanFusion(network.backbone.feature_size, view_dropout=0.5)
    return toy_module(network=network, **more)


def record_masks(network: GeoNetwork) -> list[tuple[bool, torch.Tensor]]:
    """Records each mask that reaches the fusion, and whether the fusion is in training."""
    seen: list[tuple[bool, torch.Tensor]] = []
    original = network.from_features

    def record(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append((network.fusion.training, mask.clone()))
        return original(features, mask)

    network.from_features = record  # type: ignore[method-assign]
    return seen


def collect_masks(folder: Path, seed: int, *, cached: bool, noise: int = 0) -> list[tuple[bool, torch.Tensor]]:
    module = make_module()
    module.seed = seed
    seen = record_masks(module.network)
    torch.manual_seed(noise)
    data = ToyData(features=toy_features(toy_network()) if cached else None)
    trainer = toy_trainer(folder)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    return seen


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


def test_draws_are_not_those_of_augmentation() -> None:
    seed, step = 3, 17
    augmentation = torch.rand(4, generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
    dropout = torch.rand(4, generator=torch.Generator().manual_seed(seed * 1_000_003 + step + VIEW_DROPOUT_SEED))
    assert not torch.equal(dropout, augmentation)

    # torch reads 32 bits of a seed.
    assert VIEW_DROPOUT_SEED % 2**32 == VIEW_DROPOUT_SEED
