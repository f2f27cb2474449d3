"""Packs image files into the shards of a store, in parallel.

The name of a shard is a digest of its inputs (ids, names, sizes and times of files, spec, decoder), so that
complete shards of earlier runs are found. A shard gets its name only when it is complete. After an interruption at
most one shard must be packed again.
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
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.image_stats import ImageStats, InspectedPlace
from geoguesser.data.checks.inspection import inspect_in_order
from geoguesser.data.images import ImageSpec, describe_decoder
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.store.reader import count_place_bytes
from geoguesser.errors import MissingFileError, StoreError
from geoguesser.system.files import Replacement, open_replacement
from geoguesser.system.received_files import parse_json
from geoguesser.system.tensor_files import load_npz

# 147 MiB at 112 px: a suitable size for object storage, and two seconds of work for two cores.
SHARD_PLACES = 1024

# Disk space kept free for the table and the report.
SPARE_BYTES = 2**24


@dataclass
class PackedViews:
    """Result of packing N places: statistics of the images and names of the shards, by `ImageSpec.name`."""

    # Without thumbnails, which are in the .npz files.
    stats: dict[str, ImageStats]

    # Place index, heading index and finding.
    findings: list[tuple[int, int, Finding]] = field(default_factory=list)
    shards: dict[str, list[str]] = field(default_factory=dict)
    num_reused: int = 0


def compute_shard_ranges(count: int) -> list[range]:
    """Returns the range of place indices of each shard."""
    return [range(start, min(start + SHARD_PLACES, count)) for start in range(0, count, SHARD_PLACES)]


def compute_shard_names(ids: Sequence[str], places: Sequence[PlaceFiles], specs: Sequence[ImageSpec]) -> list[str]:
    """Returns the name of the shard of the given places for each spec."""
    inputs = hashlib.blake2b(describe_decoder().encode(), digest_size=16)
    for uuid, files in zip(ids, places, strict=True):
        inputs.update(f"\0\0{uuid}".encode())
        for heading, name in enumerate(files.names):
            inputs.update(f"\0{name or ''}".encode())
            if name is not None:
                inputs.update(_encode_size_and_time(files.path(heading)))

    names = []
    for spec in specs:
        digest = inputs.copy()
        digest.update(spec.name.encode())
        names.append(digest.hexdigest())
    return names


def _encode_size_and_time(path: str) -> bytes:
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
) -> PackedViews:
    """Inspects all places and packs their views for all specs into the locked folder `out`; no packing if None.

    Raises:
        StoreError: A file cannot be written; complete shards stay for the next attempt.
        MissingFileError: A root is missing.
    """
    packed = PackedViews({spec.name: ImageStats.empty(len(places), thumbnail=0) for spec in specs})
    jobs = []
    for rows in compute_shard_ranges(len(places)):
        files = [places[row] for row in rows]
        names = (
            ["" for _ in specs] if out is None else compute_shard_names([ids[row] for row in rows], files, specs)
        )
        shards = [_Shard(out, spec, name, len(rows)) for spec, name in zip(specs, names, strict=True)]
        jobs.append((rows, files, shards))
        for shard in shards:
            packed.shards.setdefault(shard.spec.name, []).append(shard.name)
    if out is not None:
        for folder in (out / "views", *(out / "views" / spec.name for spec in specs)):
            if folder.is_symlink():
                raise StoreError.at(
                    str(folder), "must be a folder of the store, and is a link", remedy="Remove it."
                )
        _check_space(out, [shard for _, _, shards in jobs for shard in shards])

    # A thread flushes complete shards to the disk while the next shard is packed.
    action = "packing views" if out else "examining views"
    with (
        tqdm(total=len(places), desc=action, unit=" places", disable=None) as bar,
        ThreadPoolExecutor(1, thread_name_prefix="commit") as committer,
    ):
        pending: list[Future[None]] = []
        for rows, files, shards in jobs:
            incomplete = [shard for shard in shards if not shard.is_complete]
            if incomplete:
                _fill(incomplete, files, [roots[row] for row in rows], bar)
            else:
                packed.num_reused += len(rows)
                bar.update(len(rows))

            for shard in shards:
                shard.copy_results(packed, rows, files, with_findings=shard is shards[0])

            # For a shard of an earlier run, this only frees the statistics.
            pending += [committer.submit(shard.commit) for shard in shards]

            # Errors of finished commits are raised here, before more shards are packed.
            for future in [future for future in pending if future.done()]:
                future.result()
                pending.remove(future)
        for future in pending:
            future.result()
    return packed


def _fill(shards: list[_Shard], places: list[PlaceFiles], roots: list[str], bar: Any) -> None:
    """Inspects places and adds them to the shards of all specs; a failure leaves no temporary files."""
    specs = [shard.spec for shard in shards]
    try:
        for slot, place in enumerate(inspect_in_order(places, specs)):
            if place.num_unreadable and not Path(roots[slot]).is_dir():
                raise MissingFileError.at(
                    f"data.roots {roots[slot]}",
                    "disappeared while it was being read",
                    remedy="Packed shards are kept. Make the folder available again and repeat the command.",
                )
            for index, shard in enumerate(shards):
                shard.add(slot, place, index)
            bar.update()
    except BaseException:
        for shard in shards:
            shard.discard()
        raise


class _Shard:
    """Shard of one spec, from an earlier run or while it is packed; without `out` it keeps statistics only."""

    def __init__(self, out: Path | None, spec: ImageSpec, name: str, count: int) -> None:
        self.out, self.spec, self.name, self.count = out, spec, name, count
        self.stats = ImageStats.empty(0)
        # Place in the shard, heading index, kind and reason.
        self.findings: list[tuple[int, int, str, str]] = []
        self.num_unreadable = 0
        self._replacement: Replacement | None = None
        self.is_complete = out is not None and self._load()

    @property
    def num_bytes(self) -> int:
        return self.count * count_place_bytes(self.spec.size)

    @property
    def path(self) -> Path:
        assert self.out is not None
        return self.out / "views" / self.spec.name / f"{self.name}.bin"

    def _load(self) -> bool:
        """Loads statistics and findings of an earlier run; False if the shard is absent, damaged or incomplete."""
        file = self.path.with_suffix(".npz")
        if not file.is_file() or not self.path.is_file() or self.path.stat().st_size != self.num_bytes:
            return False

        try:
            arrays = load_npz(file, ("views", "thumbnails", "sums", "found", "unreadable"))
            stats = ImageStats(arrays["views"], arrays["thumbnails"], arrays["sums"])
            findings = [tuple(finding) for finding in parse_json(str(arrays["found"]))]
            num_unreadable = int(arrays["unreadable"])
        except (OSError, ValueError, KeyError, TypeError, BadZipFile):
            return False

        # Files that could not be read then may be readable now.
        if num_unreadable or len(stats) != self.count:
            return False
        self.findings = findings

        # Thumbnails stay in the file, to save memory.
        self.stats = ImageStats(stats.views, stats.thumbnails[:, :, :, :0, :0], stats.sums)
        return True

    def add(self, slot: int, place: InspectedPlace, index: int) -> None:
        """Adds a place, with the pixels of the spec with the given index."""
        if slot == 0:
            self.stats = ImageStats.empty(self.count)
            if self.out is not None:
                with convert_store_errors(self.out):
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._replacement = Replacement(self.path, durable=True)

        self.stats.put(slot, place, index)
        self.findings += [(slot, heading, finding.kind, finding.reason) for heading, finding in place.findings]
        self.num_unreadable += place.num_unreadable
        if self._replacement is not None and self.out is not None:
            with convert_store_errors(self.out):
                self._replacement.stream.write(place.images[index].data)

    def copy_results(
        self, packed: PackedViews, rows: range, places: list[PlaceFiles], *, with_findings: bool
    ) -> None:
        """Copies statistics to the given rows of the result, and findings, which are the same for each spec."""
        stats = packed.stats[self.spec.name]
        stats.views[rows.start : rows.stop] = self.stats.views
        stats.sums[rows.start : rows.stop] = self.stats.sums
        if with_findings:
            packed.findings += [
                (rows[slot], heading, Finding(kind, places[slot].path(heading), reason))
                for slot, heading, kind, reason in self.findings
            ]

    def commit(self) -> None:
        """Flushes the shard to the disk, gives it its name, writes its statistics last, and frees them."""
        if self._replacement is not None and self.out is not None:
            with convert_store_errors(self.out):
                try:
                    self._replacement.commit()
                finally:
                    self._replacement.discard()

                arrays: dict[str, Any] = {
                    "views": self.stats.views,
                    "thumbnails": self.stats.thumbnails,
                    "sums": self.stats.sums,
                    "found": np.array(json.dumps(self.findings)),
                    "unreadable": np.array(self.num_unreadable),
                }
                with open_replacement(self.path.with_suffix(".npz"), durable=True) as stream:
                    np.savez(stream, **arrays)

        self.stats, self.findings = ImageStats.empty(0), []

    def discard(self) -> None:
        if self._replacement is not None:
            self._replacement.discard()


def _check_space(out: Path, shards: list[_Shard]) -> None:
    needed = sum(shard.num_bytes for shard in shards if not shard.is_complete) + SPARE_BYTES
    free = shutil.disk_usage(out).free
    if needed > free:
        raise StoreError.at(
            f"out={out}",
            f"needs {needed / 2**30:.2f} GiB of disk space, but only {free / 2**30:.2f} GiB are free",
            remedy="Free some space, choose another disk, or a smaller image.size.",
        )


@contextmanager
def convert_store_errors(out: Path) -> Iterator[None]:
    """Raises StoreError with a remedy for each error of the operating system."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "Free some space" if is_full else "Choose a folder that can be written"
        raise StoreError.at(
            f"out={out}",
            f"cannot be written ({error.strerror or error})",
            remedy=f"{remedy}. Packed shards are kept, and repeating the command continues from there.",
        ) from error
