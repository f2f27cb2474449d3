"""Disk cache: results of one run that later runs can use. An entry is a payload and a JSON file, written last.

CACHE/KIND/KEY.bin     payload (KIND `features` or `examined`)
CACHE/KIND/KEY.json    what the payload depends on, its size and checksum; without it the entry does not exist
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
# Age above which no process can still write a temporary file.
MAX_PART_AGE_S = 24 * 3600.0


def get_cache_folder() -> Path:
    """Returns $GEOGUESSER_CACHE, else $XDG_CACHE_HOME/geoguesser, else ~/.cache/geoguesser."""
    if folder := os.environ.get("GEOGUESSER_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "geoguesser"


class Cache:
    """Entries of all kinds with a common size limit.

    Args:
        folder: Folder of the cache; None for `get_cache_folder()`.
        limit_gib: Maximum size of all entries together, in GiB.

    Attributes:
        usable: False once writing to the folder failed.
    """

    def __init__(self, folder: Path | None = None, *, limit_gib: float) -> None:
        self.folder = folder or get_cache_folder()
        self.limit_gib = limit_gib
        self.usable = True

    def entry(self, kind: str, parts: dict[str, Any]) -> Entry:
        """Returns the entry for parts, plain strings and numbers that determine its contents."""
        return Entry(self.folder / kind, compute_digest(parts), parts)

    def fits(self, size: int) -> bool:
        """Returns True if an entry of `size` bytes is within the limit."""
        return size <= self.limit_gib * 2**30

    def give_up(self, error: OSError) -> None:
        """Marks the cache as unusable, with one warning; the run continues without it."""
        if self.usable:
            log.warning("nothing is kept for later runs: the cache %s cannot be used (%s)", self.folder, error)
        self.usable = False

    def make_room(self, size: int) -> None:
        """Removes the least recently used entries until `size` more bytes are within the limit.

        A process that has a removed entry open can still read it.
        """
        files = {file: stat for kind in KINDS for file, stat in _list_files(self.folder / kind)}

        # Temporary files and payloads without a JSON file that no process writes any more.
        old = time.time() - MAX_PART_AGE_S
        for file, stat in list(files.items()):
            has_no_json = file.suffix == ".bin" and file.with_suffix(".json") not in files
            if (file.suffix == ".part" or has_no_json) and stat.st_mtime < old:
                _remove(file)
                del files[file]

        excess = sum(stat.st_size for stat in files.values()) + size - self.limit_gib * 2**30
        removed = freed = 0
        abouts = (file for file in files if file.suffix == ".json")
        for about in sorted(abouts, key=lambda file: files[file].st_mtime_ns):
            if freed >= excess:
                break

            payload = about.with_suffix(".bin")
            # The JSON file first, because without it the entry does not exist.
            _remove(about, payload)
            freed += sum(files[file].st_size for file in (about, payload) if file in files)
            removed += 1

        if removed:
            text = "removed the %d least recently used entries of %s (%.1f MiB), for features.limit_gib=%g"
            log.info(text, removed, self.folder, freed / 2**20, self.limit_gib)


@dataclass(frozen=True)
class Entry:
    """Entry of the cache, present or not.

    Attributes:
        folder: Folder of its kind.
        key: Name of its files.
        parts: Values that determine its contents.
    """

    folder: Path
    key: str
    parts: dict[str, Any]

    @property
    def file(self) -> Path:
        """File of the payload."""
        return self.folder / f"{self.key}.bin"

    @property
    def about(self) -> Path:
        """JSON file that describes the payload."""
        return self.folder / f"{self.key}.json"

    def read(self) -> tuple[npt.NDArray[np.uint8], dict[str, Any]] | None:
        """Maps the payload into memory, copy-on-write, and reads its description.

        Returns:
            Payload and description; None for an entry that is absent, or damaged, with a warning.
        """
        try:
            about: dict[str, Any] = json.loads(self.about.read_text(encoding="utf-8"))
            with self.file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if about["of"] != self.parts or size != about["bytes"] or not size:
                    raise ValueError(f"it has {size:,} bytes, or is of something else")
                payload = np.memmap(stream, dtype=np.uint8, mode="c")
            if compute_checksum(payload) != about["checksum"]:
                raise ValueError("its checksum differs")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.warn(error)
            return None

        # The time of the last use; a read-only folder keeps none.
        with suppress(OSError):
            os.utime(self.about)
        return payload, about

    def warn(self, error: Exception) -> None:
        """Warns that the entry is damaged."""
        log.warning("%s in the cache is damaged (%s) and computed again", self.file, first_line(error))

    @contextmanager
    def lock(self, activity: str) -> Iterator[None]:
        """Holds the lock for making this entry; the system releases it if the process is killed.

        Args:
            activity: Activity of a process that holds the lock, for the log: `embeds these views`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{self.key}.lock")
        lock.acquire(activity)
        try:
            yield
        finally:
            lock.release(remove=True)

    @contextmanager
    def writing(self) -> Iterator[Replacement]:
        """Yields a temporary file for the payload, which is removed unless `keep` is called with it.

        The lock must be held. Raises OSError if the folder cannot be written, as `lock` and `keep` do.
        """
        replacement = Replacement(self.file, exclusive=True)
        try:
            yield replacement
        finally:
            replacement.discard()

    def keep(self, replacement: Replacement, **more: Any) -> None:
        """Gives a written payload its name, then writes the JSON file that makes the entry valid.

        Args:
            replacement: Temporary file from `writing`, with the payload in it.
            more: Plain values for the description that `read` returns.
        """
        replacement.stream.flush()
        payload = np.memmap(replacement.temporary, dtype=np.uint8, mode="r")
        about = {
            "of": self.parts,
            "bytes": payload.nbytes,
            "checksum": compute_checksum(payload),
            "made": time.strftime("%Y-%m-%d %H:%M:%S"),
            **more,
        }

        # Without its JSON file the entry does not exist: no reader sees the old one with the new payload.
        _remove(self.about)
        replacement.commit()
        write_json(self.about, about, indent=1)


def compute_digest(parts: dict[str, Any]) -> str:
    """Returns a short name that all values of a dictionary determine, whatever the order of its keys."""
    return hashlib.blake2b(repr(sorted(parts.items())).encode(), digest_size=8).hexdigest()


def compute_checksum(payload: npt.NDArray[np.uint8]) -> str:
    """Returns the XXH3 hash of bytes, which is computed at the speed of memory."""
    return xxhash.xxh3_128_hexdigest(payload.data)


def allocate_file(file: Path, size: int) -> None:
    """Makes a file of `size` bytes, so that a full disk fails here and not with a signal at a map."""
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        zeros = bytes(2**20)
        for start in range(0, size, len(zeros)):
            stream.write(zeros[: size - start])


def _list_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    stats = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                stats.append((Path(entry.path), entry.stat()))
    return stats


def _remove(*files: Path) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()
