"""Database of a collection: locking, transactions, and durability after kills."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from pathlib import Path

import pytest

from geoguesser.collecting.database import DATABASE_NAME, CommitQueue, Database
from geoguesser.errors import ConfigError, StoreError


def insert(number: int, db: sqlite3.Connection) -> int:
    db.execute("INSERT INTO points (id, latitude, longitude) VALUES (?, 1, 2)", (number,))
    return number


def refuse(db: sqlite3.Connection) -> None:
    raise ConfigError("this one is refused")


def test_many_changes_are_one_transaction_and_one_that_is_refused_harms_no_other(tmp_path: Path):
    async def run(database: Database) -> list:
        commit_queue = CommitQueue(database)
        works = [commit_queue.write(lambda db, n=n: insert(n, db)) for n in range(20)]
        results = await asyncio.gather(
            *works[:10], commit_queue.write(refuse), *works[10:], return_exceptions=True
        )
        await commit_queue.close()
        return results

    with Database(tmp_path) as database:
        statements: list[str] = []
        database.connection.set_trace_callback(statements.append)
        results = asyncio.run(run(database))
        assert statements.count("COMMIT") <= 2  # the first change may have its own
        assert [result for result in results if isinstance(result, int)] == list(range(20))
        assert [str(result) for result in results if isinstance(result, Exception)] == ["this one is refused"]
        assert database.query("SELECT count(*) FROM points") == [(20,)]


def test_a_failing_transaction_changes_nothing_and_says_so(tmp_path: Path):
    with Database(tmp_path) as database:
        database.write(lambda db: insert(1, db))
        with pytest.raises(StoreError, match=r"journal\.sqlite cannot be written \(UNIQUE constraint failed"):
            database.write_all([lambda db: insert(2, db), lambda db: insert(1, db)])
        assert database.query("SELECT id FROM points") == [(1,)]


def test_another_file_is_refused(tmp_path: Path):
    (tmp_path / DATABASE_NAME).write_bytes(b"no database, but some other file" * 100)
    with pytest.raises(StoreError, match=r"journal\.sqlite is not a usable database .* Move it away"):
        Database(tmp_path)
    (tmp_path / DATABASE_NAME).unlink()
    with Database(tmp_path) as database:
        database.write(lambda db: db.execute("UPDATE meta SET value = '2' WHERE key = 'format'"))
    with pytest.raises(StoreError, match="must have format 1, got '2'"):
        Database(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"must be a folder that can be written \(Not a directory\)\. Choose"):
        Database(tmp_path / "file" / "out")


def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreError, match=r"must lie where files can be locked \(No locks available\)"):
        Database(tmp_path)
