"""Gate: what every request passes before the application sees it, and every answer after. Plain ASGI.

Whose page asks, for which host; how much arrives and how fast; how many are at work; and the headers that keep a
browser from loading or framing anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geoguesser.app.limits import MAX_JSON_BYTES, Limits
from geoguesser.app.problems import ProblemError, make_problem_response

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
}


class RequestFilter:
    """Lets requests through to an application.

    Args:
        app: The application.
        limits: What it takes on.
        hosts: The names by which it may be called; None for any. A page elsewhere whose own name is made to lead
            to this machine (DNS rebinding) is so kept out.
        uploads: Paths that take photos; all others take a few kilobytes.

    Attributes:
        at_work: How many requests with a body are being read or answered.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, hosts: Collection[str] | None, uploads: Collection[str]
    ) -> None:
        self.app, self.limits, self.uploads = app, limits, set(uploads)
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket; there is none here
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = ResponseSender(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            if refusal[0] == 429:
                await self._discard(scope, receive)
            await make_problem_response(*refusal)(scope, receive, guarded)
            return
        counted = scope["method"] == "POST"
        self.at_work += counted
        try:
            async with asyncio.timeout(self.limits.request_s):
                await self.app(scope, self._limited(scope, receive), guarded)
        except TimeoutError:
            if guarded.started:
                raise
            await make_problem_response(503, "The answer took too long.")(scope, receive, guarded)
        finally:
            self.at_work -= counted

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason for what is not let in, before any of its body is read."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and parse_host(f"//{host}") not in self.hosts:
            return 421, "The Host header names a host that this server is not."
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            own = (f"http://{host.lower()}", f"https://{host.lower()}")
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            if foreign or (origin is not None and origin.lower() not in own):
                return 403, "The request comes from a page of another site."
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._most(scope):
            return 413, self._too_large(scope)
        if scope["method"] == "POST" and self.at_work >= self.limits.requests:
            return 429, "The server has as much to do as it takes on. Try again in a second."
        return None

    async def _discard(self, scope: Scope, receive: Receive) -> None:
        """Takes a body in and keeps none of it: who is hung up on in mid-sentence does not hear the answer."""
        limited = self._limited(scope, receive)
        with contextlib.suppress(ProblemError):
            while (await limited()).get("more_body", False):
                pass

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Reads a body as long as it is small enough and quick enough."""
        arrived, end = 0, asyncio.get_running_loop().time() + self.limits.upload_s
        whole = False

        async def limited() -> Message:
            nonlocal arrived, whole
            if whole:  # from here on it waits for the client to go away
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(408, f"The request must arrive within {self.limits.upload_s:g} s.") from None
            arrived += len(message.get("body", b""))
            if arrived > self._most(scope):
                raise ProblemError(413, self._too_large(scope))
            whole = not message.get("more_body", False)
            return message

        return limited

    def _most(self, scope: Scope) -> int:
        return self.limits.upload_bytes if scope["path"] in self.uploads else MAX_JSON_BYTES

    def _too_large(self, scope: Scope) -> str:
        return f"The request must have at most {self._most(scope):,} bytes."


class ResponseSender:
    """Sends an answer with the headers that all have.

    Args:
        send: Of the server.

    Attributes:
        started: Whether the answer has begun.
    """

    def __init__(self, send: Send) -> None:
        self.send, self.started = send, False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if message["status"] in (408, 413):  # what is left of the body is not read
                headers["Connection"] = "close"
        await self.send(message)


def parse_host(url: str) -> str | None:
    """The host of an address in lower case, without its port; None where it is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
