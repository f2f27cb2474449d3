"""Packing: image files into the shards of a store, on all cores, so that a kill at any moment costs one shard.

A shard is named by what went into it: the places' ids, the names, sizes and times of their files, the size
and fit asked for, the decoder. So whatever is whole already, from an interrupted run or from an earlier
store, is found by its name and not packed again. A shard appears under its name when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.inspection import ImageStats, inspect_in_order
from geoguesser.data.images import ImageSpec, choose_decoder
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.store.reader import count_bytes
from geoguesser.errors import MissingFileError, StoreError
from geoguesser.system.files import Replacement, open_replacement

SHARD_PLACES = 1024  # 147 MiB at 112 px: a fair object for object storage, two seconds of work for two cores
SPARE_BYTES = 2**24  # for the table and the report


@dataclass
class PackedShard:
    """What packing gave.

    Attributes:
        facts: By name of the spec; their thumbnails lie in the shards.
        found: Row, number of the heading, finding.
        shards: By name of the spec: the shards' names, in order.
        reused: How many places were packed before.
    """

    facts: dict[str, ImageStats]
    found: list[tuple[int, int, Finding]] = field(default_factory=list)
    shards: dict[str, list[str]] = field(default_factory=dict)
    reused: int = 0


def shard_ranges(count: int) -> list[range]:
    """The rows of each shard."""
    return [range(start, min(start + SHARD_PLACES, count)) for start in range(0, count, SHARD_PLACES)]


def shard_names(ids: Sequence[str], places: Sequence[PlaceFiles], specs: Sequence[ImageSpec]) -> list[str]:
    """The names of the shard of these places, one for each spec."""
    inputs = hashlib.blake2b(choose_decoder().encode(), digest_size=16)
    for uuid, files in zip(ids, places, strict=True):
        inputs.update(f"\0\0{uuid}".encode())
        for heading, name in enumerate(files.names):
            inputs.update(f"\0{name or ''}".encode())
            if name is not None:
                inputs.update(_signature(files.path(heading)))
    found = []
    for spec in specs:
        own = inputs.copy()
        own.update(spec.name.encode())
        found.append(own.hexdigest())
    return found


def _signature(path: str) -> bytes:
    try:
        status = Path(path).stat()
    except OSError:
        return b"\0gone"
    return f"\0{status.st_size}\0{status.st_mtime_ns}".encode()


def pack_shards(
    out: Path | None,
    ids: Sequence[str],
    places: Sequence[PlaceFiles],
    roots: Sequence[str],
    specs: Sequence[ImageSpec],
) -> PackedShard:
    """Examines all places and packs their views.

    Args:
        out: The store's folder, which is there and locked; None only examines.
        ids: (N,) of the places.
        places: (N,) their files.
        roots: (N,) the root that each came from.
        specs: The sizes to pack, all in one pass.

    Returns:
        The facts, what was found, and the names of the shards.

    Raises:
        StoreError: Something cannot be written; what is whole stays for the next try.
        MissingFileError: A root has gone.
    """
    packed = PackedShard({spec.name: ImageStats.empty(len(places), thumbnail=0) for spec in specs})
    ranges = shard_ranges(len(places))
    jobs = []
    for rows in ranges:
        own = [places[row] for row in rows]
        names = shard_names([ids[row] for row in rows], own, specs) if out is not None else ["" for _ in specs]
        shards = [_Shard(out, spec, name, len(rows)) for spec, name in zip(specs, names, strict=True)]
        jobs.append((rows, own, shards))
        for shard in shards:
            packed.shards.setdefault(shard.spec.name, []).append(shard.name)
    if out is not None:
        _check_space(out, [shard for _, _, shards in jobs for shard in shards])
    with (
        tqdm(
            total=len(places), desc="packing views" if out else "examining views", unit=" places", disable=None
        ) as bar,
        ThreadPoolExecutor(1, thread_name_prefix="seal") as sealing,
    ):
        waiting: list[Future[None]] = []
        for rows, own, shards in jobs:
            open_ones = [shard for shard in shards if not shard.whole]
            if open_ones:
                _fill(open_ones, own, [roots[row] for row in rows], bar)
            else:
                packed.reused += len(rows)
                bar.update(len(rows))
            for shard in shards:
                shard.report(packed, rows, own, first=shard is shards[0])
            waiting += [sealing.submit(shard.seal) for shard in shards]
            for one in [one for one in waiting if one.done()]:
                one.result()
                waiting.remove(one)
        for one in waiting:
            one.result()
    return packed


def _fill(shards: list[_Shard], places: list[PlaceFiles], roots: list[str], bar: Any) -> None:
    specs = [shard.spec for shard in shards]
    try:
        for slot, examined in enumerate(inspect_in_order(places, specs)):
            if examined.unreadable and not Path(roots[slot]).is_dir():
                raise MissingFileError.at(
                    f"data.roots {roots[slot]}",
                    "has gone while it was being read",
                    remedy="What was packed is kept: bring the folder back and give the same command again.",
                )
            for number, shard in enumerate(shards):
                shard.add(slot, examined, number)
            bar.update()
    except BaseException:
        for shard in shards:
            shard.abandon()
        raise


class _Shard:
    """One shard of one spec on its way to the disk.

    Args:
        out: The store's folder; None keeps facts alone.
        spec: The size and fit.
        name: Its name.
        count: How many places it holds.
    """

    def __init__(self, out: Path | None, spec: ImageSpec, name: str, count: int) -> None:
        self.out, self.spec, self.name, self.count = out, spec, name, count
        self.facts = ImageStats.empty(0)
        self.found: list[tuple[int, int, str, str]] = []
        self.unreadable = 0
        self._replacement: Replacement | None = None
        self.whole = out is not None and self._load()

    @property
    def bytes(self) -> int:
        return self.count * count_bytes(self.spec.size)

    @property
    def path(self) -> Path:
        assert self.out is not None
        return self.out / "views" / self.spec.name / f"{self.name}.bin"

    def _load(self) -> bool:
        """Takes an earlier run's work, if it is whole and every file could be read then."""
        facts = self.path.with_suffix(".npz")
        if not facts.is_file() or not self.path.is_file() or self.path.stat().st_size != self.bytes:
            return False
        try:
            with np.load(facts) as told:
                loaded = ImageStats(told["views"], told["thumbnails"], told["sums"])
                found = [(int(a), int(b), str(c), str(d)) for a, b, c, d in json.loads(str(told["found"]))]
                unreadable = int(told["unreadable"])
        except (OSError, ValueError, KeyError):
            return False
        if unreadable or len(loaded) != self.count:
            return False
        self.found = found
        self.facts = ImageStats(loaded.views, loaded.thumbnails[:, :, :, :0, :0], loaded.sums)
        return True

    def add(self, slot: int, examined: Any, number: int) -> None:
        if slot == 0:
            self.facts = ImageStats.empty(self.count)
            if self.out is not None:
                with open_for_writing(self.out):
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._replacement = Replacement(self.path, durable=True)
        self.facts.put(slot, examined, number)
        self.found += [(slot, heading, one.kind, one.reason) for heading, one in examined.found]
        self.unreadable += examined.unreadable
        if self._replacement is not None and self.out is not None:
            with open_for_writing(self.out):
                self._replacement.stream.write(examined.images[number].data)

    def seal(self) -> None:
        """Brings the shard to the disk for good, and only then to its name; its facts come last.

        The facts were handed on before; here they leave the memory.
        """
        self._write()
        self.facts, self.found = ImageStats.empty(0), []

    def _write(self) -> None:
        if self._replacement is None or self.out is None:
            return
        with open_for_writing(self.out):
            try:
                self._replacement.commit()
            finally:
                self._replacement.discard()

            facts: dict[str, Any] = {
                "views": self.facts.views,
                "thumbnails": self.facts.thumbnails,
                "sums": self.facts.sums,
                "found": np.array(json.dumps(self.found)),
                "unreadable": np.array(self.unreadable),
            }
            with open_replacement(self.path.with_suffix(".npz"), durable=True) as stream:
                np.savez(stream, **facts)

    def abandon(self) -> None:
        if self._replacement is not None:
            self._replacement.discard()

    def report(self, packed: PackedShard, rows: range, places: list[PlaceFiles], *, first: bool) -> None:
        """Hands facts on by row; findings, which are the same for each size, once."""
        facts = packed.facts[self.spec.name]
        facts.views[rows.start : rows.stop] = self.facts.views
        facts.sums[rows.start : rows.stop] = self.facts.sums
        if first:
            packed.found += [
                (rows[slot], heading, Finding(kind, places[slot].path(heading), reason))
                for slot, heading, kind, reason in self.found
            ]


def _check_space(out: Path, shards: list[_Shard]) -> None:
    needed = sum(shard.bytes for shard in shards if not shard.whole) + SPARE_BYTES
    free = shutil.disk_usage(out).free
    if needed > free:
        raise StoreError.at(
            f"out={out}",
            f"needs {needed / 2**30:.2f} GiB of free disk, and there are {free / 2**30:.2f}",
            remedy="Free some space, choose another disk, or a smaller image.size.",
        )


@contextmanager
def open_for_writing(out: Path) -> Iterator[None]:
    """Turns what an operating system says of a disk into a sentence with a remedy."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way = "Free some space" if full else "Choose a folder that can be written"
        raise StoreError.at(
            f"out={out}",
            f"cannot be written ({error.strerror or error})",
            remedy=f"{way}; what was packed is kept, and the same command goes on from there.",
        ) from error
