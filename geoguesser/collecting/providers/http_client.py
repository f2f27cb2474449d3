"""Web: one GET after another, within budget and pace, asked again where that may help. aiohttp is imported at use.

No URL and no exception of the HTTP library leaves this file, for both may hold a key.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, Self, TypeVar

from geoguesser import __version__
from geoguesser.collecting.budget import Budget, give_back, reserve, today
from geoguesser.collecting.database import Commits
from geoguesser.collecting.providers.http_responses import (
    AbsentError,
    AgainError,
    FailedError,
    Reply,
    StoppedError,
    by_status,
)
from geoguesser.collecting.providers.http_settings import Http, Kind
from geoguesser.collecting.providers.rate_limit import Bucket, backoff_s, retry_after_s
from geoguesser.errors import ProviderError

CHUNK = 2**16
T = TypeVar("T")


@dataclass
class Web:
    """Asks one provider. Use it with `async with`.

    Attributes:
        provider: Its name in the ledger.
        kinds: Of its requests.
        budget: What may be spent.
        http: How its server is dealt with.
        commits: Of the journal.
        stop: Once it is set nothing more is sent.
        counts: How often an attempt failed, by kind.
    """

    provider: str
    kinds: Mapping[str, Kind]
    budget: Budget
    http: Http
    commits: Commits
    stop: asyncio.Event
    counts: Counter[str] = field(default_factory=Counter)
    _session: Any = None
    _failed_in_row: int = 0

    async def __aenter__(self) -> Self:
        aiohttp = _aiohttp()
        self._buckets = {name: Bucket(kind.per_second) for name, kind in self.kinds.items()}
        self._draw = random.Random()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.http.concurrency),
            timeout=aiohttp.ClientTimeout(total=self.http.timeout_s, sock_connect=self.http.connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"geoguesser/{__version__}"},
        )
        # aiohttp sends a GET a second time by itself where a kept connection was closed; nobody would count that.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(
        self,
        kind: str,
        url: str,
        *,
        accept: str,
        read: Callable[[Reply], T],
        headers: Mapping[str, str] | None = None,
        heavy: bool = False,
        keyed: bool = True,
    ) -> T:
        """Asks until `read` takes the answer.

        Args:
            kind: Of the request, for price and pace.
            url: As it is sent; it may hold a key.
            accept: What a content type must begin with.
            read: Gives the result of an answer with status 200, or raises AgainError, AbsentError, FailedError or
                ProviderError.
            headers: Beside our own; they may hold a key.
            heavy: Run `read` in a thread, for it decodes images.
            keyed: Whether the key goes with it; a refusal then ends everything, else it fails this request.

        Raises:
            AbsentError: The answer is final.
            FailedError: No attempt worked, or the server does not take such a request.
            BudgetSpentError: The next attempt would pass a budget.
            StoppedError: The user stops.
            ProviderError: The provider refuses all of us, or is away.
        """
        for attempt in range(1, self.http.tries + 1):
            await self._turn(kind)
            try:
                reply = await self._send(url, headers or {}, accept, keyed)
                result = await asyncio.to_thread(read, reply) if heavy else read(reply)
            except AgainError as again:
                self.counts[again.kind] += 1
                if attempt == self.http.tries:
                    self._give_up(again.kind)
                await self._rest(kind, attempt, again)
            except FailedError as failed:
                self._give_up(str(failed))
            except AbsentError:
                self._failed_in_row = 0
                raise
            else:
                self._failed_in_row = 0
                return result
        raise AssertionError("the last attempt returns or raises")

    async def _turn(self, kind: str) -> None:
        """Reserves a request, then waits for its turn: what is sent is always reserved, on the day it is sent."""
        micros = self.kinds[kind].micros
        while not self.stop.is_set():
            day = today()
            await self.commits.change(
                partial(reserve, provider=self.provider, kind=kind, micros=micros, day=day, budget=self.budget)
            )
            await _unless(self.stop, self._buckets[kind].take())
            if today() == day and not self.stop.is_set():
                return
            await self.commits.change(
                partial(give_back, provider=self.provider, kind=kind, micros=micros, day=day)
            )
        raise StoppedError

    async def _rest(self, kind: str, attempt: int, again: AgainError) -> None:
        """Waits as the provider asks, and then all do; else by backoff, alone."""
        http = self.http
        if again.wait_s is not None:
            if again.wait_s > http.longest_wait_s:
                raise ProviderError(
                    f"{self.provider} asks to wait {again.wait_s:.0f} s ({again.kind}), which is longer than "
                    f"http.longest_wait_s={http.longest_wait_s:g}. Run the same command again later: it goes on."
                )
            self._buckets[kind].pause(again.wait_s)
        wait = backoff_s(attempt, first_s=http.first_wait_s, longest_s=http.longest_wait_s, draw=self._draw)
        await _unless(self.stop, asyncio.sleep(wait if again.wait_s is None else again.wait_s))

    def _give_up(self, kind: str) -> NoReturn:
        self._failed_in_row += 1
        if self._failed_in_row >= self.http.give_up_after:
            raise ProviderError(
                f"{self.provider}: the last {self._failed_in_row} requests failed in up to {self.http.tries} "
                f"attempts each, the last one by {kind}. The server is away, or does not take what is asked. Run "
                "the same command again later: it goes on."
            )
        raise FailedError(kind)

    async def _send(self, url: str, headers: Mapping[str, str], accept: str, keyed: bool) -> Reply:
        """One attempt; statuses that mean the same everywhere are dealt with here."""
        aiohttp = _aiohttp()
        from yarl import URL

        try:
            target = URL(url, encoded=True)  # as it was signed
            async with self._session.get(target, headers=headers, allow_redirects=False) as response:
                wait = retry_after_s(response.headers.get("Retry-After"))
                body = await self._body(response)
                reply = Reply(response.status, response.content_type.lower(), wait, body)
        except TimeoutError:
            raise AgainError("timeout") from None
        except aiohttp.ClientPayloadError:
            raise AgainError("truncated_answer") from None
        except aiohttp.ClientConnectorError:
            raise AgainError("no_connection") from None
        except (aiohttp.ClientError, OSError):
            raise AgainError("broken_connection") from None
        return by_status(self.provider, reply, accept, keyed=keyed)

    async def _body(self, response: Any) -> bytes:
        most = int(self.http.most_mib * 2**20)
        parts, size = [], 0
        async for part in response.content.iter_chunked(CHUNK):
            size += len(part)
            if size > most:
                response.close()
                raise FailedError("answer_too_long")  # as it will be the next time, and may be paid for
            parts.append(part)
        return b"".join(parts)


async def _unless(stop: asyncio.Event, work: Any) -> None:
    """Waits for `work`, or until `stop` is set, whichever comes first."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        stopped.cancel()


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ProviderError(
            "Asking a provider needs the package aiohttp, which is not installed. "
            "Install the extra: pip install 'geoguesser[collect]'"
        ) from error
    return aiohttp
