"""Features of all rows, in memory or in a memory-mapped file without a name."""

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
    """Network whose features are different for each row and heading."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SimpleNamespace(feature_size=WIDTH)

    def embed(self, images: Tensor, mask: Tensor) -> Tensor:
        means = images.float().mean((2, 3, 4)) * mask
        return means[..., None] * torch.arange(1.0, WIDTH + 1)


def make_loader(mask: Tensor) -> Any:
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


@pytest.mark.parametrize("limit", [0, 2**30], ids=["mapped", "in memory"])
def test_each_row_has_its_features(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", limit)
    mask = torch.ones(COUNT, 4, dtype=torch.bool)
    mask[3, 2] = False
    batches, pixels = make_loader(mask)
    network: Any = Means()
    features = embed_all(network, batches, torch.device("cpu"), tmp_path)
    assert (features.shape, features.dtype) == ((COUNT, 4, WIDTH), torch.float32)
    expected = pixels.float().mean((2, 3, 4))[..., None] * torch.arange(1.0, WIDTH + 1)
    expected[3, 2] = 0
    assert torch.equal(features, expected)
    assert list(tmp_path.iterdir()) == []
    assert not network.training


def test_without_a_file_features_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", 0)
    batches, pixels = make_loader(torch.ones(COUNT, 4, dtype=torch.bool))
    network: Any = Means()
    features = embed_all(network, batches, torch.device("cpu"), tmp_path / "nowhere")
    assert torch.allclose(features[..., 0], pixels.float().mean((2, 3, 4)))
