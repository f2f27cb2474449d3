"""Rate limiter against a clock, bounds of the backoff, and both forms of Retry-After."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from geoguesser.collecting.providers.rate_limit import RateLimiter, compute_backoff_s, parse_retry_after


def measure_times(per_second: float, count: int, *, idle_s: float = 0.0) -> np.ndarray:
    """Returns the times at which requests pass that all wait from the start."""

    async def run() -> list[float]:
        limiter, times = RateLimiter(per_second), []

        async def send() -> None:
            await limiter.acquire()
            times.append(time.monotonic())

        await asyncio.sleep(idle_s)
        await asyncio.gather(*(send() for _ in range(count)))
        return times

    return np.sort(asyncio.run(run()))


@pytest.mark.parametrize("per_second", [40, 400])
def test_no_second_holds_more_than_the_rate_and_most_of_it_is_used(per_second: int):
    times = measure_times(per_second, int(1.5 * per_second), idle_s=0.2)  # an idle time before saves no burst up
    within = np.searchsorted(times, times + 1.0) - np.arange(len(times))
    assert within.max() <= per_second
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.6 * per_second  # 0.85 where the machine is quiet


def test_a_low_rate_is_even():
    assert np.diff(measure_times(2, 3)).min() >= 0.5


def test_what_a_stall_missed_is_made_up_for_within_the_limit():
    async def run() -> np.ndarray:
        limiter, times = RateLimiter(100), []
        for number in range(150):
            if number % 50 == 25:
                time.sleep(0.2)  # everything stands still, this loop too
            await limiter.acquire()
            times.append(time.monotonic())
        return np.array(times)

    times = asyncio.run(run())
    within = np.searchsorted(times, times + 1.0) - np.arange(len(times))
    assert within.max() <= 100
    assert (len(times) - 1) / (times[-1] - times[0]) >= 0.75 * 100


@pytest.mark.parametrize(("attempt", "limit"), [(1, 1.0), (4, 8.0), (8, 100.0), (2000, 100.0)])
def test_backoff_is_drawn_evenly_up_to_a_limit_that_doubles(attempt: int, limit: float):
    rng = random.Random(1)
    waits = [compute_backoff_s(attempt, base_s=1.0, max_s=100.0, rng=rng) for _ in range(4000)]
    assert 0.0 <= min(waits) <= max(waits) <= limit
    assert np.percentile(waits, [10, 50, 90]) / limit == pytest.approx([0.1, 0.5, 0.9], abs=0.04)


NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("Fri, 27 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 27 Nov 2026 11:59:00 GMT", 0.0),  # past
        (None, None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None):
    assert parse_retry_after(header, NOW) == seconds
