"""Loading of all views once: pixels in memory if they fit, statistics of each image, and findings.

Findings of an earlier run are taken from the disk cache if paths, sizes and times of all image files are the same;
otherwise all files are inspected again, so that damage is found before training starts.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor
from tqdm import tqdm

from geoguesser.arrays import IntArray
from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.image_stats import BROKEN, ImageStats, InspectedPlace
from geoguesser.data.checks.inspection import INSPECTION_VERSION, inspect_in_order
from geoguesser.data.images import ImageSpec, describe_decoder
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.views import FileViews, MemoryViews, Views
from geoguesser.errors import DataError
from geoguesser.system.disk_cache import Cache, Entry

log = logging.getLogger(__name__)

# Two writes within one tick of the file system's clock leave the same time; Linux ticks every 1 to 10 ms.
CLOCK_TICK_S = 0.05


class LoadedViews(NamedTuple):
    """Result of loading all views of N places.

    Attributes:
        findings: Row, index of the heading, and finding, for each defect or peculiarity of an image.
        num_unreadable: Number of unreadable files, as in `InspectedPlace`.
        decoded: True if views were decoded; False if an earlier run had inspected them.
    """

    views: Views
    stats: ImageStats
    findings: list[tuple[int, int, Finding]]
    num_unreadable: int = 0
    decoded: bool = True


def load_views(places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float) -> LoadedViews:
    """Reads every view once, in parallel; views are kept in memory if they take at most `memory_gib`."""
    start = time.perf_counter()
    pixels = _allocate(len(places), image) if _fits_memory(len(places), image, memory_gib) else None
    stats, findings, num_unreadable = ImageStats.empty(len(places)), [], 0
    for row, place in _inspect(places, image):
        stats.put(row, place)
        findings += [(row, heading, finding) for heading, finding in place.findings]
        num_unreadable += place.num_unreadable
        if pixels is not None:
            pixels[row] = torch.from_numpy(place.images[0])

    views: Views = FileViews(_remove_broken(places, stats), image) if pixels is None else MemoryViews(pixels)
    _log_reading(len(places), time.perf_counter() - start, in_memory=pixels is not None)
    return LoadedViews(views, stats, findings, num_unreadable)


def load_known_views(
    places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float, cache: Cache | None
) -> LoadedViews:
    """Loads views with the findings of an earlier run from the cache, or reads every view if there are none.

    Views that fit into `memory_gib` and were inspected before are read when the first batch is gathered. Without
    `cache`, every view is read.
    """
    state = None if cache is None or not cache.usable else _compute_state(places)
    if cache is None or state is None:
        return load_views(places, image, memory_gib=memory_gib)

    key = {
        "files": state,
        "places": len(places),
        "image": image.name,
        "decoder": describe_decoder(),
        "examining": INSPECTION_VERSION,
    }
    entry = cache.entry("examined", key)
    known = _read_entry(entry, places, image, memory_gib)
    with ExitStack() as stack:
        # Another process may have written the entry while this one waited for the lock.
        if known is None:
            try:
                stack.enter_context(entry.lock("reads these views"))
                known = _read_entry(entry, places, image, memory_gib)
            except OSError as error:
                cache.give_up(error)

        # Files that changed or could not be read during the inspection must be inspected again next time.
        if known is None:
            loaded = load_views(places, image, memory_gib=memory_gib)
            if cache.usable and not loaded.num_unreadable and _compute_state(places) == state:
                _write_entry(entry, loaded, cache)
            return loaded

    log.info("%d views were examined by an earlier run (%s): none is read now", 4 * len(places), entry.file)
    return known


def _compute_state(places: Sequence[PlaceFiles]) -> str | None:
    """Computes a digest of paths, sizes and times of all files; None if one of them cannot be accessed."""
    digest, latest_ns = xxhash.xxh3_128(), 0
    names = "\0".join(f"{os.path.abspath(files.folder)}\0{files.folder}\0{files.names}" for files in places)
    digest.update(names.encode("utf-8", "surrogateescape"))
    try:
        for files in places:
            for name in files.names:
                if name is not None:
                    stat = os.stat(os.path.join(files.folder, name))
                    digest.update(b"%d %d %d\n" % (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
                    latest_ns = max(latest_ns, stat.st_ctime_ns)
    except OSError:
        return None

    # A file that is written again after this wait has another time.
    if 0 <= time.time() - latest_ns / 1e9 < CLOCK_TICK_S:
        time.sleep(CLOCK_TICK_S)
    return digest.hexdigest()


def _read_entry(
    entry: Entry, places: Sequence[PlaceFiles], image: ImageSpec, memory_gib: float
) -> LoadedViews | None:
    record = entry.read()
    if record is None:
        return None

    try:
        with np.load(entry.file, allow_pickle=False) as arrays:
            stats = ImageStats(*(arrays[field.name] for field in fields(ImageStats)))
        findings = [(int(row), int(heading), Finding(*texts)) for row, heading, *texts in record[1]["found"]]
        template = ImageStats.empty(len(places))
        for field in fields(ImageStats):
            array, expected = getattr(stats, field.name), getattr(template, field.name)
            if array.shape != expected.shape or array.dtype != expected.dtype:
                raise ValueError(f"it holds {field.name} of another shape")
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        entry.warn(error)
        return None

    files = _remove_broken(places, stats)
    views: Views = FileViews(files, image)
    if _fits_memory(len(places), image, memory_gib):
        views = LazyViews(files, stats.views["digest"], image)
    return LoadedViews(views, stats, findings, decoded=False)


def _write_entry(entry: Entry, loaded: LoadedViews, cache: Cache) -> None:
    arrays: dict[str, Any] = {field.name: getattr(loaded.stats, field.name) for field in fields(ImageStats)}
    size = sum(array.nbytes for array in arrays.values())
    if not cache.fits(size):
        return

    findings = [[row, heading, item.kind, item.where, item.reason] for row, heading, item in loaded.findings]
    try:
        cache.make_room(size)
        with entry.writing() as part:
            np.savez(part.stream, allow_pickle=False, **arrays)
            entry.keep(part, found=findings)
    except OSError as error:
        cache.give_up(error)


class LazyViews(Views):
    """Views of files that an earlier run inspected, with (N, 4, 2) digests; the first `gather` reads all files."""

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
        pixels = _allocate(len(self.places), self.image)
        for row, place in _inspect(self.places, self.image):
            for _, finding in place.findings:
                if finding.kind == "broken_image":
                    raise DataError.at(finding.where, finding.reason)

            changed = (place.views["digest"] != self.digests[row]).any(axis=1)
            if changed.any():
                path, rule = (
                    self.places[row].path(int(changed.argmax())),
                    "has changed since this run looked at it",
                )
                raise DataError.at(path, rule, remedy="Start the run again.")
            pixels[row] = torch.from_numpy(place.images[0])

        _log_reading(len(self.places), time.perf_counter() - start, in_memory=True)
        return MemoryViews(pixels)


def _log_reading(places: int, seconds: float, *, in_memory: bool) -> None:
    use = "kept in memory" if in_memory else "to be read again each epoch"
    log.info("read %d views in %.1f s (%.0f a second), %s", 4 * places, seconds, 4 * places / seconds, use)


def _fits_memory(places: int, image: ImageSpec, memory_gib: float) -> bool:
    return float(places * 4 * 3 * image.size**2) <= memory_gib * 2**30


def _allocate(places: int, image: ImageSpec) -> Tensor:
    return torch.zeros((places, 4, 3, image.size, image.size), dtype=torch.uint8)


def _inspect(places: Sequence[PlaceFiles], image: ImageSpec) -> Iterator[tuple[int, InspectedPlace]]:
    with tqdm(total=len(places), desc="reading views", unit=" places", disable=None, leave=False) as bar:
        for row, place in enumerate(inspect_in_order(places, [image])):
            yield row, place
            bar.update()


def _remove_broken(places: Sequence[PlaceFiles], stats: ImageStats) -> list[PlaceFiles]:
    files = list(places)
    broken = stats.views["state"] == BROKEN
    for row in np.flatnonzero(broken.any(axis=1)):
        names = [None if bad else name for name, bad in zip(files[row].names, broken[row], strict=True)]
        files[row] = PlaceFiles(files[row].folder, (names[0], names[1], names[2], names[3]))
    return files
