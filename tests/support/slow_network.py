"""Network with a delay, for tests of cached features; as a script, a process that computes and caches them."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geoguesser.data.batches import Batch, PlaceBatches, PlaceSampler, PlacesDataset
from geoguesser.data.views import MemoryViews
from geoguesser.system.disk_cache import Cache
from geoguesser.training.feature_cache import load_cached_features

COUNT, WIDTH = 19, 5
PIXELS = torch.randint(0, 256, (COUNT, 4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class SlowNetwork(nn.Module):
    """Network whose features are the means of the views, available after a delay or once a file exists."""

    def __init__(self, seconds: float = 0.0, *, fails: bool = False, gate: Path | None = None) -> None:
        super().__init__()
        self.backbone = SimpleNamespace(feature_size=WIDTH)
        self.seconds, self.fails, self.embedded, self.gate = seconds, fails, 0, gate

    def embed(self, images: Tensor, mask: Tensor) -> Tensor:
        time.sleep(self.seconds)
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.01)
        self.embedded += len(images)
        if self.fails:
            raise OSError("from the network, not from the cache")
        means: Tensor = images.float().mean((2, 3, 4)) * mask
        return means[..., None] * torch.arange(1.0, WIDTH + 1)

    def expected(self) -> Tensor:
        return PIXELS.float().mean((2, 3, 4))[..., None] * torch.arange(1.0, WIDTH + 1)


def make_loader() -> DataLoader[Any]:
    """Makes a loader of all places in order."""
    data = PlacesDataset(
        torch.arange(COUNT).numpy(),
        views=MemoryViews(PIXELS),
        features=None,
        mask=torch.ones(COUNT, 4, dtype=torch.bool),
        coords_deg=torch.zeros(COUNT, 2).double().numpy(),
    )
    sampler = PlaceSampler(COUNT, seed=None, rank=0, world_size=1)
    return DataLoader(data, batch_sampler=PlaceBatches(sampler, 8, in_step=False), collate_fn=_as_is)


def _as_is(batch: Batch) -> Batch:
    return batch


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gate_file = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    disk_cache, network = Cache(Path(sys.argv[1]), limit_gib=1), SlowNetwork(float(sys.argv[2]), gate=gate_file)
    entry = disk_cache.entry("features", {})
    loaded = load_cached_features(
        network,  # type: ignore[arg-type]
        make_loader(),
        torch.device("cpu"),
        entry=entry,
        cache=disk_cache,
    )
    assert torch.equal(loaded[0], network.expected())
    print(f"{network.embedded} places embedded, {loaded[1]}")
