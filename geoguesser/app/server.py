"""HTTP server: uvicorn on a listening socket. Closes connections whose request headers never complete."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from geoguesser.app.limits import Limits, find_client
from geoguesser.errors import ConfigError

log = logging.getLogger(__name__)
# Time for the headers of a request to arrive.
MAX_HEADERS_S = 10.0
# Time between two requests on one connection.
MAX_IDLE_S = 5
# Time for requests in progress when the server is stopped.
MAX_SHUTDOWN_S = 5
MAX_HEADER_BYTES = 16 * 1024
TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"detail": "This client has reached its limit of connections."}'
)


class ClientProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for request headers and a limit on connections of a client, which uvicorn lacks.

    Without them, clients that never complete their headers would occupy all connections (slowloris).
    """

    max_client_connections: int
    _header_timer: asyncio.TimerHandle | None = None
    _watch_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_header_timer()
        self._watch(was_closing=False)

        others = (other.find_client() for other in self.connections if isinstance(other, ClientProtocol))
        if sum(client == self.find_client() for client in others) > self.max_client_connections:
            transport.write(TOO_MANY_CONNECTIONS)
            transport.close()

    def find_client(self) -> str:
        """Returns the client of this connection."""
        return find_client(self.client[0] if self.client else None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn waits without limit for the rest of a body that the response did not need.
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        super().connection_lost(exc)

    def _start_header_timer(self) -> None:
        self._cancel_header_timer()
        self._header_timer = self.loop.call_later(MAX_HEADERS_S, self._close_if_idle)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()

    def _watch(self, *, was_closing: bool) -> None:
        """Ends a closed connection whose client does not read the rest of a response."""
        is_closing = self.transport.is_closing()
        if was_closing and is_closing:
            self.transport.abort()
            return
        self._watch_timer = self.loop.call_later(MAX_HEADERS_S, lambda: self._watch(was_closing=is_closing))

    def _close_if_idle(self) -> None:
        # h11 leaves the idle state when the headers are complete.
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Opens a listening socket, so that a port that is taken is an error before any model is loaded.

    Raises:
        ConfigError: If the address does not belong to this machine or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        rule = f"must be an address of this machine ({error.strerror})"
        raise ConfigError.at("host", rule, found=host) from error

    with contextlib.closing(socket.socket(family, kind, protocol)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # With SO_REUSEADDR two servers can bind the same port; only one of them can listen on it.
            listener.listen()
        except OSError as error:
            key, value = ("host", host) if error.errno == errno.EADDRNOTAVAIL else ("port", port)
            remedy = "port=0 takes a free one." if error.errno == errno.EADDRINUSE else ""
            raise ConfigError.at(key, f"cannot be used ({error.strerror})", found=value, remedy=remedy) from error
        yield listener


def find_address(listener: socket.socket) -> str:
    """Returns the address of a listening socket for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown_host}:{port}/"


def is_local(listener: socket.socket) -> bool:
    """Returns whether only this machine can reach a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def make_server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """Makes a server for an application without starting it."""

    class Protocol(ClientProtocol):
        max_client_connections = limits.client_connections

    # Headers of a proxy are ignored, because any client can send them.
    config = uvicorn.Config(
        app, http=Protocol, ws="none", loop="asyncio", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=MAX_IDLE_S,
        timeout_graceful_shutdown=MAX_SHUTDOWN_S, limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )  # fmt: skip
    return uvicorn.Server(config)


def run_until_stopped(app: ASGIApp, listener: socket.socket, limits: Limits) -> None:
    """Serves until Ctrl-C or SIGTERM, after which requests in progress can end."""
    # The log lines below replace uvicorn's. python_multipart logs a line per bad request, which could fill a disk.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)

    log.info("Serving on %s (Ctrl-C ends it)", find_address(listener))
    # uvicorn raises the interrupt again after it has shut down.
    with contextlib.suppress(KeyboardInterrupt):
        make_server(app, limits).run(sockets=[listener])
    log.info("Stopped.")
