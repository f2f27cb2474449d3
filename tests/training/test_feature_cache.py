"""Embeddings: each row its own, in memory or in a mapped file that nobody sees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geoguesser.data.batches import Batch, PlaceBatches, PlaceSampler, PlacesDataset
from geoguesser.data.views import MemoryViews
from geoguesser.training import feature_cache as module
from geoguesser.training.feature_cache import embed_all

COUNT, WIDTH = 37, 5


class Means(nn.Module):
    """Stands for a network: features that tell row and heading."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SimpleNamespace(feature_size=WIDTH)

    def embed(self, images: Tensor, mask: Tensor) -> Tensor:
        means = images.float().mean((2, 3, 4)) * mask
        return means[..., None] * torch.arange(1.0, WIDTH + 1)


def loader(mask: Tensor) -> Any:
    pixels = torch.randint(
        0, 256, (COUNT, 4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    coords = torch.zeros(COUNT, 2).double().numpy()
    data = PlacesDataset(
        torch.arange(COUNT).numpy(), views=MemoryViews(pixels), features=None, mask=mask, coords_deg=coords
    )
    sampler = PlaceSampler(COUNT, seed=None, rank=0, world_size=1)
    batches = PlaceBatches(sampler, 8, in_step=False)
    return torch.utils.data.DataLoader(data, batch_sampler=batches, collate_fn=_as_is), pixels


def _as_is(batch: Batch) -> Batch:
    return batch


@pytest.mark.parametrize("least", [0, 2**30], ids=["mapped", "in memory"])
def test_each_row_has_its_own_features(least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", least)
    mask = torch.ones(COUNT, 4, dtype=torch.bool)
    mask[3, 2] = False
    batches, pixels = loader(mask)
    network: Any = Means()
    found = embed_all(network, batches, torch.device("cpu"), tmp_path)
    assert (found.shape, found.dtype) == ((COUNT, 4, WIDTH), torch.float32)
    expected = pixels.float().mean((2, 3, 4))[..., None] * torch.arange(1.0, WIDTH + 1)
    expected[3, 2] = 0
    assert torch.equal(found, expected)
    assert list(tmp_path.iterdir()) == []
    assert not network.training


def test_a_disk_without_room_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", 0)
    batches, pixels = loader(torch.ones(COUNT, 4, dtype=torch.bool))
    network: Any = Means()
    found = embed_all(network, batches, torch.device("cpu"), tmp_path / "nowhere")
    assert torch.allclose(found[..., 0], pixels.float().mean((2, 3, 4)))
