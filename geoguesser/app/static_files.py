"""Pages: the files of the web page, which come with the package. Nothing of them lies elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, Request, Response

from geoguesser.app.problems import ProblemError
from geoguesser.reporting import web_map

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """A file of the page: its text, type, and the tag by which a browser knows whether it has it."""

    text: str
    type: str
    tag: str


def load_page_files() -> dict[str, StaticFile]:
    """All files by name, index.html among them; read once."""
    folder = files("geoguesser.app") / "page"
    texts = {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.is_file()}
    script, style = web_map.load_leaflet()
    texts |= {"leaflet.js": script, "leaflet.css": style}
    found = {}
    for name, text in texts.items():
        suffix = name[name.rfind(".") :]
        if suffix in MEDIA_TYPES:
            digest = hashlib.sha256(text.encode()).hexdigest()[:20]
            found[name] = StaticFile(text, f"{MEDIA_TYPES[suffix]}; charset=utf-8", f'"{digest}"')
    return found


def mount_page(app: FastAPI) -> None:
    """Serves the page at /, its files under /page, and the API's documentation at /api."""
    known = load_page_files()

    def served(request: Request, name: str) -> Response:
        if name not in known:
            raise ProblemError(404, "There is nothing of that name.")
        file = known[name]
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.text, media_type=file.type, headers=headers)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return served(request, "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return served(request, "icon.svg")

    @app.get("/api", include_in_schema=False)
    async def api(request: Request) -> Response:
        return served(request, "api.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def page(request: Request, name: str) -> Response:
        return served(request, name)
