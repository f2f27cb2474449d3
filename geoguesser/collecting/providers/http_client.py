"""HTTP client of a provider: GET requests within budget and rate limit, with retries.

Error messages never contain a URL or an exception of the HTTP library, because either may contain the API key.
aiohttp is an optional dependency and is imported when it is used.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, Self, TypeVar

from geoguesser.collecting.budget import Budget, release_request, reserve_request, utc_today
from geoguesser.collecting.database import CommitQueue
from geoguesser.collecting.providers.http_responses import (
    CancelledError,
    HttpResponse,
    NotFoundError,
    RequestFailedError,
    RetryableError,
    check_status,
)
from geoguesser.collecting.providers.http_settings import HttpSettings, RequestKind
from geoguesser.collecting.providers.rate_limit import RateLimiter, compute_backoff_s, parse_retry_after
from geoguesser.errors import ProviderError
from geoguesser.system.versions import __version__

CHUNK_BYTES = 2**16
T = TypeVar("T")


@dataclass
class HttpClient:
    """Sends requests to one provider; an async context manager.

    Attributes:
        provider: Name of the provider in the database and in messages.
        request_kinds: Price and rate limit by kind of request.
        commit_queue: Writes budget reservations (requests counted before they are sent) to the database.
        stop: Once it is set, no further request is sent.
        failure_counts: Number of failed attempts by reason.
    """

    provider: str
    request_kinds: Mapping[str, RequestKind]
    budget: Budget
    settings: HttpSettings
    commit_queue: CommitQueue
    stop: asyncio.Event
    failure_counts: Counter[str] = field(default_factory=Counter)
    _session: Any = None
    _consecutive_failures: int = 0

    async def __aenter__(self) -> Self:
        aiohttp = _import_aiohttp()
        self._limiters = {name: RateLimiter(kind.per_second) for name, kind in self.request_kinds.items()}
        self._rng = random.Random()

        timeout = aiohttp.ClientTimeout(
            total=self.settings.timeout_s, sock_connect=self.settings.connect_timeout_s
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.settings.concurrency),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"geoguesser/{__version__}"},
        )
        # By default aiohttp repeats a GET if the server closed a kept-alive connection. Such a request would be
        # sent without a reservation in the budget.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(
        self,
        kind: str,
        url: str,
        *,
        content_type: str,
        parse: Callable[[HttpResponse], T],
        headers: Mapping[str, str] | None = None,
        in_thread: bool = False,
        authenticated: bool = True,
    ) -> T:
        """Sends a GET request, and repeats it until `parse` accepts the response.

        Args:
            kind: Kind of request, which has its price and rate limit.
            url: Address as it is sent; it may contain a key.
            content_type: Prefix that the response's content type must have.
            parse: Converts a response with status 200 to the result, or raises RetryableError, NotFoundError,
                RequestFailedError or ProviderError.
            headers: Additional headers; they may contain a key.
            in_thread: Runs `parse` in a thread, for parsers that decode images.
            authenticated: Whether the request carries the key. If true, a refused key (status 401 or 403) ends the
                run. If false, only this request fails.

        Raises:
            NotFoundError: The requested item does not exist.
            RequestFailedError: No attempt succeeded, or the server does not accept this request.
            BudgetExceededError: The next attempt would exceed a budget.
            CancelledError: The run is stopping.
            ProviderError: The provider refuses the key, or is unavailable.
        """
        for attempt in range(1, self.settings.max_attempts + 1):
            await self._reserve_and_wait(kind)
            try:
                response = await self._send(url, headers or {})
                check_status(self.provider, response, content_type, authenticated=authenticated)
                result = await asyncio.to_thread(parse, response) if in_thread else parse(response)
            except RetryableError as error:
                self.failure_counts[error.reason] += 1
                if attempt == self.settings.max_attempts:
                    self._raise_failure(error.reason)
                await self._wait_for_retry(kind, attempt, error)
            except RequestFailedError as error:
                self._raise_failure(str(error))
            except NotFoundError:
                # The server responded, so it is available.
                self._consecutive_failures = 0
                raise
            else:
                self._consecutive_failures = 0
                return result
        raise AssertionError("the last attempt returns or raises")

    async def _reserve_and_wait(self, kind: str) -> None:
        """Reserves the price of a request in the budget, then waits for the rate limiter.

        The order guarantees that no request is sent without a reservation. If the day changes during the wait, the
        reservation moves to the new day, because daily budgets count requests on the day that they are sent.
        """
        price_micro_usd = self.request_kinds[kind].micros
        request: dict[str, Any] = {"provider": self.provider, "kind": kind, "micros": price_micro_usd}
        while not self.stop.is_set():
            day = utc_today()
            await self.commit_queue.write(partial(reserve_request, **request, day=day, budget=self.budget))
            await _wait_unless_stopped(self.stop, self._limiters[kind].acquire())
            if utc_today() == day and not self.stop.is_set():
                return
            await self.commit_queue.write(partial(release_request, **request, day=day))
        raise CancelledError

    async def _wait_for_retry(self, kind: str, attempt: int, error: RetryableError) -> None:
        """Waits before the next attempt: as long as the provider asked, otherwise by random backoff.

        A wait that the provider asked for holds back all requests of this kind.
        """
        base_s, max_s, wait_s = self.settings.backoff_base_s, self.settings.backoff_max_s, error.wait_s

        if wait_s is None:
            wait_s = compute_backoff_s(attempt, base_s=base_s, max_s=max_s, rng=self._rng)
        elif wait_s > max_s:
            raise ProviderError(
                f"{self.provider} asks to wait {wait_s:.0f} s ({error.reason}), which is longer than "
                f"http.backoff_max_s={max_s:g}. Run the same command again later to continue."
            )
        else:
            self._limiters[kind].pause(wait_s)
        await _wait_unless_stopped(self.stop, asyncio.sleep(wait_s))

    def _raise_failure(self, reason: str) -> NoReturn:
        """Raises RequestFailedError, or ProviderError after too many consecutive failures."""
        self._consecutive_failures += 1
        if self._consecutive_failures >= self.settings.max_consecutive_failures:
            raise ProviderError(
                f"{self.provider}: the last {self._consecutive_failures} requests failed, each after up to "
                f"{self.settings.max_attempts} attempts (last reason: {reason}). The server is unavailable or "
                "does not accept these requests. Run the same command again later to continue."
            )
        raise RequestFailedError(reason)

    async def _send(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """Makes one attempt. Errors of the library are replaced, not chained: their text may contain the URL."""
        aiohttp = _import_aiohttp()
        from yarl import URL

        try:
            # The signature in the URL covers this exact text, so yarl must not encode it again.
            target = URL(url, encoded=True)
            async with self._session.get(target, headers=headers, allow_redirects=False) as response:
                retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
                body = await self._read_body(response)
                return HttpResponse(response.status, response.content_type.lower(), retry_after_s, body)
        except TimeoutError:
            raise RetryableError("timeout") from None
        except aiohttp.ClientPayloadError:
            raise RetryableError("truncated_answer") from None
        except aiohttp.ClientConnectorError:
            raise RetryableError("no_connection") from None
        except (aiohttp.ClientError, OSError):
            raise RetryableError("broken_connection") from None

    async def _read_body(self, response: Any) -> bytes:
        max_bytes = int(self.settings.max_response_mib * 2**20)
        body = bytearray()

        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > max_bytes:
                response.close()
                # No retry: a second response would be just as long, and each attempt may be charged.
                raise RequestFailedError("answer_too_long")
        return bytes(body)


async def _wait_unless_stopped(stop: asyncio.Event, awaitable: Any) -> None:
    """Returns when `awaitable` is done, or when `stop` is set: then `awaitable` is cancelled."""
    task, stopped = asyncio.ensure_future(awaitable), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            # Raises the task's error, if it has one.
            task.result()
    finally:
        task.cancel()
        stopped.cancel()


def _import_aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ProviderError(
            "Requests to a provider need the package aiohttp, which is not installed. "
            "Install the extra: pip install 'geoguesser[collect]'"
        ) from error
    return aiohttp
