"""Local HTTP servers that respond with JSON."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """Handler that reads requests in any encoding and responds with JSON."""

    protocol_version = "HTTP/1.1"

    def read_body(self) -> bytes:
        """Reads the body of the request."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def reply(self, value: Any, status: int = 200) -> None:
        """Sends a response, unless the client has gone."""
        text = json.dumps(value).encode()
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


class JsonServer(ThreadingHTTPServer):
    """Server on a free local port, in a thread, from `start()` to `stop()`."""

    daemon_threads, block_on_close = True, False

    @classmethod
    def start(cls, handler: type[JsonHandler]) -> JsonServer:
        """Starts a server."""
        server = cls(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def stop(self) -> None:
        """Stops listening, so that connections are refused."""
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Ignores clients that disconnect."""
