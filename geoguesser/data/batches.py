"""Batches: what a batch is, and which places go into which one. Whole batches are gathered at once; no Lightning.

The order of training is drawn from (seed, epoch) alone. Several processes deal one order out between
them: each reads only its own part, and every place comes exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.views import Views


class Batch(NamedTuple):
    """Places with their views.

    Attributes:
        images: (B, 4, 3, H, W) uint8, headings 0, 90, 180, 270.
        mask: (B, 4) bool, true where there is a view.
        coords_deg: (B, 2) float32 latitude and longitude.
        index: (B,) rows of the table of places.
    """

    images: Tensor
    mask: Tensor
    coords_deg: Tensor
    index: Tensor  # type: ignore[assignment]  # a field of this name hides tuple.index, which nobody needs


class FeatureBatch(NamedTuple):
    """Places with the features of their views, for a head that trains from cached embeddings.

    Attributes:
        features: (B, 4, D) what `GeoNetwork.embed` gave.
        mask: (B, 4) bool, true where there is a view.
        coords_deg: (B, 2) float32 latitude and longitude.
        index: (B,) rows of the table of places.
    """

    features: Tensor
    mask: Tensor
    coords_deg: Tensor
    index: Tensor  # type: ignore[assignment]  # a field of this name hides tuple.index, which nobody needs


class PlacesDataset(Dataset[Any]):
    """Rows of the table of places; whole batches are gathered at once.

    Args:
        rows: (M,) the rows that belong to this dataset.
        views: Pixels by row.
        features: (N, 4, D) features by row, or None to serve pixels.
        mask: (N, 4) bool by row.
        coords_deg: (N, 2) by row.
    """

    def __init__(
        self, rows: IntArray, *, views: Views, features: Tensor | None, mask: Tensor, coords_deg: FloatArray
    ) -> None:
        self.rows = rows
        self.views = views
        self.features = features
        self.mask = mask
        self.coords_deg = torch.tensor(coords_deg, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch | FeatureBatch:
        """A batch of one place."""
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch | FeatureBatch:
        """The batch of the places at these positions; torch's loader calls this once per batch."""
        rows = self.rows[positions]
        index = torch.from_numpy(rows)
        rest = (self.mask[index], self.coords_deg[index], index)
        if self.features is not None:
            return FeatureBatch(torch.index_select(self.features, 0, index), *rest)
        return Batch(self.views.gather(rows), *rest)


class PlaceSampler(Sampler[int]):
    """Positions of one process: every place once per epoch over all processes.

    Args:
        size: How many places there are.
        seed: With the epoch it draws the order; None keeps the table's order.
        rank: This process.
        world_size: How many processes share the places.
    """

    def __init__(self, size: int, *, seed: int | None, rank: int, world_size: int) -> None:
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch, after a resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order()[self.rank :: self.world_size].tolist())

    def order(self) -> Tensor:
        """(size,) the epoch's order of all processes together."""
        if self.seed is None:
            return torch.arange(self.size)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.size, generator=generator)


class PlaceBatches(Sampler[list[int]]):
    """Batches of one process.

    Args:
        sampler: The process's positions. Lightning finds it by this name and tells it the epoch.
        batch_size: Places per batch; the last may hold fewer.
        in_step: All processes get as many batches, as training in step needs. Where one process would
            have a batch less than the others, its last batch is halved. Only where that batch holds a
            single place (or none) is the epoch's first place repeated.
    """

    def __init__(self, sampler: PlaceSampler, batch_size: int, *, in_step: bool) -> None:
        self.sampler, self.batch_size, self.in_step = sampler, batch_size, in_step

    def __len__(self) -> int:
        own = len(self.sampler)
        if self.in_step:
            own = math.ceil(self.sampler.size / self.sampler.world_size)  # of the process that has most
        return math.ceil(own / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator: Lightning asks for the iterator before it tells the epoch, and for a batch after that.
        own = list(self.sampler)
        batches = [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)]
        if len(batches) < len(self):  # by one: processes differ by one place at most
            last = batches.pop() if batches else []
            half = (len(last) + 1) // 2
            repeated = [int(self.sampler.order()[0])]
            batches += [last[:half] or repeated] if not last else [last[:half], last[half:] or repeated]
        yield from batches
