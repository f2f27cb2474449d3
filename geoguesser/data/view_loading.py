"""Loading of all views once: pixels in memory where they fit, facts of each image, and findings.

Reading every view is also the check that every image is whole, before training starts. The findings of an earlier
run are taken from the disk cache if the image files are the same: the same paths, sizes and times. If the size or
time of any file has changed, all files are examined again, so that damage since then is found.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor
from tqdm import tqdm

from geoguesser.arrays import IntArray
from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.inspection import BROKEN, RULES, ImageStats, InspectedPlace, inspect_in_order
from geoguesser.data.images import ImageSpec, choose_decoder
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.views import FileViews, MemoryViews, Views
from geoguesser.errors import DataError
from geoguesser.system.disk_cache import Cache, Entry

log = logging.getLogger(__name__)

TICK_S = 0.05  # two writes in one tick of the clock leave the same time; Linux ticks every 1 to 10 ms


@dataclass(frozen=True)
class LoadedViews:
    """Result of loading all views of N places.

    Attributes:
        views: Pixels by row.
        facts: Facts of each image.
        found: Row, number of the heading, and finding, for each image with a defect or a peculiarity.
        unreadable: Number of files that the operating system failed to read; a later attempt may succeed.
        decoded: True if views were decoded; False if an earlier run had examined them.
    """

    views: Views
    facts: ImageStats
    found: list[tuple[int, int, Finding]]
    unreadable: int = 0
    decoded: bool = True


def load_views(places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float) -> LoadedViews:
    """Reads every view once, in parallel.

    Args:
        places: (N,) files of each place.
        image: Size and fit of the views.
        memory_gib: Views are kept in memory if all of them take at most this.
    """
    start = time.perf_counter()
    pixels = _room(len(places), image) if _fits_memory(len(places), image, memory_gib) else None
    facts, found, unreadable = ImageStats.empty(len(places)), [], 0
    for row, examined in _examined(places, image):
        facts.put(row, examined)
        found += [(row, heading, finding) for heading, finding in examined.found]
        unreadable += examined.unreadable
        if pixels is not None:
            pixels[row] = torch.from_numpy(examined.images[0])
    views: Views = FileViews(_without_broken(places, facts), image) if pixels is None else MemoryViews(pixels)
    _log_reading(len(places), time.perf_counter() - start, in_memory=pixels is not None)
    return LoadedViews(views, facts, found, unreadable)


def known_views(
    places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float, cache: Cache | None
) -> LoadedViews:
    """Loads views with the findings of an earlier run from the cache, or reads every view if there are none.

    Args:
        places: (N,) files of each place.
        image: Size and fit of the views.
        memory_gib: Views are kept in memory if all of them take at most this. If their files were examined
            before, they are read when the first batch is gathered.
        cache: Disk cache of findings; None reads every view.
    """
    before = None if cache is None or not cache.usable else _state(places)
    if cache is None or before is None:
        return load_views(places, image, memory_gib=memory_gib)
    parts = {
        "files": before,
        "places": len(places),
        "image": image.name,
        "decoder": choose_decoder(),
        "examining": RULES,
    }
    entry = cache.entry("examined", parts)
    known = _known(entry, places, image, memory_gib)
    with ExitStack() as stack:
        if known is None:
            try:
                stack.enter_context(entry.lock("reads these views"))
                known = _known(entry, places, image, memory_gib)
            except OSError as error:
                cache.give_up(error)
        if known is None:
            loaded = load_views(places, image, memory_gib=memory_gib)
            if cache.usable and not loaded.unreadable and _state(places) == before:
                _keep(entry, loaded, cache)
            return loaded
    log.info("%d views were examined by an earlier run (%s): none is read now", 4 * len(places), entry.file)
    return known


def _state(places: Sequence[PlaceFiles]) -> str | None:
    """Computes a digest of paths, sizes and times of all files; None if one of them cannot be accessed."""
    found, latest = xxhash.xxh3_128(), 0
    names = "\0".join(f"{os.path.abspath(one.folder)}\0{one.folder}\0{one.names}" for one in places)
    found.update(names.encode("utf-8", "surrogateescape"))
    try:
        for one in places:
            for name in one.names:
                if name is not None:
                    stat = os.stat(os.path.join(one.folder, name))
                    found.update(b"%d %d %d\n" % (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
                    latest = max(latest, stat.st_ctime_ns)
    except OSError:
        return None
    if 0 <= time.time() - latest / 1e9 < TICK_S:
        time.sleep(TICK_S)  # so that a file that is written again from now on has another time
    return found.hexdigest()


def _known(entry: Entry, places: Sequence[PlaceFiles], image: ImageSpec, memory_gib: float) -> LoadedViews | None:
    read = entry.read()
    if read is None:
        return None
    try:
        with np.load(entry.file, allow_pickle=False) as arrays:
            facts = ImageStats(*(arrays[field.name] for field in fields(ImageStats)))
        found = [(int(row), int(heading), Finding(*texts)) for row, heading, *texts in read[1]["found"]]
        wanted = ImageStats.empty(len(places))
        for field in fields(ImageStats):
            here, there = getattr(facts, field.name), getattr(wanted, field.name)
            if here.shape != there.shape or here.dtype != there.dtype:
                raise ValueError(f"it holds {field.name} of another shape")
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        entry.warn(error)
        return None
    files = _without_broken(places, facts)
    views: Views = FileViews(files, image)
    if _fits_memory(len(places), image, memory_gib):
        views = LazyViews(files, facts.views["digest"], image)
    return LoadedViews(views, facts, found, decoded=False)


def _keep(entry: Entry, loaded: LoadedViews, cache: Cache) -> None:
    arrays: dict[str, Any] = {field.name: getattr(loaded.facts, field.name) for field in fields(ImageStats)}
    size = sum(array.nbytes for array in arrays.values())
    if not cache.fits(size):
        return
    found = [[row, heading, one.kind, one.where, one.reason] for row, heading, one in loaded.found]
    try:
        cache.make_room(size)
        with entry.writing() as part:
            np.savez(part.stream, allow_pickle=False, **arrays)
            entry.keep(part, found=found)
    except OSError as error:
        cache.give_up(error)


class LazyViews(Views):
    """Views of files that an earlier run examined: all are read into memory on the first `gather`.

    Args:
        places: (N,) files of each place; a view without a file is all zeros.
        digests: (N, 4, 2) digests of the bytes that the earlier run examined.
        image: Size and fit of the views.
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
        _log_reading(len(self.places), time.perf_counter() - start, in_memory=True)
        return MemoryViews(pixels)


def _log_reading(places: int, seconds: float, *, in_memory: bool) -> None:
    """Logs the time of reading all views."""
    where = "kept in memory" if in_memory else "to be read again each epoch"
    log.info("read %d views in %.1f s (%.0f a second), %s", 4 * places, seconds, 4 * places / seconds, where)


def _fits_memory(places: int, image: ImageSpec, memory_gib: float) -> bool:
    """Returns whether the views of N places take at most `memory_gib`."""
    return float(places * 4 * 3 * image.size**2) <= memory_gib * 2**30


def _room(places: int, image: ImageSpec) -> Tensor:
    return torch.zeros((places, 4, 3, image.size, image.size), dtype=torch.uint8)


def _examined(places: Sequence[PlaceFiles], image: ImageSpec) -> Iterator[tuple[int, InspectedPlace]]:
    """Yields the row and the examination of each place, and shows a progress bar."""
    with tqdm(total=len(places), desc="reading views", unit=" places", disable=None, leave=False) as bar:
        for row, examined in enumerate(inspect_in_order(places, [image])):
            yield row, examined
            bar.update()


def _without_broken(places: Sequence[PlaceFiles], facts: ImageStats) -> list[PlaceFiles]:
    """Removes the files of broken views, so that they are not read again."""
    files = list(places)
    broken = facts.views["state"] == BROKEN
    for row in np.flatnonzero(broken.any(axis=1)):
        names = [None if bad else name for name, bad in zip(files[row].names, broken[row], strict=True)]
        files[row] = PlaceFiles(files[row].folder, (names[0], names[1], names[2], names[3]))
    return files
