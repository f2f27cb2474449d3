"""Threads: how many of torch's own some work is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

WORTH_THREADS = 2**27  # multiplications of one product; below, threads wait longer for each other than they work


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Lets torch use one thread: here, and in each thread that starts meanwhile. Afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def limit_threads(multiplications: int) -> Iterator[None]:
    """Runs with one thread where the largest product of a step is small, else with as many as before.

    OpenMP's threads spin while they wait for each other: where other programs use the cores, a step of a head
    was seen to take six times as long with two threads as with one, and alone on the machine no less.

    Args:
        multiplications: Of the largest product in a step: batch x inputs x outputs.
    """
    with use_one_thread() if multiplications < WORTH_THREADS else nullcontext():
        yield
