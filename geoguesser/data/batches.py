"""Batches of places, and the order in which places are served, without Lightning.

Several processes divide one order: each reads only its part, and every place is served exactly once.
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
        images: (B, 4, 3, H, W) uint8, at the headings 0, 90, 180, 270.
        mask: (B, 4) bool, True for each view that is used.
        coords_deg: (B, 2) float32 latitude and longitude in degrees.
        index: (B,) rows of the table of places.
    """

    images: Tensor
    mask: Tensor
    coords_deg: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is unused


class FeatureBatch(NamedTuple):
    """Batch with (B, 4, D) features of `GeoNetwork.embed` instead of images, from the cache of features."""

    features: Tensor
    mask: Tensor
    coords_deg: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is unused


class PlacesDataset(Dataset[Any]):
    """Dataset over (M,) rows of the table of places, which gathers complete batches.

    Features, (N, 4, D) or None, are served instead of pixels; they, mask and coordinates are indexed by row.
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
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch | FeatureBatch:
        """Returns the batch of the places at the given positions; torch's loader calls it once per batch."""
        rows = self.rows[positions]
        index = torch.from_numpy(rows)
        rest = (self.mask[index], self.coords_deg[index], index)
        if self.features is not None:
            return FeatureBatch(torch.index_select(self.features, 0, index), *rest)
        return Batch(self.views.gather(rows), *rest)


class PlaceSampler(Sampler[int]):
    """Sampler of the positions of one process; over all processes, each place is served once per epoch.

    Seed and epoch draw the order; without a seed it is that of the table.
    """

    def __init__(self, size: int, *, seed: int | None, rank: int, world_size: int) -> None:
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; Lightning calls it at the start of each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order()[self.rank :: self.world_size].tolist())

    def order(self) -> Tensor:
        """Returns (size,) the order of the epoch, over all processes."""
        if self.seed is None:
            return torch.arange(self.size)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.size, generator=generator)


class PlaceBatches(Sampler[list[int]]):
    """Sampler of the batches of one process; the last batch may be smaller.

    With `in_step`, all processes have the same number of batches, as synchronous training requires. A process with
    one batch less than the others divides its last batch in two. If that batch has fewer than two places, the
    first place of the epoch is repeated. Lightning finds `sampler` by this name and sets its epoch.
    """

    def __init__(self, sampler: PlaceSampler, batch_size: int, *, in_step: bool) -> None:
        self.sampler, self.batch_size, self.in_step = sampler, batch_size, in_step

    def __len__(self) -> int:
        sampler = self.sampler
        places = math.ceil(sampler.size / sampler.world_size) if self.in_step else len(sampler)
        return math.ceil(places / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # As a generator it reads the order at the first batch: Lightning asks for the iterator, then sets the
        # epoch.
        order = list(self.sampler)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

        # The difference is at most one batch, because processes differ by at most one place.
        if len(batches) < len(self):
            last = batches.pop() if batches else []
            half = (len(last) + 1) // 2
            repeated = [int(self.sampler.order()[0])]
            batches += [last[:half] or repeated] if not last else [last[:half], last[half:] or repeated]
        yield from batches
