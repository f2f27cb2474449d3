"""Server: uvicorn around the application, on a socket of our own; who never finishes asking is hung up on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from geoguesser.app.limits import Limits
from geoguesser.errors import ConfigError

log = logging.getLogger(__name__)
MAX_HEADERS_S = 10.0  # in which the headers of a request must have arrived
MAX_IDLE_S = 5  # between two requests on one connection
MAX_SHUTDOWN_S = 5  # for requests that are at work when the server is stopped
MAX_HEADER_BYTES = 16 * 1024


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 that hangs up where headers never end (slowloris); uvicorn itself would wait for ever."""

    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
        self._headers_due = self.loop.call_later(MAX_HEADERS_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; the kernel already refuses or takes the port before any model is loaded.

    Args:
        host: An address of this machine, or its name.
        port: 0 for any that is free.

    Raises:
        ConfigError: The address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError.at(
            "host", f"must be an address of this machine ({error.strerror})", found=host
        ) from error
    own = socket.socket(family, kind, protocol)
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(address)
        own.listen()  # who comes before the models are loaded waits; bound alone, two servers could have one port
    except OSError as error:
        own.close()
        key, value = ("host", host) if error.errno == errno.EADDRNOTAVAIL else ("port", port)
        remedy = "port=0 takes any that is free." if error.errno == errno.EADDRINUSE else ""
        raise ConfigError.at(key, f"cannot be used ({error.strerror})", found=value, remedy=remedy) from error
    with contextlib.closing(own):
        yield own


def find_address(own: socket.socket) -> str:
    """What to type into a browser."""
    host, port = own.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def make_server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """A server that is not running yet."""
    config = uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever sits in front is not believed
        timeout_keep_alive=MAX_IDLE_S,
        timeout_graceful_shutdown=MAX_SHUTDOWN_S,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return uvicorn.Server(config)


def run_until_stopped(app: ASGIApp, own: socket.socket, limits: Limits) -> None:
    """Serves until Ctrl-C or SIGTERM; requests at work may end."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its own lines say less than ours
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # else anybody could fill the log
    log.info("Serving on %s (Ctrl-C ends it)", find_address(own))
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has shut down
        make_server(app, limits).run(sockets=[own])
    log.info("Stopped.")
