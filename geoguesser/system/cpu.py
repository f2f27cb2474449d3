"""CPU cores of this process and threads of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

# Environment variable: number of cores that this process may use.
CORES_VARIABLE = "GEOGUESSER_CORES"
# Multiplications of one matrix product; below, threads wait for each other longer than they work.
MIN_MULTIPLICATIONS = 2**27


def count_cores() -> int:
    """Returns the number of cores this process may use: its share of a sweep's, or all of the system's."""
    if os.environ.get(CORES_VARIABLE, "").isdecimal():
        return max(1, int(os.environ[CORES_VARIABLE]))
    return count_system_cores()


def count_system_cores() -> int:
    """Returns the number of cores the operating system gives this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Limits torch to one thread, here and in threads started meanwhile, and restores the number afterwards."""
    # Entry points ask for cores before anything needs torch, whose import takes seconds.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def limit_threads(multiplications: int) -> Iterator[None]:
    """Limits torch to one thread if the largest product of a step (batch x inputs x outputs) is small.

    OpenMP's threads spin while they wait for each other: if other programs use the cores, a step of a head takes
    up to six times as long with two threads as with one. On an idle machine one thread is as fast.
    """
    with use_one_thread() if multiplications < MIN_MULTIPLICATIONS else nullcontext():
        yield
