"""Disk cache: results of one run that later runs can use. An entry is a payload and a JSON file, written last.

CACHE/KIND/KEY.bin     payload (KIND `features` or `examined`)
CACHE/KIND/KEY.json    parts that determine the payload, its size and checksum; without it there is no entry
CACHE/KIND/KEY.lock    exists while a process makes the entry; the lock ends with the process
CACHE/KIND/.*.part     temporary file while an entry is written

Entries that are removed, damaged or cannot be written are computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from geoguesser.errors import first_line
from geoguesser.system.files import Replacement, write_json
from geoguesser.system.locks import FileLock

log = logging.getLogger(__name__)

KINDS = ("features", "examined")

# Temporary files of this age belong to no running process.
MAX_PART_AGE_S = 24 * 3600.0


def cache_folder() -> Path:
    """Returns $GEOGUESSER_CACHE, else $XDG_CACHE_HOME/geoguesser, else ~/.cache/geoguesser."""
    if folder := os.environ.get("GEOGUESSER_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "geoguesser"


class Cache:
    """Cache entries of all kinds under one limit.

    Args:
        folder: Folder of the entries; None for `cache_folder()`.
        limit_gib: Maximum size of all entries together in GiB.

    Attributes:
        usable: False after the folder could not be written.
    """

    def __init__(self, folder: Path | None = None, *, limit_gib: float) -> None:
        self.folder = folder or cache_folder()
        self.limit_gib = limit_gib
        self.usable = True

    def entry(self, kind: str, parts: dict[str, Any]) -> Entry:
        """Returns the entry that depends on these plain strings and numbers."""
        return Entry(self.folder / kind, compute_digest(parts), parts)

    def fits(self, size: int) -> bool:
        """Returns True if a payload of this size in bytes can be stored at all."""
        return size <= self.limit_gib * 2**30

    def give_up(self, error: OSError) -> None:
        """Warns once that nothing can be stored; the run continues without the cache."""
        if self.usable:
            log.warning("nothing is kept for later runs: the cache %s cannot be used (%s)", self.folder, error)
        self.usable = False

    def make_room(self, size: int) -> None:
        """Removes the least recently used entries until `size` more bytes fit under the limit.

        A process that has a removed entry open keeps its contents.
        """
        files = {file: stat for kind in KINDS for file, stat in _list_files(self.folder / kind)}

        # Incomplete files of killed processes.
        oldest = time.time() - MAX_PART_AGE_S
        for file, stat in list(files.items()):
            has_no_json = file.suffix == ".bin" and file.with_suffix(".json") not in files
            if (file.suffix == ".part" or has_no_json) and stat.st_mtime < oldest:
                _remove(file)
                del files[file]

        excess = sum(stat.st_size for stat in files.values()) + size - self.limit_gib * 2**30
        removed = freed = 0
        abouts = (file for file in files if file.suffix == ".json")
        for about in sorted(abouts, key=lambda file: files[file].st_mtime_ns):
            if freed >= excess:
                break

            # The JSON file goes first: without it, the entry does not exist.
            payload = about.with_suffix(".bin")
            _remove(about, payload)
            freed += sum(files[file].st_size for file in (about, payload) if file in files)
            removed += 1

        if removed:
            limit = f"features.limit_gib={self.limit_gib:g}"
            text = "removed the %d least recently used entries of %s (%.1f MiB), for %s"
            log.info(text, removed, self.folder, freed / 2**20, limit)


@dataclass(frozen=True)
class Entry:
    """Cache entry, which may exist or not.

    Attributes:
        folder: Folder of the entry's kind.
        key: Name of the entry's files.
        parts: Values on which the payload depends.
    """

    folder: Path
    key: str
    parts: dict[str, Any]

    @property
    def file(self) -> Path:
        """Payload."""
        return self.folder / f"{self.key}.bin"

    @property
    def about(self) -> Path:
        """JSON file of the payload."""
        return self.folder / f"{self.key}.json"

    def read(self) -> tuple[npt.NDArray[np.uint8], dict[str, Any]] | None:
        """Maps the payload and reads its JSON file. Writing to the map does not change the file.

        Returns:
            None if the entry does not exist or, with a warning, if it is damaged.
        """
        try:
            about: dict[str, Any] = json.loads(self.about.read_text(encoding="utf-8"))
            with self.file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if about["of"] != self.parts or size != about["bytes"] or not size:
                    raise ValueError(f"it has {size:,} bytes, or is of something else")
                payload = np.memmap(stream, dtype=np.uint8, mode="c")
            if checksum(payload) != about["checksum"]:
                raise ValueError("its checksum differs")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.warn(error)
            return None

        # The time of the last use, which cannot be recorded in a read-only folder.
        with suppress(OSError):
            os.utime(self.about)
        return payload, about

    def warn(self, error: Exception) -> None:
        """Logs that the entry is damaged."""
        log.warning("%s in the cache is damaged (%s): it is computed again", self.file, first_line(error))

    @contextmanager
    def lock(self, doing: str) -> Iterator[None]:
        """Holds the lock of this entry, which ends with the process.

        `doing` is the activity of the holder for the log of waiting processes, such as `embeds these views`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{self.key}.lock")
        lock.acquire(doing)
        try:
            yield
        finally:
            lock.release(remove=True)

    @contextmanager
    def writing(self) -> Iterator[Replacement]:
        """Yields a temporary file for the payload, which is removed unless `keep` is called.

        Requires the lock. Raises OSError if the folder cannot be written, as `lock` and `keep` do.
        """
        replacement = Replacement(self.file, exclusive=True)
        try:
            yield replacement
        finally:
            replacement.discard()

    def keep(self, replacement: Replacement, **more: Any) -> None:
        """Puts a written payload in place, then writes the JSON file that makes the entry valid.

        Args:
            replacement: Temporary file from `writing`, with the payload.
            more: Plain values that `read` returns.
        """
        replacement.stream.flush()
        payload = np.memmap(replacement.temporary, dtype=np.uint8, mode="r")
        about = {
            "of": self.parts,
            "bytes": payload.nbytes,
            "checksum": checksum(payload),
            "made": time.strftime("%Y-%m-%d %H:%M:%S"),
            **more,
        }

        # Without its JSON file the entry does not exist: no reader sees the old one with the new payload.
        _remove(self.about)
        replacement.commit()
        write_json(self.about, about, indent=1)


def compute_digest(parts: dict[str, Any]) -> str:
    """Returns a short name that depends on all values of a dictionary, but not on the order of its keys."""
    return hashlib.blake2b(repr(sorted(parts.items())).encode(), digest_size=8).hexdigest()


def checksum(payload: npt.NDArray[np.uint8]) -> str:
    """Returns the XXH3 checksum of bytes."""
    return xxhash.xxh3_128_hexdigest(payload.data)


def reserve(file: Path, size: int) -> None:
    """Makes a file of `size` bytes. A full disk raises OSError here, instead of a signal when a map is written."""
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        zeros = bytes(2**20)
        for start in range(0, size, len(zeros)):
            stream.write(zeros[: size - start])


def _list_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    files = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            # Another process may remove the file at any time.
            with suppress(FileNotFoundError):
                files.append((Path(entry.path), entry.stat()))
    return files


def _remove(*files: Path) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()
