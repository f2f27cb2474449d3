"""Datamodules: where places come from. Roots of image files, a store, or the synthetic demo.

What all of them do with their places is PlacesData's business.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from geoguesser.counted import counted
from geoguesser.data.augment import Augment
from geoguesser.data.demo import demo_root
from geoguesser.data.fingerprint import fingerprint
from geoguesser.data.identity import find_identical
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import FAR_KM, coords_of, files_of, read_places, without_far
from geoguesser.data.places_data import PlacesData
from geoguesser.data.soundness import (
    check_missing_views,
    pixel_stats,
    settle_images,
    stats_of_sums,
)
from geoguesser.data.splits import Split, Ties
from geoguesser.data.store import Store
from geoguesser.data.view_loading import known_views
from geoguesser.errors import check_number
from geoguesser.geo.region import Region

log = logging.getLogger(__name__)


class PlacesDataModule(PlacesData):
    """Places straight from roots of image files, `data=places`.

    Args:
        roots: Folders as geoguesser/data/places.py describes them.
        region: As in PlacesData, like all that is not named here.
        image: As there.
        split: As there.
        augment: As there.
        batch_size: As there.
        fraction: As there.
        num_workers: As there.
        memory_gib: Views are kept in memory where all of them take no more than this.
        missing_views: `drop` a place that lacks a view, or `mask` what it lacks.
        far_km: As there.
        on_bad: As there.
        seed: As there.
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
        missing_views: str = "drop",
        far_km: float = FAR_KM,
        on_bad: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            region=region,
            image=image,
            split=split,
            augment=augment,
            batch_size=batch_size,
            fraction=fraction,
            num_workers=num_workers,
            far_km=far_km,
            on_bad=on_bad,
            seed=seed,
        )
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
        loaded = known_views(files_of(self._as_read), self.image, memory_gib=self.memory_gib, cache=self.cache)
        mask, dropped = settle_images(
            self._as_read,
            loaded.facts,
            loaded.found,
            self.findings,
            mask=self.masks_views,
            largest=self.image.size,
        )
        some = np.flatnonzero(~dropped)
        table, facts = self._as_read.iloc[some].reset_index(drop=True), loaded.facts.take(some)
        identity = find_identical(table, coords_of(table), facts, self.findings)
        kept = np.flatnonzero(~identity.dropped)
        rows = some[kept]
        self._as_read = table.iloc[kept].reset_index(drop=True)
        recorded = np.full(len(kept), "", dtype="U6")
        self._set_table(self._as_read, mask[rows], Ties(identity.groups[kept], recorded))
        self.facts, self.decoded = facts.take(kept), loaded.decoded
        self.views = loaded.views if len(rows) == len(dropped) else loaded.views.take(rows)
        self.thumbnails = self.facts.thumbnails

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        return pixel_stats(self.facts, self.mask.numpy(), self.rows["train"], self.image.size)

    def fingerprint(self) -> dict[str, Any]:
        return fingerprint(self.table, self.mask.numpy(), self.facts.views["digest"], self.image)


class StoreDataModule(PlacesData):
    """Places from a prepared store, `data=store data.path=DIR`.

    Args:
        path: The folder that `python -m geoguesser.prepare` wrote.
        region: As in PlacesData, like all that follow.
        image: As there; the store must hold views of this size and fit.
        split: As there; `split=store` takes the one that the store recorded.
        augment: As there.
        batch_size: As there.
        fraction: As there.
        far_km: As there.
        on_bad: As there.
        seed: As there.
    """

    def __init__(
        self,
        *,
        path: str,
        region: Region,
        image: ImageSpec,
        split: Split,
        augment: Augment,
        batch_size: int = 32,
        fraction: float = 1.0,
        far_km: float = FAR_KM,
        on_bad: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            region=region,
            image=image,
            split=split,
            augment=augment,
            batch_size=batch_size,
            fraction=fraction,
            num_workers=0,
            far_km=far_km,
            on_bad=on_bad,
            seed=seed,
        )
        self.store = Store.open(path)
        self.store.check_image(image)
        self.label = self.store.label
        # All at once: another process may replace the store while this one makes its network.
        self._whole, self._mask, self._views = self.store.table(), self.store.mask(), self.store.views(image)
        self._digests, self._sums = self.store.digests(), self.store.sums(image)
        self._thumbnails = self.store.thumbnails()

    @property
    def _fraction_seed(self) -> int:
        return int(getattr(self.split, "seed", self.store.manifest["split_seed"]))

    def read_table(self) -> None:
        if self.rows:
            return
        table = without_far(self._whole, self.region, self.findings, self.far_km)
        self._rows = np.flatnonzero(self._whole["uuid"].isin(table["uuid"]))
        recorded = np.full(len(table), "", dtype="U6")
        groups = table["same_as"].to_numpy(dtype=np.int64)
        self._set_table(table, self._mask[self._rows], Ties(groups, recorded))

    def read_views(self) -> None:
        """Takes the mapped shards; nothing is read or decoded before a batch asks for it."""
        if hasattr(self, "views"):
            return
        self.read_table()
        self.views = self._views.take(self._rows)
        self.thumbnails = self._thumbnails[self._rows]
        log.info(
            "%s from the store %s, views of %s",
            counted(len(self.table), "place"),
            self.store.folder,
            self.image.name,
        )

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        rows = self._rows[self.rows["train"]]
        pixels = int(self.mask[self.rows["train"]].sum()) * self.image.size**2
        return stats_of_sums(self._sums[rows].sum(axis=0), pixels)

    def fingerprint(self) -> dict[str, Any]:
        digests = self._digests[self._rows]
        return fingerprint(self.table, self.mask.numpy(), digests, self.image, self.store.decoder)


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
    missing_views: str = "drop",
    far_km: float = FAR_KM,
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
        missing_views: As there.
        far_km: As there.
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
        missing_views=missing_views,
        far_km=far_km,
        on_bad=on_bad,
        seed=seed,
    )
    data.label = "synthetic demo"
    return data
