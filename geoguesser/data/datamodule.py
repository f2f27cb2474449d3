"""PlacesDataModule: from roots to batches. The one data file that knows Lightning.

Order of a batch is drawn from (seed, epoch) alone and augmentation from (seed, step) alone, so a
resumed run sees the same batches, whatever the number of workers.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from geoguesser.data.augment import Augment
from geoguesser.data.demo import demo_root
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import Findings, coords_of, read_places
from geoguesser.data.splits import NAMES, Split, thin
from geoguesser.data.views import MemoryViews, Views, load_views
from geoguesser.errors import check_int, check_number
from geoguesser.geo.distance import FloatArray
from geoguesser.geo.region import Region

log = logging.getLogger(__name__)
IntArray = npt.NDArray[np.int64]


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
        self.coords_deg = torch.from_numpy(coords_deg).float()

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
            return FeatureBatch(self.features[index], *rest)
        return Batch(self.views.gather(rows), *rest)


class PlaceSampler(Sampler[int]):
    """Positions of one process: every place once per epoch.

    Args:
        size: How many places there are.
        seed: With the epoch it draws the order; None keeps the table's order.
        rank: This process.
        world_size: How many processes share the places.
        even: All processes get as many (training in step needs that); the last few places are then
            repeated from the epoch's beginning. Otherwise no place is repeated.
    """

    def __init__(self, size: int, *, seed: int | None, rank: int, world_size: int, even: bool) -> None:
        self.size, self.seed, self.rank, self.world_size, self.even = size, seed, rank, world_size, even
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch, after a resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.even:
            return math.ceil(self.size / self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def __iter__(self) -> Iterator[int]:
        order = torch.arange(self.size)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.size, generator=generator)
        if self.even:
            total = len(self) * self.world_size
            order = order.repeat(math.ceil(total / max(self.size, 1)))[:total]
        return iter(order[self.rank :: self.world_size].tolist())


class PlacesDataModule(pl.LightningDataModule):
    """Places read from roots, checked, split, and served in batches.

    Args:
        roots: Folders as geoguesser/data/places.py describes them.
        region: The land; places far outside it are findings.
        image: How views are brought to their size.
        split: Which places are for training, validation and test.
        augment: Changes training views, on the device.
        batch_size: Places per batch (and per process).
        fraction: The share of the training places that is used.
        num_workers: Processes that read JPEG files while training; null for one per core. Views that
            are kept in memory need none.
        memory_gib: Views are kept in memory where all of them take no more than this.
        on_bad: kind of finding -> `error` or `skip`.
        seed: Draws order and augmentation.

    Attributes:
        table: After `prepare`: one row per place, with its `split` (train, val, test, or unused).
        coords_deg: (N, 2) float64 by row.
        mask: (N, 4) bool by row.
        label: What pictures say of the data; empty for real places.
        rows: Split -> rows.
        thumbnails: After `read_views`: (N, 4, 3, 8, 8) uint8, what the nearest-neighbour baseline compares.
        findings: What was skipped.
    """

    def __init__(
        self,
        *,
        roots: list[str] | str,
        region: Region,
        image: ImageSpec,
        split: Split,
        augment: Augment,
        batch_size: int = 32,
        fraction: float = 1.0,
        num_workers: int | None = None,
        memory_gib: float = 4.0,
        on_bad: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.roots = [roots] if isinstance(roots, str) else roots
        self.region, self.image, self.split, self.augment = region, image, split, augment
        self.batch_size = check_int("data.batch_size", batch_size, low=1)
        self.fraction = check_number("data.fraction", fraction, low=0.0, high=1.0, open_low=True)
        self.num_workers = num_workers
        if num_workers is not None:
            check_int("data.num_workers", num_workers, low=0)
        self.memory_gib = check_number("data.memory_gib", memory_gib, low=0.0)
        self.seed = check_int("seed", seed, low=0)
        self.findings = Findings(dict(on_bad or {}))
        self.table = self._as_read = pd.DataFrame()
        self.label = ""
        self.rows: dict[str, IntArray] = {}
        self._features: Tensor | None = None

    def read_table(self) -> None:
        """Reads, checks and splits the table of places; no image is decoded. Doing it again does nothing.

        Raises:
            GeoguesserError: What the data or the split break.
        """
        if self.rows:
            return
        self._set_table(read_places(self.roots, self.region, self.findings))

    def _set_table(self, table: pd.DataFrame) -> None:
        self._as_read = table  # its own column `split`, where it has one, is hidden below
        splits = self.split.assign(table).astype(object)
        train = np.flatnonzero(splits == "train")
        if self.fraction < 1.0:
            kept = thin(table["uuid"].iloc[train].tolist(), self.fraction, getattr(self.split, "seed", 0))
            splits[train[~kept]] = "unused"
        self.table = table.assign(split=splits)
        self.coords_deg = coords_of(table)
        self.mask = torch.ones(len(table), 4, dtype=torch.bool)
        self.rows = {name: np.flatnonzero(splits == name) for name in NAMES}

    def read_views(self) -> None:
        """Decodes every view once: broken ones become findings; all are kept where they fit in memory.

        Raises:
            DataError: An image is broken and `data.on_bad.broken_image` is error, or a split is then empty.
        """
        self.read_table()
        start = time.perf_counter()
        loaded = load_views(self.table["folder"].tolist(), self.image, memory_gib=self.memory_gib)
        views, broken = loaded.views, loaded.broken
        self.thumbnails = loaded.thumbnails
        self.findings.settle([finding for _, finding in broken])
        self.views = views
        count, seconds = 4 * len(self.table), time.perf_counter() - start
        where = "kept in memory" if isinstance(views, MemoryViews) else "to be read again each epoch"
        log.info("read %d views in %.1f s (%.0f a second), %s", count, seconds, count / seconds, where)
        if broken:
            bad = np.array([row for row, _ in broken])
            keep = np.setdiff1d(np.arange(len(self.table)), bad)
            self._set_table(self._as_read.iloc[keep].reset_index(drop=True))
            self.views, self.thumbnails = views.take(keep), self.thumbnails[keep]

    @property
    def train_coords_deg(self) -> FloatArray:
        """(M, 2) the training places: all that a grid or a head may learn from."""
        return self.coords_deg[self.rows["train"]]

    def use_features(self, features: Tensor) -> None:
        """Serves (N, 4, D) features by row instead of pixels from now on."""
        self._features = features

    def loader(self, name: str, *, shuffle: bool = False, pixels: bool = False) -> DataLoader[Any]:
        """The batches of one split in the process at hand.

        Args:
            name: train, val or test, or `all`.
            shuffle: In an order drawn from seed and epoch, else in the table's.
            pixels: Serve pixels even where features are there.
        """
        rows = np.arange(len(self.table)) if name == "all" else self.rows[name]
        features = None if pixels else self._features
        dataset = PlacesDataset(
            rows, views=self.views, features=features, mask=self.mask, coords_deg=self.coords_deg
        )
        trainer = self.trainer
        sampler = PlaceSampler(
            len(rows),
            seed=self.seed if shuffle else None,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            even=shuffle,
        )
        workers = self._workers() if features is None else 0
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )

    def _workers(self) -> int:
        if isinstance(self.views, MemoryViews):
            return 0  # a gather is faster than handing its result over from another process
        if self.num_workers is not None:
            return self.num_workers
        return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training places, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation places, in order, each once over all processes."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test places, in order, each once over all processes."""
        return self.loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augments training views once they are on the device."""
        trainer = self.trainer
        if trainer is None or not trainer.training or not isinstance(batch, Batch):
            return batch
        step = trainer.fit_loop.epoch_loop.total_batch_idx * trainer.world_size + trainer.global_rank
        seed = (self.seed * 1_000_003 + step) % 2**63
        return batch._replace(images=self.augment(batch.images, seed))


def demo_data(
    *,
    places: int,
    px: int,
    region: Region,
    image: ImageSpec,
    split: Split,
    augment: Augment,
    demo_seed: int = 0,
    batch_size: int = 32,
    fraction: float = 1.0,
    num_workers: int | None = None,
    memory_gib: float = 4.0,
    on_bad: dict[str, str] | None = None,
    seed: int = 0,
) -> PlacesDataModule:
    """The synthetic country as a datamodule: it is rendered into the cache once, then read like any root.

    Args:
        places: How many places.
        px: Height and width of the rendered views.
        region: As in PlacesDataModule, like all that follow.
        image: As there.
        split: As there.
        augment: As there.
        demo_seed: Draws the synthetic places.
        batch_size: As there.
        fraction: As there.
        num_workers: As there.
        memory_gib: As there.
        on_bad: As there.
        seed: As there.

    Raises:
        ConfigError: `data.places`, `data.px` or `data.demo_seed` is out of range.
    """
    with tqdm(desc="rendering the synthetic country", unit=" places", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        root = demo_root(places=places, seed=demo_seed, px=px, progress=show)
    data = PlacesDataModule(
        roots=[str(root)],
        region=region,
        image=image,
        split=split,
        augment=augment,
        batch_size=batch_size,
        fraction=fraction,
        num_workers=num_workers,
        memory_gib=memory_gib,
        on_bad=on_bad,
        seed=seed,
    )
    data.label = "synthetic demo"
    return data


def _as_is(batch: Any) -> Any:
    return batch
