"""Who may use the server: a token, a session, and limits for each client."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
from conftest import ROOT, compose
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from support.app_server import build_app, make_toy_models, serve_models
from support.image_attacks import encode
from support.waiting import wait_until

from geoguesser.app.access import COOKIE, TOKEN_VARIABLE, Access
from geoguesser.app.limits import Limits, find_client
from geoguesser.app.middleware import SECURITY_HEADERS
from geoguesser.app.registry import ServedModel
from geoguesser.commands import serve
from geoguesser.commands.serve import run_serve
from geoguesser.errors import ConfigError

TOKEN = "8mP1-a_token.of-32~characters+/="
PHOTO = encode(Image.new("RGB", (64, 48), "olive"))
LATIN_TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def models() -> list[ServedModel]:
    return make_toy_models()


@pytest.fixture(scope="module")
def app(models) -> Any:
    return build_app(models, access=Access(TOKEN))


@pytest.fixture
def client(app) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


PATHS = (
    *("/", "/api", "/api/openapi.json", "/api/v1/health", "/api/v1/models", "/api/v1/models/toy/cells"),
    *("/api/v1/games/a", "/nothing", "/page", "/login/", "//login", "/loginx", "/%2flogin", "/api/page/style.css"),
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_nothing_is_answered_without_the_token(client, method, path):
    response = client.request(method, f"http://127.0.0.1{path}")
    if response.status_code == 303:
        assert (method, response.headers["location"], response.content) == ("GET", "/login", b"")
        assert not path.startswith("/api/")
    else:
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \xff"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": COOKIE},
        {"X-Token": TOKEN},
    ],
)
def test_other_credentials_are_refused(client, headers):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    assert client.get("/api/v1/health", headers=encoded).status_code == 401


@given(token=LATIN_TEXT | st.just(TOKEN), cookie=LATIN_TEXT)
def test_only_the_token_itself_is_accepted(token, cookie):
    headers = Headers({"authorization": f"Bearer {token}", "cookie": f"{COOKIE}={cookie}"})
    assert Access(TOKEN).allows("/", headers) == (token.strip() == TOKEN)


def test_the_token_as_a_header(models):
    with TestClient(build_app(models, access=Access(TOKEN)), base_url="http://127.0.0.1") as client:
        assert client.get("/api/v1/models", headers=BEARER).status_code == 200
        response = client.post("/api/v1/predict", files={"north": ("a.jpg", PHOTO)}, headers=BEARER)
        assert response.status_code == 200
        # Other checks precede the token.
        assert client.get("/api/v1/models", headers=BEARER | {"Host": "evil.example"}).status_code == 421
        headers = BEARER | {"Origin": "http://evil.example"}
        assert client.post("/api/v1/games", json={}, headers=headers).status_code == 403


def test_the_login_form_gives_a_cookie_that_is_not_the_token(client):
    form = client.get("/login")
    assert (form.status_code, form.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "form-action 'self'" in form.headers["content-security-policy"]
    assert client.get("/page/style.css").status_code == 200

    wrong = client.post("/login", data={"token": "x" * 32})
    assert wrong.status_code == 403
    assert 'role="alert">' in wrong.text
    assert "set-cookie" not in wrong.headers

    response = client.post("/login", data={"token": f" {TOKEN} "})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/api/v1/models").status_code == 200

    # After the next start the cookie is no longer valid.
    assert not Access(TOKEN).allows("/", Headers({"cookie": cookie.partition(";")[0]}))


def test_behind_a_proxy_with_encryption_the_cookie_is_secure(client):
    response = client.post("/login", data={"token": TOKEN}, headers={"Origin": "https://127.0.0.1"})
    assert "Secure" in response.headers["set-cookie"].split("; ")


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Origin": "http://evil.example"}, f"token={TOKEN}"),
        ({"Sec-Fetch-Site": "cross-site"}, f"token={TOKEN}"),
        ({}, f"token=a&token={TOKEN}"),
        ({}, "x=y"),
        ({}, ""),
        ({}, b"\xff\xfe=%ff%00"),
        ({"Content-Type": "application/json"}, f'{{"token": "{TOKEN}"}}'),
        ({"Content-Type": "multipart/form-data; boundary=y"}, "--y\r\nbroken"),
        ({}, "token=" + "x" * 100_000),
    ],
)
def test_other_logins_are_refused(client, headers, content):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/login", content=content, headers=form | headers)
    assert response.status_code in (400, 403, 413)
    assert "set-cookie" not in response.headers


def test_without_a_token_there_is_no_login(models):
    client = TestClient(build_app(models), base_url="http://127.0.0.1")
    assert client.get("/login").status_code == 404
    assert client.get("/").status_code == 200


@pytest.fixture
def stop_before_models(monkeypatch):
    """Ends the command where it would load models."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setattr(serve, "load_models", lambda *args: [])
    reached: list[Any] = []
    monkeypatch.setattr("geoguesser.app.api.make_app", lambda *args, **kwargs: reached.append(kwargs))
    monkeypatch.setattr("geoguesser.app.server.run_until_stopped", lambda *args: None)
    return reached


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'"])
def test_other_machines_need_the_token(stop_before_models, host, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    words = ["run=r", "port=0", f"host={host}"]
    with pytest.raises(ConfigError, match=r"^token must be given.*GEOGUESSER_TOKEN.*allow_anonymous=true"):
        run_serve(compose(words, "serve"))
    assert stop_before_models == []

    run_serve(compose([*words, "allow_anonymous=true"], "serve"))
    assert stop_before_models.pop() == {"hosts": None, "access": None}
    assert "every machine that can reach this one can use the server without a token" in caplog.text

    caplog.clear()
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    run_serve(compose(words, "serve"))
    assert stop_before_models.pop()["access"].is_token(TOKEN)
    assert "every machine that can reach this one can use the server with the token" in caplog.text
    assert TOKEN not in caplog.text


def test_this_machine_needs_no_token(stop_before_models, caplog):
    caplog.set_level(logging.INFO)
    for host in ("127.0.0.1", "localhost", "127.0.0.2"):
        run_serve(compose(["run=r", "port=0", f"host={host}"], "serve"))
        settings = stop_before_models.pop()
        assert settings["access"] is None
        assert {host, "127.0.0.1"} <= set(settings["hosts"])
    assert "Only this machine can reach the server" in caplog.text


@pytest.mark.parametrize("token", ["short", "12345678901234567890", "'with spaces in the token'", "[a,b]", "''"])
def test_a_token_that_is_none_is_not_repeated(stop_before_models, token, monkeypatch):
    with pytest.raises(ConfigError, match=r"^token must be text of 16 to 200") as error:
        run_serve(compose(["run=r", "port=0", f"token={token}"], "serve"))
    assert token.strip("'") == "" or token.strip("'") not in str(error.value)

    monkeypatch.setenv(TOKEN_VARIABLE, "short one")
    with pytest.raises(ConfigError, match=r"^GEOGUESSER_TOKEN must be text of 16 to 200") as error:
        run_serve(compose(["run=r", "port=0"], "serve"))
    assert "short one" not in str(error.value)


@pytest.mark.slow
def test_the_command_writes_the_token_nowhere(tmp_path):
    words = ["run=/none/such", "port=0", f"token='{TOKEN}'", "host=0.0.0.0"]
    process = subprocess.run(
        [sys.executable, "-m", "geoguesser.serve", *words],
        check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True,
    )  # fmt: skip
    assert "must be a run folder" in process.stderr
    assert TOKEN not in process.stdout + process.stderr
    assert list(tmp_path.iterdir()) == []


def test_clients_are_addresses_or_networks():
    assert find_client("192.0.2.7") == "192.0.2.7"
    assert find_client("::ffff:192.0.2.7") == "192.0.2.7"
    assert find_client("2001:db8::1") == find_client("2001:db8::ffff:1") == "2001:db8::/64"
    assert find_client("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert find_client("fe80::1%eth0") == "fe80::/64"
    assert (find_client("testclient"), find_client(None)) == ("testclient", "")


def test_one_client_cannot_hold_all_requests(models, monkeypatch):
    answer, release = models[0].ensemble.predict, threading.Event()
    monkeypatch.setattr(models[0].ensemble, "predict", lambda *args: release.wait(60) and answer(*args))
    app = build_app(models, client_requests=2, batch=1)

    def post(client: TestClient) -> httpx.Response:
        return client.post("/api/v1/predict", files={"north": ("a.jpg", PHOTO)})

    # Both clients use the loop of the first.
    with TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.1", 1)) as greedy:
        other = TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.2", 1))
        other.portal = greedy.portal
        responses: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: responses.append(post(greedy))) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: greedy.get("/api/v1/health").json()["at_work"] == 2)

        refused = post(greedy)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "This client has reached its limit" in refused.json()["detail"]
        threads.append(threading.Thread(target=lambda: responses.append(post(other))))
        threads[-1].start()
        wait_until(lambda: greedy.get("/api/v1/health").json()["at_work"] == 3)
        release.set()
        for thread in threads:
            thread.join()
        assert [response.status_code for response in responses] == [200] * 3
        assert post(greedy).status_code == 200


def test_one_client_cannot_hold_all_connections(models):
    with serve_models(models, client_connections=3) as address:
        host, port = re.findall(r"//([\d.]+):(\d+)/", address)[0]
        held = [socket.create_connection((host, int(port)), timeout=10) for _ in range(3)]
        data = b""
        with socket.create_connection((host, int(port)), timeout=10) as refused:
            while part := refused.recv(4096):
                data += part
        assert data.startswith(b"HTTP/1.1 503 ")
        assert b"limit of connections" in data

        # Another address of this machine is another client.
        with socket.create_connection((host, int(port)), timeout=10, source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(4096).startswith(b"HTTP/1.1 200 ")

        held.pop().close()
        wait_until(lambda: _can_connect(address))
        for connection in held:
            connection.close()


def _can_connect(address: str) -> bool:
    try:
        return httpx.get(f"{address}api/v1/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_client_has_a_part_of_the_limits():
    limits = Limits()
    assert limits.client_requests < limits.requests
    assert limits.client_connections < limits.connections
