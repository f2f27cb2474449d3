"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, timeout_s: float = 60.0, interval_s: float = 0.01) -> None:
    """Polls a condition until it is true.

    Raises:
        AssertionError: If it is still false after `timeout_s` seconds.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"the condition is still false after {timeout_s:g} s"
        time.sleep(interval_s)
