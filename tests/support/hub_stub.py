"""Local server with the part of a model hub's HTTP API that pushing a folder uses."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubStub:
    """State of the server.

    Attributes:
        address: Value for HF_ENDPOINT.
        repositories: Maps each name to whether the repository is private.
        files: Maps each repository to its files, path to contents.
        tokens: Authorization headers of the requests.
        refuses: Makes the server respond with 403 to a commit.
    """

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str] = set()
        self.refuses = False


def _handler(hub: HubStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: Any) -> None:
            pass

        def answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            name = self.path.removeprefix("/api/models/").split("?")[0].split("/revision")[0]
            if name not in hub.repositories:
                self.answer({"error": "not found"}, 404)
                return
            self.answer(
                {"id": name, "sha": "0" * 40, "private": hub.repositories[name], "siblings": [], "tags": []}
            )

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            body = self.body()
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
                if name in hub.repositories:
                    self.answer({"error": "exists", "url": f"{hub.address}/{name}"}, 409)
                    return
                hub.repositories[name] = asked.get("private", asked.get("visibility") == "private")
                self.answer({"url": f"{hub.address}/{name}"})
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                self.answer(
                    {
                        "files": [
                            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked
                        ]
                    }
                )
            elif "/commit/" in self.path:
                if hub.refuses:
                    self.answer({"error": "no"}, 403)
                    return
                name = self.path.removeprefix("/api/models/").split("/commit/")[0]
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        hub.files.setdefault(name, {})[entry["value"]["path"]] = content
                address = f"{hub.address}/{name}/commit/{'1' * 40}"
                self.answer({"commitUrl": address, "commitOid": "1" * 40, "success": True})
            else:
                # The client asks whether the front matter of the model card is valid.
                self.answer({"errors": [], "warnings": []})

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

    return Handler


@contextmanager
def run_hub_stub() -> Iterator[HubStub]:
    """Runs the server in a thread and yields its state."""
    hub = HubStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
