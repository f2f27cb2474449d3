"""Source of places from roots of image files, `data=places`."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import pandas as pd

from geoguesser.data.checks.filtering import check_missing_views
from geoguesser.data.checks.image_stats import compute_pixel_stats
from geoguesser.data.checks.selection import select_places
from geoguesser.data.datamodule import DataSettings, PlacesData
from geoguesser.data.fingerprint import compute_fingerprint
from geoguesser.data.places import list_files, read_places
from geoguesser.data.sources.base import PLACES
from geoguesser.data.splits import SplitConstraints
from geoguesser.data.view_loading import load_known_views
from geoguesser.errors import check_number


class FileSettings(DataSettings, total=False):
    """Settings of sources that read image files; `PlacesDataModule` has their defaults."""

    num_workers: int | None
    memory_gib: float
    missing_views: str


class PlacesDataModule(PlacesData):
    """Places from roots of image files, `data=places`, in the layout that `geoguesser/data/places.py` describes.

    Views are kept in memory if they take at most `memory_gib`. A place that lacks a view is dropped, or its
    missing views are masked, as `missing_views` says.
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

        # `table` hides the user's own column `split`, so that the table as it was read is kept for a second split.
        self._input_table = pd.DataFrame()

    def read_places(self) -> pd.DataFrame:
        """Reads the checked table of places, as `geoguesser.data.places.read_places` returns it."""
        return read_places(
            self.roots, self.region, self.findings, far_km=self.far_km, allow_missing_views=self.masks_views
        )

    def read_table(self) -> None:
        if self.rows:
            return
        self._input_table = self.read_places()
        mask = np.array([[name is not None for name in names] for names in self._input_table["names"]], dtype=bool)
        self._split_table(self._input_table, mask.reshape(-1, 4))

    def read_views(self) -> None:
        """Inspects all views, selects places and splits them; reads no file that an earlier run has inspected."""
        if hasattr(self, "views"):
            return
        self.read_table()

        loaded = load_known_views(
            list_files(self._input_table), self.image, memory_gib=self.memory_gib, cache=self.cache
        )
        selection = select_places(
            self._input_table,
            loaded.stats,
            loaded.findings,
            self.findings,
            allow_missing_views=self.masks_views,
            max_size=self.image.size,
        )
        rows = selection.rows

        recorded = np.full(len(rows), "", dtype="U6")
        table = self._input_table.iloc[rows].reset_index(drop=True)
        self._split_table(table, selection.mask, SplitConstraints(selection.groups, recorded))
        self._input_table = table

        # `take` would copy all pixels, which is needless if all places remain.
        self.views = loaded.views if len(rows) == len(loaded.stats) else loaded.views.take(rows)
        self.image_stats, self.decoded = loaded.stats.take(rows), loaded.decoded
        self.thumbnails = self.image_stats.thumbnails

    def pixel_stats(self) -> tuple[list[float], list[float]]:
        rows, mask = self.rows["train"], self.mask.numpy()
        return compute_pixel_stats(self.image_stats.sum_used_views(mask)[rows], mask[rows], self.image.size)

    def fingerprint(self) -> dict[str, Any]:
        return compute_fingerprint(self.table, self.mask.numpy(), self.image_stats.views["digest"], self.image)
