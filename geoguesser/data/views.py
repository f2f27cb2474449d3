"""Views: the pixels of places by row of their table, kept in memory where they fit, else read from files.

Reading all of them once is also the check that every image is whole, before training starts.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from geoguesser.data.images import ImageSpec
from geoguesser.data.places import HEADINGS, Finding
from geoguesser.errors import DataError

IntArray = npt.NDArray[np.int64]
THUMBNAIL = 8


class Views(ABC):
    """The views of a table of places."""

    @abstractmethod
    def gather(self, rows: IntArray) -> Tensor:
        """(B,) rows of the table -> (B, 4, 3, H, W) uint8."""

    @abstractmethod
    def take(self, rows: IntArray) -> Views:
        """The views of these rows alone, in their order."""


class MemoryViews(Views):
    """All views in one tensor.

    Args:
        pixels: (N, 4, 3, H, W) uint8.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def gather(self, rows: IntArray) -> Tensor:
        return self.pixels[torch.from_numpy(rows)]

    def take(self, rows: IntArray) -> MemoryViews:
        return MemoryViews(self.gather(rows))


class FileViews(Views):
    """Views decoded from their JPEG files each time.

    Args:
        folders: (N,) each place's folder.
        image: How views are brought to their size.
    """

    def __init__(self, folders: Sequence[str], image: ImageSpec) -> None:
        self.folders = list(folders)
        self.image = image

    def gather(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(np.stack([read_place(self.folders[row], self.image) for row in rows]))

    def take(self, rows: IntArray) -> FileViews:
        return FileViews([self.folders[row] for row in rows], self.image)


def read_place(folder: str, image: ImageSpec) -> npt.NDArray[np.uint8]:
    """(4, 3, H, W) the four views of one folder.

    Raises:
        DataError: A view is missing or broken; the message names the file.
    """
    return np.stack([image.read(os.path.join(folder, f"{heading}.jpg")) for heading in HEADINGS])


@dataclass(frozen=True)
class LoadedViews:
    """What one pass over all views gives.

    Attributes:
        views: Their pixels by row.
        thumbnails: (N, 4, 3, 8, 8) uint8 means of blocks.
        broken: Row and finding of each place with a broken image; its thumbnails are zeros.
    """

    views: Views
    thumbnails: npt.NDArray[np.uint8]
    broken: list[tuple[int, Finding]]


def load_views(folders: Sequence[str], image: ImageSpec, *, memory_gib: float) -> LoadedViews:
    """Reads every view once, in parallel.

    Args:
        folders: (N,) each place's folder.
        image: How views are brought to their size.
        memory_gib: Views are kept in memory where all of them take no more than this.
    """
    shape = (len(folders), len(HEADINGS), 3, image.size, image.size)
    keep = float(np.prod(shape)) <= memory_gib * 2**30
    pixels = torch.zeros(shape, dtype=torch.uint8) if keep else None
    thumbnails = np.zeros((*shape[:3], THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    broken: list[tuple[int, Finding]] = []
    for row, result in enumerate(_read_in_order(folders, image)):
        if isinstance(result, DataError):
            broken.append((row, Finding("broken_image", "", str(result))))
            continue
        thumbnails[row] = _block_means(result)
        if pixels is not None:
            pixels[row] = torch.from_numpy(result)
    views: Views = FileViews(folders, image) if pixels is None else MemoryViews(pixels)
    return LoadedViews(views, thumbnails, broken)


def _block_means(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(4, 3, H, W) -> (4, 3, 8, 8)."""
    small = [
        cv2.resize(view, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        for view in pixels.reshape(-1, *pixels.shape[2:])
    ]
    return np.stack(small).reshape(*pixels.shape[:2], THUMBNAIL, THUMBNAIL)


def _read_in_order(folders: Sequence[str], image: ImageSpec) -> Iterator[npt.NDArray[np.uint8] | DataError]:
    def attempt(folder: str) -> npt.NDArray[np.uint8] | DataError:
        try:
            return read_place(folder, image)
        except DataError as error:
            return error

    chunk = 256  # a bounded number of results in flight, so that memory stays flat
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(folders), desc="reading views", unit=" places", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(folders), chunk):
            for result in pool.map(attempt, folders[start : start + chunk]):
                bar.update()
                yield result
