"""Reads a store: prepared views in memory-mapped shards, and one table of places.

DIR/store.json                    the manifest; it is written last, so that a store with a manifest is complete
DIR/places-ID.parquet             one row per place: id, coordinates, split, views, source, further columns
DIR/facts-ID.npz                  digests of image files, sums of pixels
DIR/thumbnails-ID.npy             (N, 4, 3, 8, 8)
DIR/views/px112-crop/KEY.bin      a shard: uint8 (places, 4, 3, 112, 112), as in memory
DIR/views/px112-crop/KEY.npz      statistics and findings of its images
"""

from __future__ import annotations

import os
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
from geoguesser.data.place_files import HEADINGS, check_inside
from geoguesser.data.views import Views
from geoguesser.errors import ConfigError, MissingFileError, StoreError, first_line
from geoguesser.system.received_files import is_plain_name, read_json
from geoguesser.system.tables import read_parquet
from geoguesser.system.tensor_files import load_npz, map_array

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
            store.locate(name)

        for name, entry in store.manifest["images"].items():
            for shard, places in zip(entry["shards"], store.manifest["shard_places"], strict=True):
                file = store.locate("views", name, f"{shard}.bin")
                expected = places * count_place_bytes(entry["size"])
                size = file.stat().st_size if file.is_file() else 0
                if size != expected:
                    raise StoreError.at(str(file), f"must have {expected:,} bytes", found=size, remedy=REPACK)
        return store

    def locate(self, *names: str) -> Path:
        """Returns the path of a file of the store; raises DataError if a link leads out of the store."""
        file = self.folder.joinpath(*names)
        check_inside(str(file), os.path.realpath(self.folder))
        return file

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
        file = self.locate(self.manifest["table"])
        try:
            table = read_parquet(file)
            places = np.asarray(self.manifest["shard_places"])
            shard, slot = (table[name].to_numpy(dtype=np.int64) for name in ("shard", "slot"))
            if ((shard < 0) | (shard >= len(places))).any() or ((slot < 0) | (slot >= places[shard])).any():
                raise ValueError("it names places that the shards do not hold")
            if not all(is_plain_name(uuid) for uuid in table["uuid"]):
                raise ValueError("an id is not the plain name of a folder")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError.at(str(file), f"cannot be read ({first_line(error)})", remedy=SPLITS_LOST) from error
        return table.assign(row=str(self.folder) + " place " + table["uuid"])

    def mask(self) -> BoolArray:
        """Returns (N, 4) True for each view that is used."""
        mask: BoolArray = self.table()[list(MASK_COLUMNS)].to_numpy(dtype=np.bool_, copy=True)
        return mask

    def digests(self) -> npt.NDArray[np.uint64]:
        """Returns (N, 4, 2) digests of the image files."""
        return self._facts("digests", (4, 2))

    def sums(self, image: ImageSpec) -> IntArray:
        """Returns (N, 2, 3) sums of pixels and of their squares over the used views of each place, by channel."""
        return self._facts(f"sums {image.name}", (2, 3))

    def thumbnails(self) -> ByteArray:
        """Returns (N, 4, 3, 8, 8) thumbnails, memory-mapped."""
        file = self.locate(self.manifest["thumbnails"])
        with _convert_read_errors(file):
            return self._check_rows(map_array(file), (4, 3, 8, 8))

    def views(self, image: ImageSpec) -> StoreViews:
        """Returns the views of one size by row; raises ConfigError if the store lacks this size and fit."""
        self.check_image(image)
        shape = (4, 3, image.size, image.size)
        shards = self.manifest["images"][image.name]["shards"]
        files = [self.locate("views", image.name, f"{shard}.bin") for shard in shards]
        maps = [np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, *shape) for file in files]
        table = self.table()
        return StoreViews(maps, table["shard"].to_numpy(), table["slot"].to_numpy())

    def _facts(self, name: str, shape: tuple[int, ...]) -> Any:
        file = self.locate(self.manifest["facts"])
        with _convert_read_errors(file):
            return self._check_rows(load_npz(file, [name])[name], shape)

    def _check_rows(self, array: npt.NDArray[Any], shape: tuple[int, ...]) -> Any:
        """Returns an array of integers if it has a row of this shape per place."""
        if array.dtype.kind not in "iu" or array.shape != (len(self.table()), *shape):
            raise ValueError(f"it has {array.dtype} of shape {array.shape}, which the table of places does not")
        return array


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
        manifest: dict[str, Any] = read_json(file)
        form = int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError.at(
            str(file), f"is not the manifest of a store ({first_line(error)})", remedy=SPLITS_LOST
        ) from error
    if form > STORE_FORMAT_VERSION:
        raise StoreError(
            f"{file} has format {form}; this version reads up to {STORE_FORMAT_VERSION}. Update geoguesser."
        )

    missing = [key for key in FIELDS if key not in manifest]
    try:
        defect = f"it lacks {', '.join(missing)}" if missing else _find_defect(manifest)
    except (TypeError, AttributeError, KeyError, ConfigError) as error:
        defect = first_line(error)
    if defect:
        raise StoreError.at(str(file), f"is not the manifest of a store ({defect})", remedy=SPLITS_LOST)
    return manifest


def _find_defect(manifest: dict[str, Any]) -> str:
    """Returns why the names and numbers of a manifest cannot be those of a store; an empty string if they can."""
    images: dict[str, Any] = manifest["images"]
    places = manifest["shard_places"]
    names = [manifest["table"], manifest["facts"], manifest["thumbnails"], *manifest["files"]]
    names += [shard for entry in images.values() for shard in entry["shards"]]
    if {len(entry["shards"]) for entry in images.values()} != {len(places)}:
        return "it names more shards for one size than for another"

    wrong = [name for name in names if not is_plain_name(name)]
    wrong += [key for key, entry in images.items() if ImageSpec(size=entry["size"], fit=entry["fit"]).name != key]
    if wrong:
        return f"it names {str(wrong[0])[:80]!r}, which is no file of a store"

    if not all(type(count) is int and 0 <= count < 2**48 for count in (*places, *manifest["files"].values())):
        return "it holds a size that is no size"
    return ""


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
