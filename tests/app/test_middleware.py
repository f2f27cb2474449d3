"""Tests of the middleware and the server: hosts, origins, sizes, times and the number of requests."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.websockets import WebSocketDisconnect
from support.waiting import wait_until

from geoguesser.app import server

API = "/api/v1"


def send_bytes(address: str, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Sends bytes to a server, part by part, and returns everything that it responds."""
    url = urlsplit(address)
    response = b""

    with socket.create_connection((url.hostname, url.port), timeout=10.0) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)

        try:
            while data := connection.recv(65536):
                response += data
        except (TimeoutError, ConnectionResetError):
            pass
    return response


def make_head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {API}/{path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@pytest.fixture
def photo(place):
    """Form with one photo."""
    return {"north": ("a", (place / "0.jpg").read_bytes())}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(host, 421) for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "")],
        *[(host, 421) for host in ("[::2]", "[", "a@b")],
        *[(host, 200) for host in ("127.0.0.1", "localhost:8123", "LOCALHOST", "[::1]:80", "127.0.0.1:1")],
    ],
)
def test_only_the_servers_own_names_are_accepted(client, host, status):
    assert client.get(f"{API}/health", headers={"Host": host}).status_code == status


def test_without_names_every_host_is_accepted(make_client):
    assert make_client(hosts=None).get(f"{API}/health", headers={"Host": "maps.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://[x"}, 403),
        ({"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}, 201),
    ],
)
def test_pages_of_other_sites_may_not_post(client, headers, status):
    assert client.post(f"{API}/games", json={}, headers=headers).status_code == status


def test_large_requests_are_refused_before_they_are_read(serve):
    with serve(upload_mib=0.01) as address:
        # The body is declared and never sent.
        response = send_bytes(address, make_head("predict", "Content-Length: 99999999"))
        assert response.startswith(b"HTTP/1.1 413 ")
        assert b"at most 10,485 bytes" in response

        # A chunked body declares no length; this one never ends.
        form = b'--y\r\nContent-Disposition: form-data; name="north"; filename="a.jpg"\r\n\r\n'
        first, chunk = (b"%x\r\n%b\r\n" % (len(data), data) for data in (form, b"x" * 0x2000))
        content_type = "Content-Type: multipart/form-data; boundary=y"
        head = make_head("predict", content_type, "Transfer-Encoding: chunked")
        assert send_bytes(address, head, first, chunk, chunk).startswith(b"HTTP/1.1 413 ")

        json = httpx.post(f"{address}api/v1/games", content=b"{" + b" " * 70_000 + b"}")
        assert json.status_code == 413


def test_slow_requests_are_refused(serve):
    with serve(upload_s=0.3) as address:
        head = make_head("games", "Content-Type: application/json", "Content-Length: 20")
        response = send_bytes(address, head, b"{")
        assert response.startswith(b"HTTP/1.1 408 ")
        assert b"must arrive within 0.3 s" in response


def test_large_headers_are_refused(serve):
    with serve() as address:
        response = send_bytes(address, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
        assert b" 400 " in response.splitlines()[0]


def test_connections_whose_headers_never_complete_are_closed(serve, monkeypatch):
    monkeypatch.setattr(server, "MAX_HEADERS_S", 0.3)
    with serve() as address:
        start_s = time.monotonic()
        assert send_bytes(address, b"GET / HTTP/1.1\r\n", b"A: b\r\n", pause_s=0.1) == b""
        assert time.monotonic() - start_s < 5

        # The time limit also holds for the second request on a connection.
        complete = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        response = send_bytes(address, complete, b"GET / HTT", pause_s=0.2)
        assert response.startswith(b"HTTP/1.1 200 ")
        assert httpx.get(f"{address}api/v1/health").status_code == 200


def test_a_connection_with_an_unread_body_is_closed_after_the_response(serve):
    """uvicorn waited without limit for the rest of a body, so that a few clients took all connections."""
    with serve() as address:
        head = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
        start_s = time.monotonic()
        assert send_bytes(address, head, b"x", pause_s=0.3).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - start_s < 4


def test_a_client_that_does_not_read_is_cut_off(serve, monkeypatch, caplog):
    monkeypatch.setattr(server, "MAX_HEADERS_S", 0.3)
    with serve(request_s=0.5) as address:
        url = urlsplit(address)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect((url.hostname, url.port))
            connection.sendall(300 * b"GET /page/leaflet.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(2)

            # The server has reset the connection: reading ends with an error, and not with all responses.
            num_bytes = 0
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    num_bytes += len(data)
        assert num_bytes < 40_000_000
    assert "Traceback" not in caplog.text


def test_a_response_that_takes_too_long(make_client, models, monkeypatch, photo):
    release = threading.Event()
    monkeypatch.setattr(models[0].ensemble, "predict", lambda *args: release.wait(60))
    response = make_client(request_s=0.2).post(f"{API}/predict", files=photo)
    release.set()
    assert response.status_code == 503
    assert "took too long" in response.json()["detail"]


def test_requests_beyond_the_limit_are_refused(serve, models, monkeypatch, photo):
    answer, release = models[0].ensemble.predict, threading.Event()

    def answer_later(*args):
        assert release.wait(60)
        return answer(*args)

    monkeypatch.setattr(models[0].ensemble, "predict", answer_later)
    statuses: list[int] = []
    with serve(requests=2, batch=1) as address:

        def post(files=photo) -> httpx.Response:
            return httpx.post(f"{address}api/v1/predict", files=files, timeout=60)

        threads = [threading.Thread(target=lambda: statuses.append(post().status_code)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: httpx.get(f"{address}api/v1/health").json()["at_work"] == 2)

        # A client sees the refusal even if it is still sending a large body.
        for refused in (post(), post({"north": ("a", bytes(2**22))})):
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert "limit of requests" in refused.json()["detail"]

        release.set()
        for thread in threads:
            thread.join()
        assert post().status_code == 200
    assert statuses == [200, 200]


def test_web_sockets_are_refused(client):
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/api/v1/health"):
        pass
    assert refused.value.code == 1008
