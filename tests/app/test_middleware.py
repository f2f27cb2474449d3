"""The gate over a real socket: hosts, origins, sizes, times, and how many."""

from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.websockets import WebSocketDisconnect
from support.waiting import wait_until

from geoguesser.app import server as server_module

API = "/api/v1"


def spoken(address: str, *parts: bytes, pause_s: float = 0.0, wait_s: float = 10.0) -> bytes:
    """Says these bytes to a server, one part after the other, and returns all that it answers."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=wait_s) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(pause_s)
        found = b""
        try:
            while more := line.recv(65536):
                found += more
        except (TimeoutError, ConnectionResetError):
            pass
        return found


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "[", "a@b"]
)
def test_other_hosts_are_refused(client, host):
    answer = client().get(f"{API}/health", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8123", "LOCALHOST", "[::1]:80", "127.0.0.1:1"])
def test_own_hosts_are_let_in(client, host):
    assert client().get(f"{API}/health", headers={"Host": host}).status_code == 200


def test_any_host_where_none_is_named(client):
    assert client(hosts=None).get(f"{API}/health", headers={"Host": "maps.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://[x"},
    ],
)
def test_pages_of_other_sites_may_not_post(client, headers):
    answer = client().post(f"{API}/games", json={}, headers=headers)
    assert answer.status_code == 403
    own = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    assert client().post(f"{API}/games", json={}, headers=own).status_code == 201


def test_too_large_is_refused_before_it_is_read(server, place):
    with server(upload_mib=0.01) as address:
        declared = b"POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
        answer = spoken(address, declared)  # and not one byte of it is sent
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"at most 10,485 bytes" in answer
        begun = b'--y\r\nContent-Disposition: form-data; name="north"; filename="a.jpg"\r\n\r\n'
        chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        first = b"%x\r\n" % len(begun) + begun + b"\r\n"
        kind = b"Content-Type: multipart/form-data; boundary=y\r\n"
        head = (
            b"POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        assert spoken(address, head, first, chunk, chunk).startswith(b"HTTP/1.1 413 ")  # it never ends
        small = httpx.post(f"{address}api/v1/games", content=b"{" + b" " * 70_000 + b"}")
        assert small.status_code == 413


def test_what_does_not_arrive_in_time(server):
    with server(upload_s=0.3) as address:
        kind = b"Content-Type: application/json\r\n"
        head = b"POST /api/v1/games HTTP/1.1\r\nHost: localhost\r\n" + kind + b"Content-Length: 20\r\n\r\n"
        answer = spoken(address, head, b"{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"must arrive within 0.3 s" in answer


def test_headers_that_never_end(server, monkeypatch):
    monkeypatch.setattr(server_module, "HEADERS_S", 0.3)
    with server() as address:
        start = time.monotonic()
        assert spoken(address, b"GET / HTTP/1.1\r\n", b"A: b\r\n", pause_s=0.1) == b""
        assert time.monotonic() - start < 5
        whole = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        again = spoken(address, whole, b"GET / HTT", pause_s=0.2)  # the second request of one connection
        assert again.startswith(b"HTTP/1.1 200 ")
        assert httpx.get(f"{address}api/v1/health").status_code == 200


def test_headers_without_end_are_too_many(server):
    with server() as address:
        answer = spoken(address, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
        assert b" 400 " in answer.splitlines()[0]


def test_an_answer_that_takes_too_long(client, models, monkeypatch, place):
    release = threading.Event()
    monkeypatch.setattr(models[0].ensemble, "predict", lambda *words: release.wait(60))
    photo = {"north": ("a", (place / "0.jpg").read_bytes())}
    answer = client(request_s=0.2).post(f"{API}/predict", files=photo)
    release.set()
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The answer took too long."}


def test_more_than_the_server_takes_on(server, models, monkeypatch, place):
    real, release = models[0].ensemble.predict, threading.Event()

    def held(*words):
        assert release.wait(60)
        return real(*words)

    monkeypatch.setattr(models[0].ensemble, "predict", held)
    photo = {"north": ("a", (place / "0.jpg").read_bytes())}
    served: list[int] = []
    with server(requests=2, batch=1) as address:

        def ask() -> httpx.Response:
            return httpx.post(f"{address}api/v1/predict", files=photo, timeout=60)

        people = [threading.Thread(target=lambda: served.append(ask().status_code)) for _ in range(2)]
        for person in people:
            person.start()
        wait_until(lambda: httpx.get(f"{address}api/v1/health").json()["at_work"] == 2)
        large = httpx.post(f"{address}api/v1/predict", files={"north": ("a", bytes(2**22))}, timeout=60)
        for refused in (ask(), large):
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert "as much to do" in json.loads(refused.text)["detail"]
        release.set()
        for person in people:
            person.join()
        assert ask().status_code == 200
    assert served == [200, 200]


def test_no_web_sockets(client):
    one = client()
    with pytest.raises(WebSocketDisconnect) as refused, one.websocket_connect("/api/v1/health"):
        pass
    assert refused.value.code == 1008
