"""Cache: what one run made and later runs can use. Each entry is a payload and a JSON file that is written last.

CACHE/KIND/KEY.bin     the payload (KIND `features` or `examined`)
CACHE/KIND/KEY.json    what it is of, its size and checksum: the payload is whole exactly when this is there
CACHE/KIND/KEY.lock    while a process makes it; the lock is gone with the process
CACHE/KIND/*.part      while it is being written

Nothing here is needed: whatever is removed, damaged or cannot be written is only made anew.
"""

from __future__ import annotations

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

from geoguesser.data.fingerprint import compute_digest
from geoguesser.errors import first_line

try:
    import fcntl

    LOCKS = True
except ImportError:  # no POSIX: without a lock two processes make the same thing, and the later one stays
    LOCKS = False

log = logging.getLogger(__name__)

KINDS = ("features", "examined")
LEFT_S = 24 * 3600.0  # a part this old belongs to no process any more


def cache_folder() -> Path:
    """$GEOGUESSER_CACHE, else $XDG_CACHE_HOME/geoguesser, else ~/.cache/geoguesser."""
    if own := os.environ.get("GEOGUESSER_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "geoguesser"


class Cache:
    """The entries of all kinds under one limit.

    Args:
        folder: Where they lie; None for `cache_folder()`.
        limit_gib: What they may take together, in GiB.

    Attributes:
        usable: False once the folder could not be written.
    """

    def __init__(self, folder: Path | None = None, *, limit_gib: float) -> None:
        self.folder = folder or cache_folder()
        self.limit_gib = limit_gib
        self.usable = True

    def entry(self, kind: str, parts: dict[str, Any]) -> Entry:
        """The entry that all these parts determine: plain strings and numbers."""
        return Entry(self.folder / kind, compute_digest(parts), parts)

    def fits(self, size: int) -> bool:
        """Whether so many bytes may be kept at all."""
        return size <= self.limit_gib * 2**30

    def give_up(self, error: OSError) -> None:
        """Says once that nothing can be kept; the run goes on without."""
        if self.usable:
            log.warning("nothing is kept for later runs: the cache %s cannot be used (%s)", self.folder, error)
        self.usable = False

    def make_room(self, size: int) -> None:
        """Removes the least recently used entries until `size` more bytes fit under the limit.

        A process that has one of them open keeps it.
        """
        files = {file: stat for kind in KINDS for file, stat in _stats(self.folder / kind)}
        old = time.time() - LEFT_S
        for file, stat in list(files.items()):
            abandoned = file.suffix == ".part" or (
                file.suffix == ".bin" and file.with_suffix(".json") not in files
            )
            if abandoned and stat.st_mtime < old:
                _remove(file)
                del files[file]
        too_much = sum(stat.st_size for stat in files.values()) + size - self.limit_gib * 2**30
        removed = freed = 0
        abouts = (file for file in files if file.suffix == ".json")
        for about in sorted(abouts, key=lambda file: files[file].st_mtime_ns):
            if freed >= too_much:
                break
            payload = about.with_suffix(".bin")
            _remove(about, payload)  # what says that it is whole goes first
            freed += sum(files[file].st_size for file in (about, payload) if file in files)
            removed += 1
        if removed:
            log.info(
                "removed the %d least recently used entries of %s (%.1f MiB), for features.limit_gib=%g",
                removed,
                self.folder,
                freed / 2**20,
                self.limit_gib,
            )


@dataclass(frozen=True)
class Entry:
    """One thing that may be in the cache.

    Attributes:
        folder: That of its kind.
        key: Its name.
        parts: What it is of, all that it depends on.
    """

    folder: Path
    key: str
    parts: dict[str, Any]

    @property
    def file(self) -> Path:
        """The payload."""
        return self.folder / f"{self.key}.bin"

    @property
    def about(self) -> Path:
        """What tells of it."""
        return self.folder / f"{self.key}.json"

    def read(self) -> tuple[npt.NDArray[np.uint8], dict[str, Any]] | None:
        """Maps the payload (writing to the map does not change the file) and reads what tells of it.

        Returns:
            None where it is not there, or is damaged: then it says so.
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
        with suppress(OSError):  # a folder that can only be read has no order of use
            os.utime(self.about)
        return payload, about

    def warn(self, error: Exception) -> None:
        """Says that the entry is damaged."""
        log.warning("%s in the cache is damaged (%s): it is made anew", self.file, first_line(error))

    @contextmanager
    def lock(self, doing: str) -> Iterator[None]:
        """Holds the right to make this entry; the system takes it back from a process that is killed.

        Args:
            doing: What another process does that holds it, for the log: `embeds these views`.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.key}.lock"
        descriptor = _locked(path, doing)
        try:
            yield
        finally:
            if LOCKS:
                _remove(path)  # while it is held: who waits for it finds out and asks for the new one
            os.close(descriptor)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A name for the payload while it is written; with the lock held. What is not kept goes.

        Raises:
            OSError: The folder cannot be written.
        """
        if LOCKS:
            for left in self.folder.glob(f"{self.key}-*.part"):  # of a process that was killed
                _remove(left)
        part = self.folder / f"{self.key}-{os.getpid()}.part"
        try:
            yield part
        finally:
            _remove(part)

    def keep(self, part: Path, **more: Any) -> None:
        """Gives a written payload its name, and tells of it last.

        Args:
            part: As `writing` named it.
            more: Plain values that `read` shall give back.

        Raises:
            OSError: The disk is full, or the like.
        """
        payload = np.memmap(part, dtype=np.uint8, mode="r")
        about = {
            "of": self.parts,
            "bytes": payload.nbytes,
            "checksum": checksum(payload),
            "made": time.strftime("%Y-%m-%d %H:%M:%S"),
            **more,
        }
        _remove(self.about)
        part.replace(self.file)
        scratch = part.with_suffix(".json.part")
        try:
            scratch.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            scratch.replace(self.about)
        finally:
            _remove(scratch)


def checksum(payload: npt.NDArray[np.uint8]) -> str:
    """XXH3 of bytes, at the speed of memory."""
    return xxhash.xxh3_128_hexdigest(payload.data)


def reserve(file: Path, size: int) -> None:
    """Makes a file of so many bytes; a full disk must say so here, not by a signal when a map is written.

    Raises:
        OSError: There is no room.
    """
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        zeros = bytes(2**20)
        for start in range(0, size, len(zeros)):
            stream.write(zeros[: size - start])


def _locked(path: Path, doing: str) -> int:
    """The descriptor of a lock file that is held, and that still has its name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(descriptor, path, doing)
            if not LOCKS or os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # who held it has made the entry, and removed the file
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, path: Path, doing: str) -> None:
    if not LOCKS:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("waiting for another process that %s (%s)", doing, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:  # a file system without locks
        log.debug("%s cannot be locked: %s", path, error)


def _stats(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found.append((Path(entry.path), entry.stat()))
    return found


def _remove(*files: Path) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()
