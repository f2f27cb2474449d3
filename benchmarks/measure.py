"""Shared by the benchmarks: two ways timed in turn in one process, medians, one JSON line last."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def interleaved(ways: dict[str, Callable[[], Any]], *, rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Times each way once per round, in turn, so that a noisy machine disturbs them alike.

    Returns:
        Name -> seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warmup + rounds):
        names = list(ways)
        for name in names if number % 2 == 0 else reversed(names):
            start = time.perf_counter()
            ways[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(over: list[float], under: list[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def report(title: str, rows: dict[str, str], ratios: dict[str, float | None]) -> None:
    """Prints the machine, a table, and the ratios as one JSON object on the last line."""
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"{title} ({device}, {platform.machine()}, torch {torch.__version__})")
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
    print(json.dumps({name: None if ratio is None else round(ratio, 4) for name, ratio in ratios.items()}))


def milliseconds(seconds: list[float]) -> str:
    """The median, for a table."""
    return f"{statistics.median(seconds) * 1000:.1f} ms"
