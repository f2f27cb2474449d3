"""Lock files: one holder at a time, also across processes and after a kill; file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from geoguesser.system.locks import FileLock, LocksUnsupportedError

HOLD = """
import sys, time
from pathlib import Path
from geoguesser.system.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
time.sleep(120)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_a_lock_excludes_other_holders_until_it_is_released(path: Path):
    first, second = FileLock(path), FileLock(path)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()
    second.release()
    assert path.exists()


def test_another_process_holds_it_until_it_is_killed(path: Path, caplog):
    caplog.set_level(logging.INFO)
    lock = FileLock(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        assert not lock.try_acquire()
        killing = threading.Timer(0.3, holder.kill)
        killing.start()
        lock.acquire("holds it")
    assert caplog.messages == [f"waiting for another process that holds it ({path})"]
    assert not FileLock(path).try_acquire()
    lock.release()


def test_a_removed_lock_file_is_no_lock_for_those_who_waited(path: Path, monkeypatch: pytest.MonkeyPatch):
    """The waiting process has opened the file that the holder then removes; a third one makes a new file."""
    first, third = FileLock(path), FileLock(path)
    assert first.try_acquire()
    real, opened = os.open, []

    def remove_after_open(name, *args):
        descriptor = real(name, *args)
        if name == path and not opened:
            opened.append(name)
            first.release(remove=True)
            assert third.try_acquire()
        return descriptor

    monkeypatch.setattr(os, "open", remove_after_open)
    assert not FileLock(path).try_acquire()
    third.release(remove=True)
    assert not path.exists()


def test_notes_are_read_by_others(path: Path):
    lock = FileLock(path)
    assert lock.read_note() == ""
    assert lock.try_acquire()
    lock.write_note("a longer note")
    lock.write_note("short")
    assert not FileLock(path).try_acquire()
    assert FileLock(path).read_note() == "short"
    assert path.read_text() == "short\n"
    lock.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def refuse(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = FileLock(path), FileLock(path)
    assert first.try_acquire()
    assert second.try_acquire()
    first.release(remove=True)
    # The file stays: another process may work under this name.
    assert path.exists()
    with pytest.raises(LocksUnsupportedError, match="no locks here"):
        FileLock(path, required=True).try_acquire()


def test_other_errors_of_the_lock_are_raised(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"):
        FileLock(path).try_acquire()


def test_a_link_in_place_of_the_lock_file_is_refused(path: Path):
    victim = path.with_name("victim")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(path).try_acquire()
    assert not victim.exists()
