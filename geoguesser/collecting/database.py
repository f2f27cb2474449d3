"""SQLite database of a collection: plan, panoramas, views and spending. It survives a kill at any moment.

Tables and the states of their rows:

- `points`: points of the plan. `planned` becomes `found` (a place), `empty` (with the reason), or `failed` until
  the next run.
- `places`: panoramas. `found` becomes `wanted` or `dropped` (with the reason) by the filters, and `wanted` becomes
  `done`, `dropped`, or `failed` until the next run.
- `views`: views that are complete on disk, with their size in bytes.
- `spent`: reserved requests and money, by UTC day, provider and kind of request.

The database holds no key and no URL. All changes during a step go through `CommitQueue`, which combines the
changes of many tasks to one transaction, and lets each task continue once its change is on disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from geoguesser.errors import GeoguesserError, StoreError, first_line
from geoguesser.system.locks import FileLock, LocksUnsupportedError
from geoguesser.system.received_files import parse_json

DATABASE_NAME, LOCK = "journal.sqlite", "journal.lock"
FORMAT_VERSION = 1

# The system releases the lock of a killed process a moment after its end.
POLL_S = 0.05
MAX_LOCK_WAIT_S = 1.0
T = TypeVar("T")
SCHEMA = """
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

SCHEMA_NAME = re.compile(r"(?:TABLE|INDEX) IF NOT EXISTS (\w+)")


class Database:
    """Database of one folder, with a lock that keeps other processes out; a context manager.

    Raises:
        StoreError: Another process uses the folder, it cannot be written, or the file is not a database of this
            program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / DATABASE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(folder)
        except StoreError:
            raise
        except LocksUnsupportedError as error:
            rule = f"must lie where files can be locked ({error.strerror})"
            raise StoreError.at(f"out={folder}", rule) from error
        except OSError as error:
            rule = f"must be a folder that can be written ({error.strerror or error})"
            raise StoreError.at(f"out={folder}", rule, remedy="Choose another folder with out=FOLDER.") from error

        with ExitStack() as stack:
            stack.callback(lock.release)
            try:
                for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm"):
                    if (folder / name).is_symlink():
                        raise StoreError.at(
                            str(folder / name), "must be a file, and is a link", remedy="Remove it."
                        )
                self.connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
                stack.callback(self.connection.close)
                self._open()
            except sqlite3.Error as error:
                raise StoreError.at(
                    str(self.file), f"is not a usable database ({error})",
                    remedy="Move it away to start a new one. Spending is then forgotten; views on disk are kept.",
                ) from error  # fmt: skip
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction, and returns its result once the transaction is on disk."""
        (result,) = self.write_all([work])
        if isinstance(result, GeoguesserError):
            raise result
        return result

    def write_all(self, works: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """Runs several functions in one transaction.

        A function may refuse its change by raising a GeoguesserError before it changes anything. That does not
        affect the other functions; any other error undoes the complete transaction.

        Returns:
            Result of each function, or the GeoguesserError that it raised.

        Raises:
            StoreError: The database cannot be written, for example because the disk is full. Nothing was changed.
        """

        def run(work: Callable[[sqlite3.Connection], Any]) -> Any:
            try:
                return work(self.connection)
            except GeoguesserError as error:
                return error

        try:
            self.connection.execute("BEGIN IMMEDIATE")
            results = [run(work) for work in works]
            self.connection.execute("COMMIT")
        except BaseException as error:
            # A failed BEGIN opens no transaction; a failed COMMIT may leave it open.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError.at(str(self.file), f"cannot be written ({error})") from error
            raise
        return results

    def query(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()

    def get_meta(self, key: str) -> str | None:
        rows = self.query("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def get_settings(self, key: str) -> dict[str, Any] | None:
        """Returns recorded settings by name, or None; raises StoreError if they are damaged."""
        text = self.get_meta(key)
        try:
            settings = None if text is None else dict(parse_json(text))
        except (ValueError, TypeError) as error:
            rule = f"holds damaged settings ({first_line(error)})"
            raise StoreError.at(f"{self.file}, {key}", rule) from error
        return settings

    def _open(self) -> None:
        # In WAL mode a commit is one sequential write. FULL flushes it to disk before the commit returns, so that
        # a power failure does not undo a reservation whose request was already sent.
        self.connection.execute("PRAGMA trusted_schema=OFF")
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("PRAGMA cache_size=-4096")  # KiB
        self.connection.executescript(SCHEMA)

        # Triggers, views and virtual tables of somebody else would run with each change.
        names = set(SCHEMA_NAME.findall(SCHEMA))
        for kind, name, sql in self.query("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
            if name not in names or not str(sql).startswith((f"CREATE TABLE {name} ", f"CREATE INDEX {name} ")):
                raise StoreError.at(str(self.file), "must hold this program's tables only", found=f"{kind} {name}")

        version = str(FORMAT_VERSION)
        self.write(lambda db: db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (version,)))
        if (found := self.get_meta("format")) != version:
            raise StoreError.at(str(self.file), f"must have format {version}", found=found)


class CommitQueue:
    """Group commit: combines the changes of many tasks to few transactions, written in a thread.

    A flush to disk takes milliseconds, during which other tasks request changes too. All of these become the next
    transaction, so one flush serves many tasks.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction shared with other tasks, and returns its result once it is on disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def close(self) -> None:
        """Waits for the changes in flight."""
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
                results = await loop.run_in_executor(self._thread, self._database.write_all, works)
            except Exception as error:
                # The transaction failed as a unit, so every task gets the error.
                results = [error] * len(batch)

            for (_, future), result in zip(batch, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


def _take_lock(folder: Path) -> FileLock:
    """Locks the folder and writes this process's number into the lock file."""
    lock = FileLock(folder / LOCK, required=True)
    deadline = time.monotonic() + MAX_LOCK_WAIT_S
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            holder = lock.read_note() or "unknown"
            raise StoreError(
                f"out={folder} is in use by another process (number {holder}), which holds {LOCK}. "
                "Wait until it has ended, or choose another folder with out=FOLDER."
            )
        time.sleep(POLL_S)

    try:
        lock.write_note(str(os.getpid()))
    except OSError:
        lock.release()
        raise
    return lock
