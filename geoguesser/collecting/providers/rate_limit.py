"""Rate limiter of a provider's requests, and waiting times before retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Fraction of the configured rate that is used. The rest is a margin for requests that are sent apart but reach the
# server close together.
RATE_FRACTION = 0.85

# Fraction of a second's requests that may be sent at once after an idle time.
BURST_FRACTION = 0.25

# Limit of the exponent in the backoff, against overflow. Any configured maximum is reached long before.
MAX_DOUBLINGS = 16


class RateLimiter:
    """Token bucket that keeps every interval of one second within the rate.

    The bucket fills at `RATE_FRACTION` of the rate and holds `BURST_FRACTION` of a second's requests, so that
    requests missed during a stall are made up for. A bucket allows more than the rate in one second if a burst
    follows regular requests. Therefore the times of the last `RATE_FRACTION * per_second` requests are kept as
    well, and the next one waits until the oldest of them is one second old.

    Source: the generic cell rate algorithm (ITU-T I.371), which is a token bucket without a timer.
    """

    def __init__(self, per_second: float) -> None:
        # In the words of the algorithm: emission interval, delay tolerance, and theoretical arrival time.
        self._interval_s = 1.0 / (RATE_FRACTION * per_second)
        self._tolerance_s = max(0.0, BURST_FRACTION * per_second - 1.0) * self._interval_s
        self._next_s = time.monotonic()

        self._recent_s: deque[float] = deque(maxlen=max(1, int(RATE_FRACTION * per_second)))
        # asyncio.Lock wakes its waiters in the order of their arrival.
        self._queue = asyncio.Lock()

    async def acquire(self) -> None:
        """Waits until the next request may be sent."""
        async with self._queue:
            # `pause` may move the time further away while this sleeps, so it is computed again after each sleep.
            while (wait_s := self._compute_wait_s(time.monotonic())) > 0:
                await asyncio.sleep(wait_s)

            now = time.monotonic()
            self._next_s = max(self._next_s, now) + self._interval_s
            self._recent_s.append(now)

    def _compute_wait_s(self, now: float) -> float:
        is_full = len(self._recent_s) == self._recent_s.maxlen
        return max(self._next_s - self._tolerance_s, self._recent_s[0] + 1.0 if is_full else now) - now

    def pause(self, seconds: float) -> None:
        """Holds back all requests for the given time, including those in the queue."""
        self._next_s = max(self._next_s, time.monotonic() + seconds + self._tolerance_s)


def compute_backoff_s(attempt: int, *, base_s: float, max_s: float, rng: random.Random) -> float:
    """Draws the seconds to wait after failed attempt number `attempt`, uniform between 0 and an upper bound.

    The bound is `base_s` for the first attempt, doubles with each attempt, and is at most `max_s`.
    Source: "full jitter" of M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog (2015).
    """
    return rng.uniform(0.0, min(max_s, base_s * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)))


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Parses a Retry-After header, seconds or a date (RFC 9110, section 10.2.3), to seconds; None if malformed."""
    if header is None:
        return None

    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text)

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
