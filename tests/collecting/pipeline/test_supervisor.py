"""The lifeline: what a user does to a command reaches its worker, which outlives a kill for what it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from geoguesser.collecting.pipeline.supervisor import Lifeline

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux alone has /proc")

HEAD = """
import os, signal, sys, threading, time
from pathlib import Path
from geoguesser.collecting.pipeline.supervisor import lifeline, tie
here = Path(sys.argv[1])
tie()
"""
HOLDS = """
cut = threading.Event()
with lifeline.held(cut.set):
    (here / "worker").write_text(str(os.getpid()))
    print("works", flush=True)
    cut.wait(30)
    time.sleep(0.3)
    print("has ended what was under way", flush=True)
    (here / "written").write_text("all")
"""


def start(code: str, here: Path, **how: object) -> subprocess.Popen:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.Popen([sys.executable, "-c", HEAD + code, str(here)], text=True, **given)


def wait_for(path: Path) -> str:
    until = time.monotonic() + 20
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < until, path
        time.sleep(0.01)
    return path.read_text()


def gone(process: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(3)", 3),
        ("", 0),
        ("sys.exit('error: words')", 1),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_the_command_ends_as_its_worker_does(tmp_path: Path, code: str, status: int):
    process = start(code, tmp_path)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == status
    assert output == ("error: words\n" if status == 1 else "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_nothing(tmp_path: Path, closed: str):
    code = """
(here / "worker").write_text(str(min(os.open(here, os.O_RDONLY) for _ in range(3))))
sys.exit(3)
"""
    words = ["bash", "-c", f'exec "$@" {closed}', "", sys.executable, "-c", HEAD + code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert int((tmp_path / "worker").read_text()) > 2


def test_the_exit_status_is_known_where_ended_children_are_ignored(tmp_path: Path):
    words = ["bash", "-c", "trap '' CHLD; exec \"$@\"", "", sys.executable, "-c", HEAD + "sys.exit(3)", "."]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(tmp_path: Path, number: int):
    code = """
def tell(number, frame):
    print("heard", number)
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, tell)
(here / "worker").write_text(str(os.getpid()))
time.sleep(30)
"""
    process = start(code, tmp_path)
    wait_for(tmp_path / "worker")
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == f"heard {number}\n"
    assert process.returncode == 130


def become(wanted: str, *processes: int) -> None:
    until = time.monotonic() + 20
    while not {Path(f"/proc/{one}/stat").read_text().split()[2] for one in processes} <= set(wanted):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_halted_command_halts_its_worker_and_both_go_on(tmp_path: Path):
    process = start(HOLDS, tmp_path)
    worker = int(wait_for(tmp_path / "worker"))
    process.send_signal(signal.SIGTSTP)
    become("T", process.pid, worker)
    process.send_signal(signal.SIGCONT)
    become("SR", process.pid, worker)
    process.kill()
    assert process.communicate(timeout=20)[0] == "works\n"
    assert gone(worker)


def test_a_halted_commands_worker_wakes_and_ends_what_it_holds_when_that_is_killed(tmp_path: Path):
    process = start(HOLDS, tmp_path)
    worker = int(wait_for(tmp_path / "worker"))
    process.send_signal(signal.SIGTSTP)
    become("T", process.pid, worker)
    process.kill()
    try:
        assert process.communicate(timeout=20)[0] == "works\n"
        assert wait_for(tmp_path / "written") == "all"
        assert gone(worker)
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def test_a_killed_commands_worker_ends_what_it_holds_and_leaves_the_pipe_at_once(tmp_path: Path):
    process = start(HOLDS, tmp_path, start_new_session=True)
    worker = int(wait_for(tmp_path / "worker"))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.communicate(timeout=20)[0] == "works\n"
    assert wait_for(tmp_path / "written") == "all"
    assert gone(worker)


def test_a_killed_commands_worker_leaves_the_terminal_at_once(tmp_path: Path):
    ours, theirs = os.openpty()
    process = start(HOLDS.replace("0.3", "2"), tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for(tmp_path / "worker")
    process.kill()
    process.wait()
    with suppress(OSError):  # as soon as nobody has it open
        while os.read(ours, 100):
            pass
    os.close(ours)
    assert not (tmp_path / "written").exists()
    assert wait_for(tmp_path / "written") == "all"


def test_what_it_prints_into_a_file_stays(tmp_path: Path):
    with (tmp_path / "log").open("w") as log:
        process = start(HOLDS, tmp_path, stdout=log)
        worker = int(wait_for(tmp_path / "worker"))
        process.kill()
        process.wait()
    assert gone(worker)
    assert (tmp_path / "log").read_text() == "works\nhas ended what was under way\n"


def test_a_killed_commands_worker_that_holds_nothing_ends_at_once(tmp_path: Path):
    process = start("(here / 'worker').write_text(str(os.getpid()))\ntime.sleep(30)", tmp_path)
    worker = int(wait_for(tmp_path / "worker"))
    process.kill()
    process.communicate(timeout=10)
    start_s = time.monotonic()
    assert gone(worker)
    assert time.monotonic() - start_s < 10


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    os.close(ends[0])


def test_what_is_held_after_the_cut_is_called_at_once_and_what_was_let_go_is_not(pipe, monkeypatch):
    monkeypatch.setattr("geoguesser.collecting.pipeline.supervisor.DESCRIPTORS", ())
    line, called = Lifeline(), []
    with line.held(lambda: called.append("outer")):
        with line.held(lambda: called.append("before")):
            pass
        os.close(pipe[1])
        line.watch(pipe[0])
        assert called == ["outer"]
        with line.held(lambda: called.append("after")):
            assert called == ["outer", "after"]
    assert line.cut.is_set()
