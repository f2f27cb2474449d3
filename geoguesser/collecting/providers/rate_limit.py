"""Pace: how fast a provider may be asked, and how long to wait before it is asked again.

It knows nothing of HTTP but the header Retry-After.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from geoguesser.errors import check_number

FILL = 0.85  # of a rate: the rest is for requests that bunch up on their way to the server
BURST = 0.25  # of a second's requests: what may be made up for at once after a rest
DOUBLINGS = 16  # of a wait; far more than any limit on it


class Bucket:
    """A token bucket of which no second holds more than the rate.

    It fills at 85 % of the rate and holds a quarter of a second's requests, so what a stall missed is made up for.
    Beside it the times of the last requests are kept, 85 % of a second's: none is let through before the first of
    them is a second old, so a burst never adds to what was let through just before.

    Args:
        per_second: The limit.
        key: The config key, for messages.

    Source: the generic cell rate algorithm (ITU-T I.371), which is a token bucket without a timer.
    """

    def __init__(self, per_second: float, key: str = "per_second") -> None:
        rate = check_number(key, per_second, low=0.0, high=100_000.0, open_low=True)
        self._step_s = 1.0 / (FILL * rate)
        self._early_s = max(0.0, BURST * rate - 1.0) * self._step_s
        self._next_s = time.monotonic()
        self._last_s: deque[float] = deque(maxlen=max(1, int(FILL * rate)))
        self._queue = asyncio.Lock()  # first come, first served

    async def take(self) -> None:
        """Waits for its turn."""
        async with self._queue:
            while (wait := self._wait_s(time.monotonic())) > 0:
                await asyncio.sleep(wait)
            now = time.monotonic()
            self._next_s = max(self._next_s, now) + self._step_s
            self._last_s.append(now)

    def _wait_s(self, now: float) -> float:
        full = len(self._last_s) == self._last_s.maxlen
        return max(self._next_s - self._early_s, self._last_s[0] + 1.0 if full else now) - now

    def pause(self, seconds: float) -> None:
        """Lets nobody through for so long, those that wait already neither."""
        self._next_s = max(self._next_s, time.monotonic() + seconds + self._early_s)


def backoff_s(attempt: int, *, first_s: float, longest_s: float, draw: random.Random) -> float:
    """How long to wait after failed attempt number 1, 2, ...

    Returns:
        Seconds, drawn evenly from 0 to `first_s` doubled each time, at most to `longest_s`.

    Source: "full jitter" of M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog (2015).
    """
    return draw.uniform(0.0, min(longest_s, first_s * 2.0 ** min(attempt - 1, DOUBLINGS)))


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date (RFC 9110, section 10.2.3).

    Returns:
        At least 0; None where there is no such header or it makes no sense.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
