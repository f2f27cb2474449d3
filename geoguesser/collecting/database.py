"""Journal: one SQLite file of what was planned, found, asked for and paid. It survives a kill at any moment.

points      where to ask: `planned` -> `found` (a place), `empty` (and why), or `failed` for now
places      panoramas that were found: `found` -> `wanted` or `dropped` (and why) -> `done`, or `failed` for now
views       those whose files are whole on disk, and how many bytes these have
spent       requests and money that were reserved, by UTC day, provider and kind

It holds no key and no URL. All changes go through `Commits`: many at once, in one transaction that is on disk
before anybody goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from geoguesser.errors import GeoguesserError, StoreError

try:
    import fcntl

    LOCKS = True
except ImportError:  # no POSIX: nothing keeps a second process out
    LOCKS = False

log = logging.getLogger(__name__)

NAME, LOCK = "journal.sqlite", "journal.lock"
ENDING = "ending"  # in the lock's file: its process only waits for what is under way
LOOKS_S, PATIENCE_S = 0.05, 1.0
FORMAT = 1
T = TypeVar("T")
TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY, latitude REAL NOT NULL, longitude REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned', why TEXT NOT NULL DEFAULT '', place INTEGER
);
CREATE INDEX IF NOT EXISTS points_by_state ON points (state, id);
CREATE TABLE IF NOT EXISTS places (
    id INTEGER PRIMARY KEY, provider TEXT NOT NULL, panorama_id TEXT NOT NULL, uuid TEXT NOT NULL UNIQUE,
    latitude REAL NOT NULL, longitude REAL NOT NULL, date TEXT NOT NULL, copyright TEXT NOT NULL,
    extra TEXT NOT NULL, point INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'found', why TEXT NOT NULL DEFAULT '', UNIQUE (provider, panorama_id)
);
CREATE INDEX IF NOT EXISTS places_by_state ON places (state, id);
CREATE INDEX IF NOT EXISTS places_by_latitude ON places (latitude);
CREATE TABLE IF NOT EXISTS views (
    place INTEGER NOT NULL, heading INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (place, heading)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    day TEXT NOT NULL, provider TEXT NOT NULL, kind TEXT NOT NULL,
    requests INTEGER NOT NULL, micros INTEGER NOT NULL, PRIMARY KEY (day, provider, kind)
) WITHOUT ROWID;
"""


class Journal:
    """The journal of one folder, and the lock on it. Use it with `with`.

    Args:
        folder: Where it lies; it is made.

    Raises:
        StoreError: Another process has it, it cannot be written, or it is no journal of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            rule = f"must be a folder that can be written ({error.strerror or error})"
            raise StoreError.at(f"out={folder}", rule, remedy="Name another.") from error
        try:
            _hold(lock, folder)
            self.db = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self.db.close()
                raise
        except sqlite3.Error as error:
            os.close(lock)
            raise StoreError.at(
                str(self.file), f"is no journal that can be used ({error})",
                remedy="Move it away to begin another: what was paid is then forgotten, views on disk are not.",
            ) from error  # fmt: skip
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()
        os.close(self._lock)

    def ends(self) -> None:
        """Tells others that they may wait for this process: it ends with what is under way."""
        with suppress(OSError):  # on a full disk others are refused, but this process must end all the same
            os.pwrite(self._lock, f"{os.getpid()} {ENDING}\n".encode(), 0)

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction of its own, and returns what it returns once that is on disk."""
        (result,) = self.change_all([work])
        if isinstance(result, GeoguesserError):
            raise result
        return result

    def change_all(self, works: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """Runs many in one transaction, each after the other.

        Returns:
            What each returned; where it raised a GeoguesserError (before it changed anything), that error.

        Raises:
            StoreError: The disk is full, or the like; then nothing was changed.
        """
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                results = [_result(work, self.db) for work in works]
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise StoreError.at(str(self.file), f"cannot be written ({error})") from error
        return results

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.db.execute(query, values).fetchall()

    def meta(self, key: str) -> str | None:
        """What was noted under a key."""
        found = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return str(found[0][0]) if found else None

    def _open(self) -> None:
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")  # what was paid must not be forgotten when the power goes
        self.db.execute("PRAGMA cache_size=-4096")  # KiB
        self.db.executescript(TABLES)
        self.change(lambda db: db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(FORMAT),)))
        if (found := self.meta("format")) != str(FORMAT):
            raise StoreError.at(str(self.file), f"must be a journal of format {FORMAT}", found=found)


class Commits:
    """Changes of a journal from many tasks: all that wait are written in one transaction, in a thread.

    Each waits until its own change is on disk; a flush to disk then serves many of them.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `Journal.change`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def close(self) -> None:
        """Waits for what is being written."""
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            results: list[Any]
            try:
                works = [work for work, _ in batch]
                results = await loop.run_in_executor(self._thread, self._journal.change_all, works)
            except Exception as error:  # each of those that wait must hear of it
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


def _result(work: Callable[[sqlite3.Connection], Any], db: sqlite3.Connection) -> Any:
    try:
        return work(db)
    except GeoguesserError as error:
        return error


def _hold(lock: int, folder: Path) -> None:
    """Takes the lock and writes this process's number into it; the system frees it after a kill.

    One whose command was killed still ends what is under way: it is waited for.
    """
    if not LOCKS:
        return
    told, patient_until = False, time.monotonic() + PATIENCE_S
    while not _took(lock, folder):
        holder, _, state = os.pread(lock, 40, 0).decode("ascii", "replace").strip().partition(" ")
        if state == ENDING and not told:
            log.info("waiting for process %s, which ends what was under way when it was killed", holder)
            told = True
        if state != ENDING and time.monotonic() > patient_until:  # which may just have been killed
            raise StoreError(
                f"out={folder} is in use by another process (number {holder or 'unknown'}), which holds {LOCK}. "
                "Wait until it has ended, or name another folder."
            )
        time.sleep(LOOKS_S)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _took(lock: int, folder: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError.at(f"out={folder}", f"must lie where files can be locked ({error.strerror})") from error
    return True
