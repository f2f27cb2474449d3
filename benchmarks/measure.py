"""Helpers shared by the benchmarks: timing of alternatives in turn, medians, and one line of JSON last."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def time_interleaved(
    ways: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Times each way once per round, in turn, so that other work on the machine slows all of them alike.

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


def compute_median_ratio(over: list[float], under: list[float]) -> float:
    """Returns the median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def print_report(title: str, rows: Mapping[str, str], ratios: Mapping[str, float | None]) -> None:
    """Prints the machine, a table, and the ratios as one JSON object on the last line."""
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"{title} ({device}, {platform.machine()}, torch {torch.__version__})")
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
    print(json.dumps({name: None if ratio is None else round(ratio, 4) for name, ratio in ratios.items()}))


def format_median_ms(seconds: list[float]) -> str:
    """Formats the median in milliseconds."""
    return f"{statistics.median(seconds) * 1000:.1f} ms"
