"""The journal: one process at a time, all or nothing, and what a kill leaves."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from geoguesser.collecting.database import LOCK, NAME, Commits, Journal
from geoguesser.collecting.pipeline.supervisor import Lifeline
from geoguesser.errors import ConfigError, StoreError


def insert(number: int, db: sqlite3.Connection) -> int:
    db.execute("INSERT INTO points (id, latitude, longitude) VALUES (?, 1, 2)", (number,))
    return number


def refuse(db: sqlite3.Connection) -> None:
    raise ConfigError("this one is refused")


def test_a_second_process_is_refused_by_name(tmp_path: Path):
    with Journal(tmp_path):
        code = f"from geoguesser.collecting.database import *; Journal(Path({str(tmp_path)!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        message = (
            f"StoreError: out={tmp_path} is in use by another process (number {os.getpid()}), which holds {LOCK}."
        )
        assert done.returncode != 0
        assert message in done.stderr
    with Journal(tmp_path):  # it is free again
        pass


def test_a_note_that_cannot_be_written_keeps_no_cut_from_those_who_must_hear_of_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("geoguesser.collecting.pipeline.supervisor.DESCRIPTORS", ())
    end, kept = os.pipe()
    line, called = Lifeline(), []
    with Journal(tmp_path) as journal, line.held(journal.ends), line.held(lambda: called.append("asking")):
        monkeypatch.setattr(os, "pwrite", no_space)
        os.close(kept)
        line.watch(end)
    os.close(end)
    assert called == ["asking"]


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_process_that_ends_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    code = f"""
import time
from geoguesser.collecting.database import *
with Journal(Path({str(tmp_path)!r})) as journal:
    journal.ends()
    print("ends", flush=True)
    time.sleep(2)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ends\n"
        with Journal(tmp_path):  # longer than a process that does not end is waited for
            line = f"waiting for process {holder.pid}, which ends what was under way when it was killed"
            assert caplog.messages == [line]
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_many_changes_are_one_transaction_and_one_that_is_refused_harms_no_other(tmp_path: Path):
    async def run(journal: Journal) -> list:
        commits = Commits(journal)
        works = [commits.change(lambda db, n=n: insert(n, db)) for n in range(20)]
        found = await asyncio.gather(*works[:10], commits.change(refuse), *works[10:], return_exceptions=True)
        await commits.close()
        return found

    with Journal(tmp_path) as journal:
        statements: list[str] = []
        journal.db.set_trace_callback(statements.append)
        found = asyncio.run(run(journal))
        assert statements.count("COMMIT") <= 2  # the first may go alone
        assert [one for one in found if isinstance(one, int)] == list(range(20))
        assert [str(one) for one in found if isinstance(one, Exception)] == ["this one is refused"]
        assert journal.rows("SELECT count(*) FROM points") == [(20,)]


def test_a_failing_transaction_changes_nothing_and_says_so(tmp_path: Path):
    with Journal(tmp_path) as journal:
        journal.change(lambda db: insert(1, db))
        with pytest.raises(StoreError, match=r"journal\.sqlite cannot be written \(UNIQUE constraint failed"):
            journal.change_all([lambda db: insert(2, db), lambda db: insert(1, db)])
        assert journal.rows("SELECT id FROM points") == [(1,)]


def test_what_was_committed_survives_a_kill_and_nothing_else(tmp_path: Path):
    code = f"""
import os, signal
from pathlib import Path
from geoguesser.collecting.database import Journal
journal = Journal(Path({str(tmp_path)!r}))
journal.change(lambda db: db.execute("INSERT INTO points (id, latitude, longitude) VALUES (1, 1, 2)"))
journal.db.execute("BEGIN IMMEDIATE")
journal.db.execute("INSERT INTO points (id, latitude, longitude) VALUES (2, 1, 2)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(tmp_path) as journal:
        assert journal.rows("SELECT id FROM points") == [(1,)]


def test_another_file_is_refused(tmp_path: Path):
    (tmp_path / NAME).write_bytes(b"no database, but some other file" * 100)
    with pytest.raises(StoreError, match=r"journal\.sqlite is no journal that can be used .* Move it away"):
        Journal(tmp_path)
    (tmp_path / NAME).unlink()
    with Journal(tmp_path) as journal:
        journal.change(lambda db: db.execute("UPDATE meta SET value = '2' WHERE key = 'format'"))
    with pytest.raises(StoreError, match="must be a journal of format 1, got '2'"):
        Journal(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"must be a folder that can be written \(Not a directory\)\. Name"):
        Journal(tmp_path / "file" / "out")
