"""Views: the pixels of places by row of their table, kept in memory where they fit, else read from files.

Reading all of them once is also the check that every image is whole, before training starts.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.inspection import (
    BROKEN,
    HEADINGS,
    ImageStats,
    InspectedPlace,
    PlaceFiles,
    inspect_in_order,
)
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import list_names
from geoguesser.errors import DataError

log = logging.getLogger(__name__)
IntArray = npt.NDArray[np.int64]


class Views(ABC):
    """The views of a table of places."""

    @abstractmethod
    def gather(self, rows: IntArray) -> Tensor:
        """(B,) rows of the table -> (B, 4, 3, H, W) uint8."""

    @abstractmethod
    def take(self, rows: IntArray) -> Views:
        """The views of these rows alone, in their order."""

    @property
    def worth_workers(self) -> bool:
        """Whether other processes help: where a gather is a copy, handing its result over takes longer."""
        return False


class MemoryViews(Views):
    """All views in one tensor.

    Args:
        pixels: (N, 4, 3, H, W) uint8.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def gather(self, rows: IntArray) -> Tensor:
        return torch.index_select(self.pixels, 0, torch.from_numpy(rows))  # ten times as quick as pixels[rows]

    def take(self, rows: IntArray) -> MemoryViews:
        return MemoryViews(self.gather(rows))


class FileViews(Views):
    """Views decoded from their files each time.

    Args:
        places: (N,) each place's files; a view without one is all zeros.
        image: How views are brought to their size.
    """

    def __init__(self, places: Sequence[PlaceFiles], image: ImageSpec) -> None:
        self.places = list(places)
        self.image = image

    def gather(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(np.stack([read_place(self.places[row], self.image) for row in rows]))

    def take(self, rows: IntArray) -> FileViews:
        return FileViews([self.places[row] for row in rows], self.image)

    @property
    def worth_workers(self) -> bool:
        return True


class LazyViews(Views):
    """Views of files that an earlier run examined: all are read into memory when the first is asked for.

    Args:
        places: (N,) each place's files; a view without one is all zeros.
        digests: (N, 4, 2) of their bytes, as they were examined.
        image: How views are brought to their size.
    """

    def __init__(self, places: Sequence[PlaceFiles], digests: npt.NDArray[np.uint64], image: ImageSpec) -> None:
        self.places, self.digests, self.image = list(places), digests, image
        self._memory: MemoryViews | None = None

    def gather(self, rows: IntArray) -> Tensor:
        if self._memory is None:
            self._memory = self._read()
        return self._memory.gather(rows)

    def take(self, rows: IntArray) -> Views:
        if self._memory is not None:
            return self._memory.take(rows)
        return LazyViews([self.places[row] for row in rows], self.digests[rows], self.image)

    def _read(self) -> MemoryViews:
        start = time.perf_counter()
        pixels = _room(len(self.places), self.image)
        for row, examined in _examined(self.places, self.image):
            for _, finding in examined.found:
                if finding.kind == "broken_image":
                    raise DataError.at(finding.where, finding.reason)
            changed = (examined.views["digest"] != self.digests[row]).any(axis=1)
            if changed.any():
                raise DataError.at(
                    self.places[row].path(int(changed.argmax())),
                    "has changed since this run looked at it",
                    remedy="Start the run again.",
                )
            pixels[row] = torch.from_numpy(examined.images[0])
        log_reading(len(self.places), time.perf_counter() - start, in_memory=True)
        return MemoryViews(pixels)


def log_reading(places: int, seconds: float, *, in_memory: bool) -> None:
    """Says how long it took to read all views."""
    where = "kept in memory" if in_memory else "to be read again each epoch"
    log.info("read %d views in %.1f s (%.0f a second), %s", 4 * places, seconds, 4 * places / seconds, where)


def read_place(files: PlaceFiles, image: ImageSpec) -> npt.NDArray[np.uint8]:
    """(4, 3, H, W) the four views of one place; a view that is none is all zeros.

    Raises:
        DataError: A view is broken or its file has gone; the message names it.
    """
    views = np.zeros((4, 3, image.size, image.size), dtype=np.uint8)
    for heading, name in enumerate(files.names):
        if name is not None:
            views[heading] = image.read(files.path(heading))
    return views


@dataclass(frozen=True)
class LoadedViews:
    """What one pass over all views gives.

    Attributes:
        views: Their pixels by row.
        facts: What is known of each image.
        found: Row, number of the heading, and finding, of all that is wrong or remarkable.
        unreadable: How many files the operating system would not give; another time it may.
        decoded: Whether views were decoded for it; false where an earlier run had looked at them.
    """

    views: Views
    facts: ImageStats
    found: list[tuple[int, int, Finding]]
    unreadable: int = 0
    decoded: bool = True


def load_views(places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float) -> LoadedViews:
    """Reads every view once, in parallel.

    Args:
        places: (N,) each place's files.
        image: How views are brought to their size.
        memory_gib: Views are kept in memory where all of them take no more than this.
    """
    start = time.perf_counter()
    pixels = _room(len(places), image) if fits_memory(len(places), image, memory_gib) else None
    facts, found, unreadable = ImageStats.empty(len(places)), [], 0
    for row, examined in _examined(places, image):
        facts.put(row, examined)
        found += [(row, heading, finding) for heading, finding in examined.found]
        unreadable += examined.unreadable
        if pixels is not None:
            pixels[row] = torch.from_numpy(examined.images[0])
    views: Views = FileViews(drop_broken(places, facts), image) if pixels is None else MemoryViews(pixels)
    log_reading(len(places), time.perf_counter() - start, in_memory=pixels is not None)
    return LoadedViews(views, facts, found, unreadable)


def fits_memory(places: int, image: ImageSpec, memory_gib: float) -> bool:
    """Whether the views of so many places take no more than `memory_gib`."""
    return float(places * 4 * 3 * image.size**2) <= memory_gib * 2**30


def _room(places: int, image: ImageSpec) -> Tensor:
    return torch.zeros((places, 4, 3, image.size, image.size), dtype=torch.uint8)


def _examined(places: Sequence[PlaceFiles], image: ImageSpec) -> Iterator[tuple[int, InspectedPlace]]:
    """Row and findings of each place, with a bar."""
    with tqdm(total=len(places), desc="reading views", unit=" places", disable=None, leave=False) as bar:
        for row, examined in enumerate(inspect_in_order(places, [image])):
            yield row, examined
            bar.update()


def drop_broken(places: Sequence[PlaceFiles], facts: ImageStats) -> list[PlaceFiles]:
    """A view that is broken is not read again."""
    files = list(places)
    broken = facts.views["state"] == BROKEN
    for row in np.flatnonzero(broken.any(axis=1)):
        names = [None if bad else name for name, bad in zip(files[row].names, broken[row], strict=True)]
        files[row] = PlaceFiles(files[row].folder, (names[0], names[1], names[2], names[3]))
    return files


def read_folder(
    folder: str, image: ImageSpec, *, mask: bool = False, broken: list[str] | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The views of a folder of `0.jpg`, `90.jpg`, `180.jpg` and `270.jpg` (or .jpeg, .png, .webp).

    Args:
        folder: The place's folder.
        image: How views are brought to their size.
        mask: One to three views are enough.
        broken: With `mask`, where to say which views are broken; they are then absent. None makes each an error.

    Returns:
        (4, 3, H, W) views, zeros where there is none, and (4,) which there are.

    Raises:
        DataError: A view is missing or broken, a heading has two files, or the folder cannot be read.
    """
    try:
        names, doubled = list_names(folder)
    except OSError as error:
        raise DataError.at(folder, f"cannot be read ({error.strerror})") from error
    if doubled:
        raise DataError.at(folder, "must hold one file for each heading", found=doubled)
    there = np.array([name is not None for name in names])
    if not there.all() and not (mask and there.any()):
        missing = ", ".join(f"{heading}.jpg" for heading, one in zip(HEADINGS, there, strict=True) if not one)
        way = "With missing_views=mask (in Python mask=True) fewer views are enough." if there.any() else ""
        raise DataError.at(folder, f"lacks {missing}", remedy=way)
    views = np.zeros((4, 3, image.size, image.size), dtype=np.uint8)
    failures: list[DataError] = []
    for heading in np.flatnonzero(there):
        try:
            views[heading] = image.read(PlaceFiles(folder, names).path(int(heading)))
        except DataError as error:
            if not mask or broken is None:
                raise
            failures.append(error)
            there[heading] = False
    if failures and not there.any():
        raise failures[0]
    if broken is not None:
        broken += map(str, failures)
    return views, there
