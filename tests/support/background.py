"""Commands that run in the background until they end or a test stops them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT


@contextmanager
def start_command(*words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """Starts `python -m ...` with its errors in its output, and kills it at the end if it still runs."""
    # A shell starts background processes with SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=cwd, env=os.environ | (env or {}), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen, text: str) -> list[str]:
    """Reads lines of a command's output up to one that contains a text."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"the command did not print {text!r}: {lines}")
