"""Sources of places: roots of image files, a prepared store, and the synthetic demo.

`PlacesData` has what they share.
"""

from __future__ import annotations

import logging
from typing import Any, Unpack

import numpy as np
import pandas as pd
from tqdm import tqdm

from geoguesser.data.checks.duplicates import find_duplicates
from geoguesser.data.checks.filtering import (
    check_missing_views,
    compute_pixel_stats,
    compute_stats,
    record_image_findings,
)
from geoguesser.data.datamodule import DataSettings, PlacesData
from geoguesser.data.demo.dataset import demo_root
from geoguesser.data.fingerprint import compute_fingerprint
from geoguesser.data.places import drop_far, get_coords, list_files, read_places
from geoguesser.data.sources.base import DEMO, PLACES, STORE
from geoguesser.data.splits import SplitConstraints
from geoguesser.data.store.reader import Store
from geoguesser.data.view_loading import known_views
from geoguesser.errors import check_number
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)


class FileSettings(DataSettings, total=False):
    """Settings of sources that read image files; `PlacesDataModule` describes them and has their defaults."""

    num_workers: int | None
    memory_gib: float
    missing_views: str


class PlacesDataModule(PlacesData):
    """Places straight from roots of image files, `data=places`.

    Args:
        roots: Folders in the layout that geoguesser/data/places.py describes.
        num_workers: Processes that decode image files in training; null for one per core.
        memory_gib: Views are kept in memory if all of them take at most this.
        missing_views: `drop` a place that lacks a view, or `mask` the views that it lacks.
        settings: Settings of `PlacesData`.
    """

    source = PLACES

    def __init__(
        self,
        *,
        roots: list[str] | str,
        num_workers: int | None = None,
        memory_gib: float = 4.0,
        missing_views: str = "drop",
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(num_workers=num_workers, **settings)
        self.roots = [roots] if isinstance(roots, str) else roots
        self.memory_gib = check_number("data.memory_gib", memory_gib, low=0.0)
        self.masks_views = check_missing_views(missing_views)
        self._as_read = pd.DataFrame()  # its own column `split`, where it has one, is hidden in `table`

    def read_places(self) -> pd.DataFrame:
        """The checked table of places, as `geoguesser.data.places.read_places` gives it."""
        return read_places(self.roots, self.region, self.findings, far_km=self.far_km, mask=self.masks_views)

    def read_table(self) -> None:
        if self.rows:
            return
        self._as_read = self.read_places()
        mask = np.array([[name is not None for name in names] for names in self._as_read["names"]], dtype=bool)
        self._set_table(self._as_read, mask.reshape(-1, 4))

    def read_views(self) -> None:
        """Decodes every view once; they are kept where they fit in memory. Doing it again does nothing.

        With a cache in which these very files were examined before, none is read until a batch needs it.

        Raises:
            DataError: A kind of finding is an error, or a split is empty without what is skipped.
        """
        if hasattr(self, "views"):
            return
        self.read_table()
        loaded = known_views(list_files(self._as_read), self.image, memory_gib=self.memory_gib, cache=self.cache)
        mask, dropped = record_image_findings(
            self._as_read,
            loaded.facts,
            loaded.found,
            self.findings,
            mask=self.masks_views,
            largest=self.image.size,
        )
        some = np.flatnonzero(~dropped)
        table, facts = self._as_read.iloc[some].reset_index(drop=True), loaded.facts.take(some)
        identity = find_duplicates(table, get_coords(table), facts, self.findings)
        kept = np.flatnonzero(~identity.dropped)
        rows = some[kept]
        self._as_read = table.iloc[kept].reset_index(drop=True)
        recorded = np.full(len(kept), "", dtype="U6")
        self._set_table(self._as_read, mask[rows], SplitConstraints(identity.groups[kept], recorded))
        self.facts, self.decoded = facts.take(kept), loaded.decoded
        self.views = loaded.views if len(rows) == len(dropped) else loaded.views.take(rows)
        self.thumbnails = self.facts.thumbnails

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        return compute_pixel_stats(self.facts, self.mask.numpy(), self.rows["train"], self.image.size)

    def fingerprint(self) -> dict[str, Any]:
        return compute_fingerprint(self.table, self.mask.numpy(), self.facts.views["digest"], self.image)


class StoreDataModule(PlacesData):
    """Places from a prepared store, `data=store data.path=DIR`.

    The store must hold views of the size and fit of `image`; `split=store` takes the split that it recorded.

    Args:
        path: The folder that `python -m geoguesser.prepare` wrote.
        settings: Settings of `PlacesData`.
    """

    source = STORE

    def __init__(self, *, path: str, **settings: Unpack[DataSettings]) -> None:
        super().__init__(num_workers=0, **settings)
        self.store = Store.open(path)
        self.store.check_image(self.image)
        self.label = self.store.label
        # All at once: another process may replace the store while this one makes its network.
        self._whole, self._mask, self._views = self.store.table(), self.store.mask(), self.store.views(self.image)
        self._digests, self._sums = self.store.digests(), self.store.sums(self.image)
        self._thumbnails = self.store.thumbnails()

    @property
    def _fraction_seed(self) -> int:
        return int(getattr(self.split, "seed", self.store.manifest["split_seed"]))

    def read_table(self) -> None:
        if self.rows:
            return
        table = drop_far(self._whole, self.region, self.findings, self.far_km)
        self._rows = np.flatnonzero(self._whole["uuid"].isin(table["uuid"]))
        recorded = np.full(len(table), "", dtype="U6")
        groups = table["same_as"].to_numpy(dtype=np.int64)
        self._set_table(table, self._mask[self._rows], SplitConstraints(groups, recorded))

    def read_views(self) -> None:
        """Takes the mapped shards; nothing is read or decoded before a batch asks for it."""
        if hasattr(self, "views"):
            return
        self.read_table()
        self.views = self._views.take(self._rows)
        self.thumbnails = self._thumbnails[self._rows]
        log.info(
            "%s from the store %s, views of %s",
            format_count(len(self.table), "place"),
            self.store.folder,
            self.image.name,
        )

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        rows = self._rows[self.rows["train"]]
        pixels = int(self.mask[self.rows["train"]].sum()) * self.image.size**2
        return compute_stats(self._sums[rows].sum(axis=0), pixels)

    def fingerprint(self) -> dict[str, Any]:
        digests = self._digests[self._rows]
        return compute_fingerprint(self.table, self.mask.numpy(), digests, self.image, self.store.decoder)


class DemoDataModule(PlacesDataModule):
    """Places of the synthetic country, rendered into a folder that is read as any root."""

    source = DEMO


def demo_data(*, places: int, px: int, demo_seed: int = 0, **settings: Unpack[FileSettings]) -> DemoDataModule:
    """Renders the synthetic country into the cache, if it is not there, and makes its datamodule, `data=demo`.

    Args:
        places: Number of places.
        px: Height and width of the rendered views.
        demo_seed: Seed of the synthetic places.
        settings: Settings of `PlacesDataModule`.

    Raises:
        ConfigError: `data.places`, `data.px` or `data.demo_seed` is out of range.
    """
    with tqdm(desc="rendering the synthetic country", unit=" places", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        root = demo_root(places=places, seed=demo_seed, px=px, progress=show)
    return DemoDataModule(roots=[str(root)], **settings)
