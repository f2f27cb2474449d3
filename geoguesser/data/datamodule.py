"""PlacesData: places with their views, split, and served in batches. The one data file that knows Lightning.

Order of a batch is drawn from (seed, epoch) alone and augmentation from (seed, step) alone, so a
resumed run sees the same batches, whatever the number of workers. Where places come from: datamodule.py.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.data.augment import Augment
from geoguesser.data.batches import Batch, PlaceBatches, PlaceSampler, PlacesDataset
from geoguesser.data.checks.filtering import (
    split_places,
)
from geoguesser.data.checks.findings import Findings
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import FAR_KM, get_coords
from geoguesser.data.sources.base import SourceKind
from geoguesser.data.splits import NAMES, UNUSED, Split, SplitConstraints, hold_out, thin_training
from geoguesser.data.views import Views
from geoguesser.errors import check_int, check_number
from geoguesser.geo.region import Region
from geoguesser.system.cpu import count_cores
from geoguesser.system.disk_cache import Cache

MAX_CONDENSED_BYTES = 2**28
EVALUATED_TOGETHER = 1024  # places per batch of features where nothing is learnt from them


class _NeededSettings(TypedDict):
    region: Region
    image: ImageSpec
    split: Split
    augment: Augment


class DataSettings(_NeededSettings, total=False):
    """Settings that every source of places takes; `PlacesData` describes them and has their defaults."""

    batch_size: int
    fraction: float
    far_km: float
    on_bad: dict[str, str] | None
    seed: int


class PlacesData(pl.LightningDataModule, ABC):
    """Places with their views, split, and served in batches.

    Args:
        region: Land that the places lie on; places far outside it are findings.
        image: Size and fit of the views.
        split: Split of the places into training, validation and test.
        augment: Augmentation of training views, on the device.
        num_workers: Processes that decode image files in training; null for one per core. Views that
            are only copied, from memory or a store, need none.
        batch_size: Places per batch of pixels (and per process).
        fraction: Share of the training places that is used.
        far_km: Largest distance of a place from the region's land.
        on_bad: Kind of finding -> `error`, `skip` or `keep`.
        seed: Seed of order and augmentation.

    Attributes:
        table: After `read_table`: one row per place, with its `split` (train, val, test, or unused).
        coords_deg: (N, 2) float64 by row.
        mask: (N, 4) bool by row, true where there is a view that is used.
        source: Declaration of the source: its kind, its label, and the config keys of its folders.
        label: Label of the data in pictures; empty for real places.
        rows: Split -> rows. The split `val` is dealt out between `val`, which chooses weights, and `calibration`,
            empty until `hold_out` takes some.
        views: After `read_views`: pixels by row.
        thumbnails: After `read_views`: (N, 4, 3, 8, 8) uint8, what the nearest-neighbour baseline compares.
        findings: What was found.
        decoded: Whether `read_views` decoded all views.
        cache: Where earlier runs left what they found in the same files; None to look at all anew.
    """

    source: ClassVar[SourceKind]
    memory_gib: float = 0.0  # what views may take of it
    cache: Cache | None = None
    decoded: bool = False
    views: Views
    thumbnails: npt.NDArray[np.uint8]

    def __init__(
        self,
        *,
        region: Region,
        image: ImageSpec,
        split: Split,
        augment: Augment,
        num_workers: int | None,
        batch_size: int = 32,
        fraction: float = 1.0,
        far_km: float = FAR_KM,
        on_bad: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.region, self.image, self.split, self.augment = region, image, split, augment
        self.batch_size = check_int("data.batch_size", batch_size, low=1)
        self.fraction = check_number("data.fraction", fraction, low=0.0, high=1.0, open_low=True)
        self.num_workers = num_workers
        if num_workers is not None:
            check_int("data.num_workers", num_workers, low=0)
        self.far_km = check_number("data.far_km", far_km, low=0.0)
        self.seed = check_int("seed", seed, low=0)
        self.findings = Findings(dict(on_bad or {}))
        self.table = pd.DataFrame()
        self.label = self.source.label
        self.rows: dict[str, IntArray] = {}
        self._features: Tensor | None = None
        self._condensed: Tensor | None = None
        self._feature_batch: int | None = None

    def anew(self, augment: Augment, seed: int) -> Self:
        """Copies the datamodule for another run: data that were read are shared, the state of a run is not.

        Args:
            augment: Augmentation of training views.
            seed: Seed of order and augmentation.
        """
        fresh = copy.copy(self)
        fresh.augment, fresh.seed, fresh.rows = augment, check_int("seed", seed, low=0), dict(self.rows)
        fresh._features = fresh._condensed = fresh._feature_batch = None
        return fresh

    @property
    def _fraction_seed(self) -> int:
        """What draws `data.fraction`: the split's own seed."""
        return int(getattr(self.split, "seed", 0))

    @abstractmethod
    def read_table(self) -> None:
        """Reads, checks and splits the table of places; no image is decoded. Doing it again does nothing.

        Raises:
            GeoguesserError: What the data or the split break.
        """

    @abstractmethod
    def read_views(self) -> None:
        """Makes the views ready, and settles what is wrong with them.

        Raises:
            GeoguesserError: What the data break.
        """

    @abstractmethod
    def pixel_stats(self) -> tuple[list[float], list[float]]:
        """After `read_views`: mean and std of the training views' pixels by channel, of values from 0 to 1."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """After `read_views`: what tells these data from others, as geoguesser/data/fingerprint.py says."""

    def _set_table(
        self, table: pd.DataFrame, mask: npt.NDArray[np.bool_], ties: SplitConstraints | None = None
    ) -> None:
        splits = split_places(self.split, table, self.region, ties, self.findings).astype(object)
        train = np.flatnonzero(splits == "train")
        if self.fraction < 1.0:
            kept = thin_training(table["uuid"].iloc[train].tolist(), self.fraction, self._fraction_seed)
            splits[train[~kept]] = UNUSED
        self.table = table.assign(split=splits)
        self.coords_deg = get_coords(table)
        self.mask = torch.from_numpy(mask)
        self.rows = {name: np.flatnonzero(splits == name) for name in NAMES}
        self.rows["calibration"] = np.zeros(0, dtype=np.int64)

    def hold_out(self, share: float, fewest: int) -> None:
        """Takes a part of the validation places for calibration alone, after `read_views`; `table` stays as it is.

        Args:
            share: About how much of them, from 0 to 0.9.
            fewest: Where either part would hold fewer places, none are taken.

        Raises:
            ConfigError: A value is out of range.
        """
        rows = np.flatnonzero(self.table["split"] == "val")
        taken = hold_out(self.table["uuid"].iloc[rows].tolist(), share, fewest, self._fraction_seed)
        self.rows |= {"val": rows[~taken], "calibration": rows[taken]}

    def audit(self) -> dict[str, Any]:
        """How far the places of each split lie from the training places; see geoguesser/data/checks/leakage.py."""
        return audit_split(self.coords_deg, np.asarray(self.table["split"]))

    @property
    def train_coords_deg(self) -> FloatArray:
        """(M, 2) the training places: all that a grid or a head may learn from."""
        return self.coords_deg[self.rows["train"]]

    @property
    def features(self) -> Tensor | None:
        """(N, 4, D) features of the views by row, None where pixels are served."""
        return self._features

    def use_features(self, features: Tensor, batch_size: int | None = None) -> None:
        """Serves (N, 4, D) features by row instead of pixels from now on, so many places at once."""
        self._features, self._feature_batch, self._condensed = features, batch_size, None

    def condense_features(self, condense: Callable[[Tensor, Tensor], Tensor | None]) -> None:
        """Serves one vector per place instead of its views', where `condense` gives one and they are not too many.

        Args:
            condense: (B, 4, D) features and (B, 4) mask -> (B, 1, D), or None.
        """
        assert self._features is not None
        count, _, width = self._features.shape
        if 4 * count * width > MAX_CONDENSED_BYTES:
            return
        found = torch.empty(count, 1, width)
        for start in range(0, count, 1024):
            some = slice(start, start + 1024)
            part = condense(self._features[some], self.mask[some])
            if part is None:
                return
            found[some] = part
        self._condensed = found

    @property
    def feature_batch_size(self) -> int:
        """Places per batch of features: as asked, else a sixteenth of the training places, from 32 to 512.

        It is never less than `data.batch_size` unless asked: steps of a head alone cost next to nothing, and
        a larger batch takes fewer of them.
        """
        sixteenth = math.ceil(len(self.rows["train"]) / 16)
        return self._feature_batch or max(self.batch_size, min(max(sixteenth, 32), 512))

    def loader(
        self, name: str, *, shuffle: bool = False, pixels: bool = False, whole: bool = False
    ) -> DataLoader[Any]:
        """The batches of one split in the process at hand.

        Args:
            name: train, val, calibration or test, or `all`.
            shuffle: In an order drawn from seed and epoch, else in the table's.
            pixels: Serve pixels even where features are there.
            whole: Every place in this process, even where several share them.
        """
        rows = np.arange(len(self.table)) if name == "all" else self.rows[name]
        features, mask = None if pixels else self._features, self.mask
        if features is not None and self._condensed is not None:
            features, mask = self._condensed, mask.any(dim=1, keepdim=True)
        dataset = PlacesDataset(rows, views=self.views, features=features, mask=mask, coords_deg=self.coords_deg)
        trainer = None if whole else self.trainer
        sampler = PlaceSampler(
            len(rows),
            seed=self.seed if shuffle else None,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        workers = self._workers() if features is None else 0
        batch_size = self.batch_size
        if features is not None:  # without gradients and steps, only memory bounds a batch
            batch_size = self.feature_batch_size if shuffle else max(self.feature_batch_size, EVALUATED_TOGETHER)
        return DataLoader(
            dataset,
            batch_sampler=PlaceBatches(sampler, batch_size, in_step=shuffle),
            num_workers=workers,
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )

    def _workers(self) -> int:
        if not self.views.worth_workers:
            return 0
        return self.num_workers if self.num_workers is not None else count_cores()

    def train_dataloader(self) -> DataLoader[Any]:
        """Training places, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation places that choose weights, in order, each once over all processes."""
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


def _as_is(batch: Any) -> Any:
    return batch
