"""ASGI middleware of the server: host, origin and token checks, limits on requests, security headers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geoguesser.app.access import LOGIN_PATH, Access
from geoguesser.app.limits import MAX_JSON_BYTES, Limits, find_client
from geoguesser.app.problems import STATUS_MEANINGS, ProblemError, make_problem_response

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
SIZE_RULE = "The request must have at most {:,} bytes."
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
# The login form is sent without a script. With `no-referrer` browsers would name no origin of the form.
LOGIN_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY.replace("form-action 'none'", "form-action 'self'"),
    "Referrer-Policy": "same-origin",
}


class RequestFilter:
    """Middleware that refuses requests which the application must not see.

    Args:
        app: Application.
        limits: Limits on requests.
        hosts: Accepted names in the Host header; None accepts every name. The check protects against DNS
            rebinding, in which a page of another site lets its own name resolve to this machine.
        upload_paths: Paths that accept photos; requests to other paths are limited to `MAX_JSON_BYTES`.
        access: Access by a token; None answers every client.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        hosts: Collection[str] | None,
        upload_paths: Collection[str],
        access: Access | None = None,
    ) -> None:
        self.app, self.limits, self.upload_paths, self.access = app, limits, set(upload_paths), access
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self._requests_by_client: Counter[str] = Counter()

    @property
    def requests_in_progress(self) -> int:
        return self._requests_by_client.total()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            # The server has no web sockets. The code 1008 means a violation of its policy (RFC 6455, 7.4.1).
            return await send({"type": "websocket.close", "code": 1008})

        sender = ResponseSender(send, scope["path"])
        client = find_client((scope.get("client") or [None])[0])
        refusal = self._check(scope, client)
        if refusal is not None:
            if refusal[0] == 429:
                await self._discard(scope, receive)
            response: Response = make_problem_response(*refusal)
            if refusal[0] == 401 and scope["method"] == "GET" and not scope["path"].startswith("/api/"):
                response = RedirectResponse(LOGIN_PATH, 303)
            return await response(scope, receive, sender)

        is_post = scope["method"] == "POST"
        self._requests_by_client[client] += is_post
        try:
            async with asyncio.timeout(self.limits.request_s):
                await self.app(scope, self._limit(scope, receive), sender)
        except TimeoutError:
            # A response that has begun is cut off: uvicorn closes the connection.
            if not sender.started:
                await make_problem_response(503, "The response took too long.")(scope, receive, sender)
        finally:
            self._requests_by_client[client] -= is_post
            if not self._requests_by_client[client]:
                del self._requests_by_client[client]

    def _check(self, scope: Scope, client: str) -> tuple[int, str] | None:
        """Returns the status and message for a request that is refused before its body is read."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self.hosts is not None and _parse_host(f"//{host}") not in self.hosts:
            return 421, STATUS_MEANINGS[421]

        # Browsers send Sec-Fetch-Site; older ones only Origin; other clients send neither.
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            foreign_site = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            origin = headers.get("origin")
            foreign_origin = origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}")
            if foreign_site or foreign_origin:
                return 403, STATUS_MEANINGS[403]

        if self.access is not None and not self.access.allows(scope["path"], headers):
            return 401, STATUS_MEANINGS[401]

        length, max_bytes = headers.get("content-length", "0"), self._get_max_bytes(scope)
        if length.isdecimal() and int(length) > max_bytes:
            return 413, SIZE_RULE.format(max_bytes)
        if scope["method"] == "POST":
            if self._requests_by_client[client] >= self.limits.client_requests:
                return 429, "This client has reached its limit of requests. Try again in a second."
            if self.requests_in_progress >= self.limits.requests:
                return 429, "The server has reached its limit of requests. Try again in a second."
        return None

    async def _discard(self, scope: Scope, receive: Receive) -> None:
        """Reads a body without keeping it: a client that is cut off while it sends does not see the response."""
        limited = self._limit(scope, receive)
        with contextlib.suppress(ProblemError):
            while (await limited()).get("more_body", False):
                pass

    def _limit(self, scope: Scope, receive: Receive) -> Receive:
        """Wraps a receiver of messages so that bodies that are too large or too slow are refused."""
        num_bytes, max_bytes, is_complete = 0, self._get_max_bytes(scope), False
        deadline_s = asyncio.get_running_loop().time() + self.limits.upload_s

        async def receive_limited() -> Message:
            nonlocal num_bytes, is_complete
            # After the body the only message is the client's disconnection, which has no deadline.
            if is_complete:
                return await receive()

            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(408, f"The request must arrive within {self.limits.upload_s:g} s.") from None

            # A chunked body declares no length, so that its bytes are counted.
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise ProblemError(413, SIZE_RULE.format(max_bytes))
            is_complete = not message.get("more_body", False)
            return message

        return receive_limited

    def _get_max_bytes(self, scope: Scope) -> int:
        return self.limits.upload_bytes if scope["path"] in self.upload_paths else MAX_JSON_BYTES


class ResponseSender:
    """Sends a response with the security headers; `started` tells that it has begun."""

    def __init__(self, send: Send, path: str) -> None:
        self.send, self.path, self.started = send, path, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            if self.path == LOGIN_PATH:
                headers.update(LOGIN_HEADERS)
            headers.setdefault("Cache-Control", "no-store")
            # The rest of the body is not read, so that the connection cannot be used again.
            if message["status"] in (408, 413):
                headers["Connection"] = "close"
        await self.send(message)


def _parse_host(url: str) -> str | None:
    """Returns the host of an address in lower case without its port; None if it has no valid host."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
