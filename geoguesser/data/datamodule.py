"""Base of the datamodules: places with their views, split, and served in batches. Uses Lightning.

The order of batches depends only on seed and epoch, and augmentation only on seed and step.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Required, Self, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.data.augment import Augment
from geoguesser.data.batches import Batch, PlaceBatches, PlaceSampler, PlacesDataset
from geoguesser.data.checks.findings import Findings
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import DEFAULT_FAR_KM, get_coords
from geoguesser.data.sources.base import SourceKind
from geoguesser.data.splits import (
    SPLIT_NAMES,
    UNUSED,
    Split,
    SplitConstraints,
    draw_calibration_places,
    split_places,
    thin_training,
)
from geoguesser.data.views import Views
from geoguesser.errors import check_int, check_number
from geoguesser.geo.region import Region
from geoguesser.system.cpu import count_cores
from geoguesser.system.disk_cache import Cache

# Memory for one vector per place, kept beside the features of its views.
MAX_CONDENSED_BYTES = 2**28

# Places per batch of features in evaluation: without gradients, only memory limits a batch.
MIN_EVALUATION_BATCH = 1024


class DataSettings(TypedDict, total=False):
    """Settings that every source of places takes; `PlacesData` has their defaults."""

    region: Required[Region]
    image: Required[ImageSpec]
    split: Required[Split]
    augment: Required[Augment]
    batch_size: int
    fraction: float
    far_km: float
    on_bad: dict[str, str] | None
    seed: int


class PlacesData(pl.LightningDataModule, ABC):
    """Places with their views, split, and served in batches. The files of conf/data describe the arguments.

    Attributes:
        source: Declaration of the source: its kind, its label, and the config keys of its folders.
        cache: Disk cache of the findings of earlier runs about the same files; None to inspect all files.
        table: After `read_table`: one row per place, with its `split` (train, val, test, or unused).
        coords_deg: (N, 2) float64 latitude and longitude in degrees, by row.
        mask: (N, 4) bool by row, True for each view that is used.
        features: (N, 4, D) features of the views by row; None while pixels are served.
        label: Label of the data in pictures; empty for real places.
        rows: Split -> rows. The split `val` is divided into `val`, which selects weights, and `calibration`, which
            is empty until `hold_out` is called.
        views: After `read_views`: pixels by row.
        thumbnails: After `read_views`: (N, 4, 3, 8, 8) uint8, which the nearest-neighbour baseline compares.
        decoded: True if `read_views` decoded all views.
    """

    source: ClassVar[SourceKind]
    memory_gib: float = 0.0
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
        far_km: float = DEFAULT_FAR_KM,
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
        self.features: Tensor | None = None
        self._condensed: Tensor | None = None
        self._feature_batch: int | None = None

    def for_run(self, augment: Augment, seed: int) -> Self:
        """Copies the datamodule for another run: data that were read are shared, the state of a run is not."""
        data = copy.copy(self)
        data.augment, data.seed, data.rows = augment, check_int("seed", seed, low=0), dict(self.rows)
        data.features = data._condensed = data._feature_batch = None
        return data

    @property
    def _fraction_seed(self) -> int:
        """Seed of `data.fraction`: that of the split."""
        return int(getattr(self.split, "seed", 0))

    @abstractmethod
    def read_table(self) -> None:
        """Reads, checks and splits the table of places, without decoding images. A second call does nothing."""

    @abstractmethod
    def read_views(self) -> None:
        """Makes the views ready, and leaves out places by the findings about them. A second call does nothing."""

    @abstractmethod
    def pixel_stats(self) -> tuple[list[float], list[float]]:
        """Computes three means and three standard deviations of the training views, for values from 0 to 1."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Computes the fingerprint of the data, after `read_views`; see `geoguesser/data/fingerprint.py`."""

    def _split_table(
        self, table: pd.DataFrame, mask: BoolArray, constraints: SplitConstraints | None = None
    ) -> None:
        splits = split_places(self.split, table, self.region, constraints, self.findings).astype(object)
        train = np.flatnonzero(splits == "train")
        if self.fraction < 1.0:
            kept = thin_training(table["uuid"].iloc[train].tolist(), self.fraction, self._fraction_seed)
            splits[train[~kept]] = UNUSED

        self.table = table.assign(split=splits)
        self.coords_deg = get_coords(table)
        self.mask = torch.from_numpy(mask)
        self.rows = {name: np.flatnonzero(splits == name) for name in SPLIT_NAMES}
        self.rows["calibration"] = np.zeros(0, dtype=np.int64)

    def hold_out(self, fraction: float, min_places: int) -> None:
        """Takes a part of the validation places for calibration only, as `draw_calibration_places` does."""
        rows = np.flatnonzero(self.table["split"] == "val")
        drawn = draw_calibration_places(
            self.table["uuid"].iloc[rows].tolist(), fraction, min_places, self._fraction_seed
        )
        self.rows |= {"val": rows[~drawn], "calibration": rows[drawn]}

    def audit(self) -> dict[str, Any]:
        """Summarises the distances of the splits to the training places, as `audit_split` does."""
        return audit_split(self.coords_deg, np.asarray(self.table["split"]))

    @property
    def train_coords_deg(self) -> FloatArray:
        """(M, 2) coordinates of the training places: the only ones that a grid or a head may learn from."""
        return self.coords_deg[self.rows["train"]]

    def use_features(self, features: Tensor, batch_size: int | None = None) -> None:
        """Serves (N, 4, D) features instead of pixels from now on, in batches of `feature_batch_size`."""
        self.features, self._feature_batch, self._condensed = features, batch_size, None

    def condense_features(self, condense: Callable[[Tensor, Tensor], Tensor | None]) -> None:
        """Serves one vector per place, if memory suffices: `condense` makes (B, 1, D) of (B, 4, D) and mask.

        It returns None if the head needs the features of each view.
        """
        assert self.features is not None
        count, _, width = self.features.shape
        if 4 * count * width > MAX_CONDENSED_BYTES:
            return

        condensed = torch.empty(count, 1, width)
        for start in range(0, count, 1024):
            rows = slice(start, start + 1024)
            vectors = condense(self.features[rows], self.mask[rows])
            if vectors is None:
                return
            condensed[rows] = vectors
        self._condensed = condensed

    @property
    def feature_batch_size(self) -> int:
        """Places per batch of features; by default a sixteenth of the training places, from 32 to 512.

        It is at least `data.batch_size`: the step of a head is so cheap that the number of steps determines the
        time.
        """
        sixteenth = math.ceil(len(self.rows["train"]) / 16)
        return self._feature_batch or max(self.batch_size, min(max(sixteenth, 32), 512))

    def loader(
        self, name: str, *, shuffle: bool = False, pixels: bool = False, whole: bool = False
    ) -> DataLoader[Any]:
        """Makes the loader of train, val, calibration, test or `all` places for this process.

        The order is drawn from seed and epoch with `shuffle`. With `pixels`, features are not used; with `whole`,
        this process serves every place, even if several processes share them.
        """
        rows = np.arange(len(self.table)) if name == "all" else self.rows[name]
        features, mask = None if pixels else self.features, self.mask
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

        batch_size, workers = self.batch_size, 0
        if features is not None:
            batch_size = self.feature_batch_size if shuffle else max(self.feature_batch_size, MIN_EVALUATION_BATCH)
        elif self.views.benefits_from_workers:
            workers = count_cores() if self.num_workers is None else self.num_workers
        return DataLoader(
            dataset,
            batch_sampler=PlaceBatches(sampler, batch_size, in_step=shuffle),
            num_workers=workers,
            collate_fn=_return_batch,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Makes the loader of the training places, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Makes the loader of the validation places that select weights, in order, divided among processes."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Makes the loader of the test places, in order, divided among processes."""
        return self.loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augments training views after their transfer to the device."""
        trainer = self.trainer
        if trainer is None or not trainer.training or not isinstance(batch, Batch):
            return batch

        # Each batch of each process has a seed of its own.
        step = trainer.fit_loop.epoch_loop.total_batch_idx * trainer.world_size + trainer.global_rank
        seed = (self.seed * 1_000_003 + step) % 2**63
        return batch._replace(images=self.augment(batch.images, seed))


def _return_batch(batch: Any) -> Any:
    """Returns a batch unchanged: the dataset makes complete batches, so that nothing is left to collate."""
    return batch
