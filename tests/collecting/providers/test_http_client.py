"""HTTP client over sockets: faults, retries, budgets and rate limits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web as aioweb
from support.http_clients import use_client
from support.provider_server import KEY, ProviderServer

from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import CancelledError, NotFoundError, RequestFailedError
from geoguesser.collecting.providers.http_settings import RequestKind
from geoguesser.errors import ProviderError


def send_requests(
    folder: Path, ask: Callable[[HttpClient], Any], *, per_second: float = 1000.0, **settings: Any
) -> tuple[Any, HttpClient, int]:
    """Runs `ask(client)`, and returns its result or error, the client, and the number of reserved requests."""
    return use_client(folder, ask, kinds={"image": RequestKind(7000, per_second)}, **settings)


def get(url: str, **options: bool) -> Callable[[HttpClient], Any]:
    return lambda client: client.get(
        "image", url, content_type="image/", parse=lambda reply: reply.body, **options
    )


def get_many(server: ProviderServer, count: int) -> Callable[[HttpClient], Any]:
    requests = [get(image_url(server, f"p{number}")) for number in range(count)]
    return lambda client: asyncio.gather(*(request(client) for request in requests), return_exceptions=True)


def image_url(server: ProviderServer, pano: str = "p", heading: int = 0) -> str:
    return f"{server.google}?pano={pano}&heading={heading}&size=64x64&key={KEY}&return_error_code=true"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", "too_many_requests"),
        ("429 date", "too_many_requests"),
        ("500", "server_error"),
        ("slow", "timeout"),
        ("truncated", "truncated_answer"),
        ("wrong type", "wrong_content_type"),
        ("cut", "broken_connection"),
    ],
)
def test_each_fault_is_asked_again_so_often_and_counted(fault: str, kind: str, tmp_path: Path):
    with ProviderServer(faults=(fault,), fault_share=1.0, slow_s=2.0, retry_after_s=0) as server:
        timeout_s = 0.3 if fault == "slow" else 20
        error, client, paid = send_requests(tmp_path, get(image_url(server)), timeout_s=timeout_s)
    assert isinstance(error, RequestFailedError)
    assert str(error) == kind
    assert dict(client.failure_counts) == {kind: 4}
    assert [entry.outcome for entry in server.log] == [fault] * 4
    assert paid == 4


def test_retry_after_holds_all_back(tmp_path: Path):
    with ProviderServer(faults=("429",), fault_share=0.5, retry_after_s=1) as server:
        bodies, _, paid = send_requests(tmp_path, get_many(server, 4), max_attempts=9)
        assert [len(body) > 500 for body in bodies] == [True] * 4
    refused = [entry.at_s for entry in server.log if entry.outcome == "429"]
    assert refused
    first = min(refused)
    later = [entry.at_s for entry in server.log if entry.at_s > first + 0.2]
    assert min(later) >= first + 0.95
    assert paid == len(server.log)


def test_a_wait_that_is_too_long_ends_it(tmp_path: Path):
    with ProviderServer(faults=("429",), fault_share=1.0, retry_after_s=3600) as server:
        error, _, paid = send_requests(tmp_path, get(image_url(server)))
    assert isinstance(error, ProviderError)
    assert "asks to wait 3600 s (too_many_requests), which is longer than http.backoff_max_s=5" in str(error)
    assert paid == 1


def test_a_server_that_is_away_ends_it_soon(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/?key={KEY}"

        async def ask(client: HttpClient) -> None:
            for _ in range(5):
                with pytest.raises(RequestFailedError):
                    await get(url)(client)

        error, client, paid = send_requests(tmp_path, ask, max_attempts=2, max_consecutive_failures=3)
    assert isinstance(error, ProviderError)
    assert str(error).startswith("p: the last 3 requests failed")
    assert KEY not in str(error)
    assert (paid, client.failure_counts["no_connection"]) == (6, 6)


@pytest.mark.parametrize(
    ("status", "authenticated", "message", "error"),
    [
        (404, True, "not_there", NotFoundError),
        (400, True, "http_400", RequestFailedError),
        (302, True, "http_302", RequestFailedError),
        *[(code, True, f"p refuses the key or the account (HTTP {code}).", ProviderError) for code in (401, 403)],
        *[(code, False, f"http_{code}", RequestFailedError) for code in (401, 403)],
    ],
)
def test_final_answers_are_not_asked_again(
    status: int, authenticated: bool, message: str, error: type[Exception], tmp_path: Path
):
    response = partial(aioweb.Response, status=status, headers={"Location": "/other"})
    with ProviderServer(answer=lambda request: response()) as server:
        result, _, paid = send_requests(tmp_path, get(image_url(server), authenticated=authenticated))
    assert isinstance(result, error)
    assert str(result).startswith(message)
    # A redirect is not followed.
    assert (paid, len(server.log)) == (1, 1)


def test_a_long_answer_is_not_read(tmp_path: Path):
    response = partial(aioweb.Response, body=bytes(10**6), content_type="image/jpeg")
    with ProviderServer(answer=lambda request: response()) as server:
        error, _, paid = send_requests(tmp_path, get(image_url(server)), max_attempts=2)
    assert isinstance(error, RequestFailedError)
    assert (str(error), paid) == ("answer_too_long", 1)  # it would be as long, and as dear, the next time


def test_no_request_is_sent_that_is_not_in_the_ledger(tmp_path: Path):
    """If a connection closes during a second request, aiohttp by default repeats that without notice."""
    calls = 0

    def answer(request: aioweb.Request) -> aioweb.Response:
        nonlocal calls
        calls += 1
        if calls == 2:
            request.transport.abort()
        return aioweb.Response(body=b"x", content_type="image/jpeg")

    async def ask(client: HttpClient) -> None:
        for _ in range(2):
            await get(image_url(server))(client)

    with ProviderServer(answer=answer) as server:
        _, client, paid = send_requests(tmp_path, ask)
    assert paid == len(server.log) == 3
    assert dict(client.failure_counts) == {"broken_connection": 1}


def test_stopping_sends_nothing_more_and_gives_back_what_was_not_sent(tmp_path: Path):
    with ProviderServer() as server:

        async def ask(client: HttpClient) -> list:
            requests = get_many(server, 10)(client)
            await asyncio.sleep(0.6)
            client.stop.set()
            return await requests

        results, _, paid = send_requests(tmp_path, ask, per_second=5.0)
    assert sum(isinstance(result, CancelledError) for result in results) >= 5
    assert paid == len(server.log) == sum(isinstance(result, bytes) for result in results)
