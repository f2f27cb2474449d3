"""Store: prepared views in memory-mapped shards, with one table of places. This file reads; packing.py writes.

DIR/store.json                    the manifest; it is written last, so a store that has it is whole
DIR/places-ID.parquet             one row per place: id, coordinates, split, views, source, further columns
DIR/facts-ID.npz                  digests of image files, sums of pixels
DIR/thumbnails-ID.npy             (N, 4, 3, 8, 8)
DIR/views/px112-crop/KEY.bin      a shard: uint8 (places, 4, 3, 112, 112), as it lies in memory
DIR/views/px112-crop/KEY.npz      what examining its images told
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

from geoguesser.arrays import IntArray
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import HEADINGS
from geoguesser.data.views import Views
from geoguesser.errors import ConfigError, MissingFileError, StoreError, first_line

FORMAT = 1
MANIFEST = "store.json"
MASK_COLUMNS = tuple(f"view_{heading}" for heading in HEADINGS)
AGAIN = "Prepare it again, from the same roots: python -m geoguesser.prepare."
LOST = "Its recorded splits are lost: remove the folder, or choose another one, and prepare again."
KEYS = ("label", "decoder", "split_seed", "table", "facts", "thumbnails", "shard_places", "images", "files")


@dataclass(frozen=True)
class Store:
    """A prepared store.

    Attributes:
        folder: Where it lies.
        manifest: What store.json says: plain values.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads the manifest and checks that all files are there and of their size.

        Raises:
            MissingFileError: There is no store.
            StoreError: It is damaged, or of a newer format.
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
            if not check_shards(folder, {name: size}):
                raise StoreError.at(str(folder / name), f"must have {size:,} bytes", remedy=AGAIN)
        for name, entry in store.manifest["images"].items():
            for shard, places in zip(entry["shards"], store.manifest["shard_places"], strict=True):
                file = folder / "views" / name / f"{shard}.bin"
                whole = places * count_bytes(entry["size"])
                size = file.stat().st_size if file.is_file() else 0
                if size != whole:
                    raise StoreError.at(str(file), f"must have {whole:,} bytes", found=size, remedy=AGAIN)
        return store

    @property
    def label(self) -> str:
        """What pictures say of the data; empty for real places."""
        return str(self.manifest["label"])

    @property
    def decoder(self) -> str:
        """What turned the image files into pixels."""
        return str(self.manifest["decoder"])

    def check_image(self, image: ImageSpec) -> None:
        """Raises ConfigError where the store holds no views of this size and fit."""
        images = self.manifest["images"]
        if image.name not in images:
            held = " and ".join(
                f"image.size={entry['size']} image.fit={entry['fit']}" for entry in images.values()
            )
            raise ConfigError.at(
                "image",
                f"must be what the store {self.folder} holds: {held}",
                found=f"image.size={image.size} image.fit={image.fit}",
                remedy=f"Or pack this size too: python -m geoguesser.prepare ... image.size={image.size} "
                f"image.fit={image.fit} out={self.folder}",
            )

    def fingerprint(self, image: ImageSpec) -> dict[str, Any]:
        """The store's own fingerprint for one size, with the split that it recorded."""
        found: dict[str, Any] = self.manifest["images"][image.name]["fingerprint"]
        return found

    def table(self) -> pd.DataFrame:
        """One row per place, in the order of all other arrays: uuid, latitude, longitude, store_split, ...

        The column `split` of the user's own tables, if they had one, is as it was; `store_split` is the
        store's. `row` says where each place stands, for messages.
        """
        return self._table

    @cached_property
    def row_by_id(self) -> dict[str, int]:
        """Row of each place by its id."""
        return {uuid: row for row, uuid in enumerate(self.table()["uuid"])}

    @cached_property
    def _table(self) -> pd.DataFrame:
        """Read once: mask and views ask for it too."""
        file = self.folder / self.manifest["table"]
        try:
            table = pd.read_parquet(file)
        except Exception as error:  # pyarrow has kinds of its own
            raise StoreError.at(str(file), f"cannot be read ({first_line(error)})", remedy=LOST) from error
        return table.assign(row=str(self.folder) + " place " + table["uuid"])

    def mask(self) -> npt.NDArray[np.bool_]:
        """(N, 4) which views are used."""
        found: npt.NDArray[np.bool_] = self.table()[list(MASK_COLUMNS)].to_numpy(dtype=np.bool_, copy=True)
        return found

    def digests(self) -> npt.NDArray[np.uint64]:
        """(N, 4, 2) of the image files' bytes."""
        return self._facts("digests")

    def sums(self, image: ImageSpec) -> npt.NDArray[np.int64]:
        """(N, 2, 3) sums of the values and squares of each place's used views, by channel."""
        return self._facts(f"sums {image.name}")

    def thumbnails(self) -> npt.NDArray[np.uint8]:
        """(N, 4, 3, 8, 8), mapped from the disk."""
        file = self.folder / self.manifest["thumbnails"]
        with _reading(file):
            found: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r")
        return found

    def views(self, image: ImageSpec) -> StoreViews:
        """The views of one size by row."""
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
        with _reading(file), file.open("rb") as stream, np.load(stream) as facts:
            return facts[name]


class StoreViews(Views):
    """Views by row, from mapped shards.

    Args:
        maps: Shards (P, 4, 3, H, W) uint8.
        shard: (N,) each place's shard.
        slot: (N,) its place in there.
    """

    def __init__(self, maps: list[npt.NDArray[np.uint8]], shard: IntArray, slot: IntArray) -> None:
        self.maps, self.shard, self.slot = maps, shard, slot
        self._flat = [
            np.asarray(one).reshape(len(one), -1) for one in maps
        ]  # bare arrays index quicker than memmaps

    def gather(self, rows: IntArray) -> Tensor:
        out = torch.empty((len(rows), *self.maps[0].shape[1:]), dtype=torch.uint8)
        there = out.numpy().reshape(len(rows), -1)
        pairs = zip(self.shard[rows].tolist(), self.slot[rows].tolist(), strict=True)
        for number, (shard, slot) in enumerate(pairs):
            there[number] = self._flat[shard][slot]
        return out

    def take(self, rows: IntArray) -> StoreViews:
        return StoreViews(self.maps, self.shard[rows], self.slot[rows])


def count_bytes(size: int) -> int:
    """Bytes of one place's four views of a size."""
    return 4 * 3 * size * size


def is_store(path: str | Path) -> bool:
    """Whether a folder is a store."""
    return (Path(path).expanduser() / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads store.json.

    Raises:
        StoreError: It is none, or of a newer format.
    """
    file = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError.at(str(file), f"is no manifest of a store ({first_line(error)})", remedy=LOST) from error
    if form > FORMAT:
        raise StoreError(f"{file} has format {form}; this version reads up to {FORMAT}. Update geoguesser.")
    missing = [key for key in KEYS if key not in manifest]
    shards = {len(entry["shards"]) for entry in manifest.get("images", {}).values()}
    if missing or shards != {len(manifest["shard_places"])}:
        what = f"lacks {', '.join(missing)}" if missing else "names more shards for one size than for another"
        raise StoreError.at(str(file), f"is no manifest of a store (it {what})", remedy=LOST)
    return manifest


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise StoreError.at(str(file), f"cannot be read ({first_line(error)})", remedy=AGAIN) from error


def check_shards(folder: Path, sizes: dict[str, int]) -> bool:
    """Whether all these files are there and of their size."""
    paths = {folder / name: size for name, size in sizes.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
