"""Source of places from a prepared store, `data=store`."""

from __future__ import annotations

import logging
from typing import Any, Unpack

import numpy as np

from geoguesser.data.checks.image_stats import compute_pixel_stats
from geoguesser.data.datamodule import DataSettings, PlacesData
from geoguesser.data.fingerprint import compute_fingerprint
from geoguesser.data.places import drop_far_places
from geoguesser.data.sources.base import STORE
from geoguesser.data.splits import SplitConstraints
from geoguesser.data.store.reader import Store
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)


class StoreDataModule(PlacesData):
    """Places from a prepared store, `data=store data.path=DIR`, with views of the size and fit of `image`.

    `split=store` takes the split that the store recorded.
    """

    source = STORE

    def __init__(self, *, path: str, **settings: Unpack[DataSettings]) -> None:
        super().__init__(num_workers=0, **settings)
        self.store = Store.open(path)
        self.store.check_image(self.image)
        self.label = self.store.label

        # All files are opened at once, because another process may replace the store while this one builds its
        # network.
        self._stored_table, self._stored_mask = self.store.table(), self.store.mask()
        self._stored_views, self._thumbnails = self.store.views(self.image), self.store.thumbnails()
        self._digests, self._sums = self.store.digests(), self.store.sums(self.image)

    @property
    def _fraction_seed(self) -> int:
        return int(getattr(self.split, "seed", self.store.manifest["split_seed"]))

    def read_table(self) -> None:
        if self.rows:
            return
        table = drop_far_places(self._stored_table, self.region, self.findings, self.far_km)
        self._stored_rows = np.flatnonzero(self._stored_table["uuid"].isin(table["uuid"]))

        # `split=store` reads the recorded split; another split starts anew, and only keeps duplicates together.
        recorded = np.full(len(table), "", dtype="U6")
        groups = table["same_as"].to_numpy(dtype=np.int64)
        self._split_table(table, self._stored_mask[self._stored_rows], SplitConstraints(groups, recorded))

    def read_views(self) -> None:
        """Takes the memory-mapped shards; nothing is read before a batch needs it."""
        if hasattr(self, "views"):
            return
        self.read_table()
        self.views = self._stored_views.take(self._stored_rows)
        self.thumbnails = self._thumbnails[self._stored_rows]

        count, folder = format_count(len(self.table), "place"), self.store.folder
        log.info("%s from the store %s, views of %s", count, folder, self.image.name)

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        rows = self.rows["train"]
        return compute_pixel_stats(self._sums[self._stored_rows[rows]], self.mask.numpy()[rows], self.image.size)

    def fingerprint(self) -> dict[str, Any]:
        digests = self._digests[self._stored_rows]
        return compute_fingerprint(self.table, self.mask.numpy(), digests, self.image, self.store.decoder)
