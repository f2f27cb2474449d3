"""What an earlier run found in the very same image files, so that this one need not decode them to check them.

The same files are those with the same paths, sizes and times. A file whose size or time has changed makes
all be looked at anew: nothing that broke since then is taken for whole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xxhash

from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.inspection import RULES, ImageStats, PlaceFiles
from geoguesser.data.images import ImageSpec, choose_decoder
from geoguesser.data.views import FileViews, LazyViews, LoadedViews, Views, drop_broken, fits_memory, load_views
from geoguesser.system.disk_cache import Cache, Entry

log = logging.getLogger(__name__)

TICK_S = 0.05  # two writes in one tick of the clock leave the same time; Linux ticks every 1 to 10 ms


def load_known_views(
    places: Sequence[PlaceFiles], image: ImageSpec, *, memory_gib: float, cache: Cache | None
) -> LoadedViews:
    """What `load_views` gives: from the cache where these files were examined before, else by reading them.

    Args:
        places: (N,) each place's files.
        image: How views are brought to their size.
        memory_gib: As for `load_views`; views of known files are read when the first is asked for.
        cache: Where findings are kept; None reads all.
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
    """A digest of paths, sizes and times of all files; None where one cannot be asked."""
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
    files = drop_broken(places, facts)
    views: Views = FileViews(files, image)
    if fits_memory(len(places), image, memory_gib):
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
            with part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
            entry.keep(part, found=found)
    except OSError as error:
        cache.give_up(error)
