"""Reads a store: prepared views in memory-mapped shards, and one table of places.

DIR/store.json                    the manifest; it is written last, so that a store with a manifest is complete
DIR/places-ID.parquet             one row per place: id, coordinates, split, views, source, further columns
DIR/facts-ID.npz                  digests of image files, sums of pixels
DIR/thumbnails-ID.npy             (N, 4, 3, 8, 8)
DIR/views/px112-crop/KEY.bin      a shard: uint8 (places, 4, 3, 112, 112), as in memory
DIR/views/px112-crop/KEY.npz      statistics and findings of its images
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from geoguesser.arrays import BoolArray, ByteArray, IntArray
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import HEADINGS
from geoguesser.data.views import Views
from geoguesser.errors import ConfigError, MissingFileError, StoreError, first_line

STORE_FORMAT_VERSION = 1
MANIFEST = "store.json"
MASK_COLUMNS = tuple(f"view_{heading}" for heading in HEADINGS)
REPACK = "Prepare it again, from the same roots: python -m geoguesser.prepare."
SPLITS_LOST = "Its recorded splits are lost: remove the folder, or choose another one, and prepare again."

# Required entries of a manifest.
FIELDS = ("label", "decoder", "split_seed", "table", "facts", "thumbnails", "shard_places", "images", "files")


@dataclass(frozen=True)
class Store:
    """A prepared store; `manifest` is the content of store.json in plain values."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads the manifest, and checks that all files are present and of the recorded size.

        Raises MissingFileError for a folder without a store, and StoreError for a damaged store or a newer
        format.
        """
        folder = Path(path).expanduser()
        if not (folder / MANIFEST).is_file():
            raise MissingFileError.at(
                f"data.path={folder}",
                f"must be a folder with {MANIFEST}",
                remedy=f"python -m geoguesser.prepare 'data.roots=[A,B]' out={folder} makes one.",
            )

        store = cls(folder, read_manifest(folder))
        for name, size in store.manifest["files"].items():
            if not match_file_sizes(folder, {name: size}):
                raise StoreError.at(str(folder / name), f"must have {size:,} bytes", remedy=REPACK)

        for name, entry in store.manifest["images"].items():
            for shard, places in zip(entry["shards"], store.manifest["shard_places"], strict=True):
                file = folder / "views" / name / f"{shard}.bin"
                expected = places * count_place_bytes(entry["size"])
                size = file.stat().st_size if file.is_file() else 0
                if size != expected:
                    raise StoreError.at(str(file), f"must have {expected:,} bytes", found=size, remedy=REPACK)
        return store

    @property
    def label(self) -> str:
        """Label of the data in pictures; empty for real places."""
        return str(self.manifest["label"])

    @property
    def decoder(self) -> str:
        """Decoder of the image files, as `describe_decoder` returned it."""
        return str(self.manifest["decoder"])

    @property
    def specs(self) -> list[ImageSpec]:
        """Sizes and fits that the store holds."""
        return [ImageSpec(size=entry["size"], fit=entry["fit"]) for entry in self.manifest["images"].values()]

    def check_image(self, image: ImageSpec) -> None:
        """Raises ConfigError if the store holds no views of this size and fit."""
        if image.name not in self.manifest["images"]:
            sizes = " and ".join(f"image.size={spec.size} image.fit={spec.fit}" for spec in self.specs)
            raise ConfigError.at(
                "image",
                f"must be a size that the store {self.folder} holds: {sizes}",
                found=f"image.size={image.size} image.fit={image.fit}",
                remedy=f"Or pack this size too: python -m geoguesser.prepare ... image.size={image.size} "
                f"image.fit={image.fit} out={self.folder}",
            )

    def fingerprint(self, image: ImageSpec) -> dict[str, Any]:
        """Returns the recorded fingerprint for one size, with the recorded split."""
        fingerprint: dict[str, Any] = self.manifest["images"][image.name]["fingerprint"]
        return fingerprint

    def table(self) -> pd.DataFrame:
        """Returns one row per place; `store_split` is the recorded split, `row` names the place in messages."""
        return self._table

    @cached_property
    def row_by_id(self) -> dict[str, int]:
        """Row of each place by its id."""
        return {uuid: row for row, uuid in enumerate(self.table()["uuid"])}

    @cached_property
    def _table(self) -> pd.DataFrame:
        """Table of places, read once because mask and views need it as well."""
        file = self.folder / self.manifest["table"]
        try:
            table = pd.read_parquet(file)
        except Exception as error:
            # pyarrow raises errors of its own types.
            raise StoreError.at(str(file), f"cannot be read ({first_line(error)})", remedy=SPLITS_LOST) from error
        return table.assign(row=str(self.folder) + " place " + table["uuid"])

    def mask(self) -> BoolArray:
        """Returns (N, 4) True for each view that is used."""
        mask: BoolArray = self.table()[list(MASK_COLUMNS)].to_numpy(dtype=np.bool_, copy=True)
        return mask

    def digests(self) -> npt.NDArray[np.uint64]:
        """Returns (N, 4, 2) digests of the image files."""
        return self._facts("digests")

    def sums(self, image: ImageSpec) -> IntArray:
        """Returns (N, 2, 3) sums of pixels and of their squares over the used views of each place, by channel."""
        return self._facts(f"sums {image.name}")

    def thumbnails(self) -> ByteArray:
        """Returns (N, 4, 3, 8, 8) thumbnails, memory-mapped."""
        file = self.folder / self.manifest["thumbnails"]
        with _convert_read_errors(file):
            thumbnails: ByteArray = np.load(file, mmap_mode="r")
        return thumbnails

    def views(self, image: ImageSpec) -> StoreViews:
        """Returns the views of one size by row; raises ConfigError if the store lacks this size and fit."""
        self.check_image(image)
        shape = (4, 3, image.size, image.size)
        folder, shards = self.folder / "views" / image.name, self.manifest["images"][image.name]["shards"]
        maps = [
            np.memmap(folder / f"{shard}.bin", dtype=np.uint8, mode="r").reshape(-1, *shape) for shard in shards
        ]
        table = self.table()
        return StoreViews(maps, table["shard"].to_numpy(), table["slot"].to_numpy())

    def _facts(self, name: str) -> Any:
        file = self.folder / self.manifest["facts"]
        with _convert_read_errors(file), file.open("rb") as stream, np.load(stream) as facts:
            return facts[name]


class StoreViews(Views):
    """Views by row, from memory-mapped shards (P, 4, 3, H, W); `slot` is (N,) the position in its shard."""

    def __init__(self, maps: list[ByteArray], shard: IntArray, slot: IntArray) -> None:
        self.maps, self.shard, self.slot = maps, shard, slot

        # Indexing a plain array is faster than indexing a memmap.
        self._flat = [np.asarray(shard_map).reshape(len(shard_map), -1) for shard_map in maps]

    def gather(self, rows: IntArray) -> Tensor:
        views = torch.empty((len(rows), *self.maps[0].shape[1:]), dtype=torch.uint8)
        flat_views = views.numpy().reshape(len(rows), -1)
        pairs = zip(self.shard[rows].tolist(), self.slot[rows].tolist(), strict=True)
        for index, (shard, slot) in enumerate(pairs):
            flat_views[index] = self._flat[shard][slot]
        return views

    def take(self, rows: IntArray) -> StoreViews:
        return StoreViews(self.maps, self.shard[rows], self.slot[rows])


def count_place_bytes(size: int) -> int:
    """Returns the number of bytes of the four views of one place."""
    return 4 * 3 * size * size


def is_store(path: str | Path) -> bool:
    """Returns whether a folder is a store."""
    return (Path(path).expanduser() / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads store.json; raises StoreError if it is not the manifest of a store, or is of a newer format."""
    file = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError.at(
            str(file), f"is not the manifest of a store ({first_line(error)})", remedy=SPLITS_LOST
        ) from error
    if form > STORE_FORMAT_VERSION:
        raise StoreError(
            f"{file} has format {form}; this version reads up to {STORE_FORMAT_VERSION}. Update geoguesser."
        )

    missing = [key for key in FIELDS if key not in manifest]
    shards = {len(entry["shards"]) for entry in manifest.get("images", {}).values()}
    if missing or shards != {len(manifest["shard_places"])}:
        defect = f"lacks {', '.join(missing)}" if missing else "names more shards for one size than for another"
        raise StoreError.at(str(file), f"is not the manifest of a store (it {defect})", remedy=SPLITS_LOST)
    return manifest


@contextmanager
def _convert_read_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise StoreError.at(str(file), f"cannot be read ({first_line(error)})", remedy=REPACK) from error


def match_file_sizes(folder: Path, sizes: dict[str, int]) -> bool:
    """Returns whether all files of a folder are present and of the given size in bytes."""
    paths = {folder / name: size for name, size in sizes.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
