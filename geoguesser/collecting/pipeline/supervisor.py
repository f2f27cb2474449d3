"""Lifeline: collecting outlives the command that a user started, until what is under way has ended.

An answer that is under way when its process is killed may be paid for and is lost, and nobody can catch
SIGKILL. So `python -m geoguesser.collect` forks: the process that the user sees only waits, and passes signals
on; the second one, in a session of its own, does the work. A pipe between them closes when the first one ends,
however it ends, and then the second one asks nothing more, writes what still comes, and ends too. It is no
daemon: it never lives on for longer than the requests that it has sent. Where the second one itself is killed
(or the machine), it is as without it.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PASSED_ON = ("SIGINT", "SIGTERM")
DESCRIPTORS = (0, 1, 2)


class Lifeline:
    """Whether the process that the user started is still there; in the process that works.

    Attributes:
        cut: Whether it is gone. Never set where there is no such process.
    """

    def __init__(self) -> None:
        self.cut = threading.Event()
        self._lock = threading.Lock()
        self._called: list[Callable[[], None]] = []

    @contextmanager
    def held(self, when_cut: Callable[[], None]) -> Iterator[None]:
        """Within it a cut calls `when_cut`, from another thread, and at once where it came before.

        Outside of all such blocks a cut ends this process.
        """
        with self._lock:
            self._called.append(when_cut)
            if self.cut.is_set():
                when_cut()
        try:
            yield
        finally:
            with self._lock:
                self._called.remove(when_cut)

    def watch(self, end: int) -> None:
        """Waits until nobody holds the pipe's other end, then tells."""
        while os.read(end, 1):
            pass
        _let_go()
        with self._lock:
            self.cut.set()
            if not self._called:
                os._exit(1)  # nothing is under way, and a journal survives it
            for call in self._called:
                call()


lifeline = Lifeline()


def tie() -> None:
    """Forks. Returns in the process that does the work; the other one never does, but exits as that one does."""
    if not hasattr(os, "fork"):
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started this
            stream.flush()
    while (spare := os.open(os.devnull, os.O_RDWR)) <= max(DESCRIPTORS):
        pass  # what a closed stream left free must not become something else, which a cut would let go of
    os.close(spare)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as some shells hand it on, it tells no exit status
    end, kept = os.pipe()
    worker = os.fork()
    if worker:
        os.close(end)
        sys.exit(_wait(worker))
    os.close(kept)
    os.setsid()  # Ctrl-C and a closed terminal reach the first process alone
    _wake_when_cut(end)
    threading.Thread(target=lifeline.watch, args=(end,), name="lifeline", daemon=True).start()


def _wait(worker: int) -> int:
    """Waits for the worker, and passes on what a user says to it.

    Returns:
        Its exit status; a worker that a signal ended takes this process with it by the same.
    """

    def pass_on(number: int, _: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, number)

    def halt(*_: Any) -> None:
        pass_on(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)  # until SIGCONT
        pass_on(signal.SIGCONT, None)

    for name in PASSED_ON:
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, halt)
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _wake_when_cut(end: int) -> None:
    """Has the system send SIGCONT with the cut: a halted worker would never see it. Linux alone can do that."""
    import fcntl  # not on Windows

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC)


def _let_go() -> None:
    """Leaves terminals and pipes, whose other end may wait for this one or be gone; files are written on."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in DESCRIPTORS:
        with suppress(OSError):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.dup2(nothing, descriptor)
    os.close(nothing)
