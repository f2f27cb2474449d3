"""Local server with the part of a model hub's HTTP API that pushing a folder uses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.json_server import JsonHandler, JsonServer


@dataclass
class HubStub:
    """State of the server.

    Attributes:
        address: Value for HF_ENDPOINT.
        repositories: Maps each name to whether the repository is private.
        files: Maps each repository to its files, path to contents.
        tokens: Authorization headers of the requests.
        refuses: Makes the server respond with 403 to a commit.
    """

    address: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    refuses: bool = False


class _Handler(JsonHandler):
    hub: HubStub

    def do_GET(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        name = self.path.removeprefix("/api/models/").split("?")[0].split("/revision")[0]
        if name not in self.hub.repositories:
            self.reply({"error": "not found"}, 404)
            return
        private = self.hub.repositories[name]
        self.reply({"id": name, "sha": "0" * 40, "private": private, "siblings": [], "tags": []})

    def do_POST(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        body = self.read_body()
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self.reply(
                {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
            )
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            # The client asks whether the front matter of the model card is valid.
            self.reply({"errors": [], "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        url = f"{self.hub.address}/{name}"
        if name in self.hub.repositories:
            self.reply({"error": "exists", "url": url}, 409)
            return
        self.hub.repositories[name] = asked.get("private", asked.get("visibility") == "private")
        self.reply({"url": url})

    def _commit(self, entries: list[dict[str, Any]]) -> None:
        if self.hub.refuses:
            self.reply({"error": "no"}, 403)
            return
        name = self.path.removeprefix("/api/models/").split("/commit/")[0]
        files = [entry["value"] for entry in entries if entry["key"] == "file"]
        contents = {file["path"]: base64.b64decode(file["content"]) for file in files}
        self.hub.files.setdefault(name, {}).update(contents)
        url = f"{self.hub.address}/{name}/commit/{'1' * 40}"
        self.reply({"commitUrl": url, "commitOid": "1" * 40, "success": True})


@contextmanager
def run_hub_stub() -> Iterator[HubStub]:
    """Runs the server in a thread and yields its state."""
    hub = HubStub()
    server = JsonServer.start(type("Handler", (_Handler,), {"hub": hub}))
    hub.address = server.url
    try:
        yield hub
    finally:
        server.stop()
