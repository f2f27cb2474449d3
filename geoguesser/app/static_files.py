"""Static files of the web page, all of which come with the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

from fastapi import FastAPI, Request, Response

from geoguesser.app.problems import STATUS_MEANINGS, ProblemError
from geoguesser.reporting import web_map

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """File of the web page, with the values of its Content-Type and ETag headers."""

    text: str
    media_type: str
    etag: str


def load_page_files() -> dict[str, StaticFile]:
    """Loads the files of the web page and Leaflet by name; the page itself is `index.html`."""
    folder = files("geoguesser.app") / "page"
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}
    texts["leaflet.js"], texts["leaflet.css"] = web_map.load_leaflet()

    page_files = {}
    for name, text in texts.items():
        suffix = name[name.rfind(".") :]
        if suffix in MEDIA_TYPES:
            digest = hashlib.sha256(text.encode()).hexdigest()[:20]
            page_files[name] = StaticFile(text, f"{MEDIA_TYPES[suffix]}; charset=utf-8", f'"{digest}"')
    return page_files


def mount_page(app: FastAPI) -> None:
    """Serves the page at /, its files below /page, and the documentation of the API at /api."""
    page_files = load_page_files()

    def respond(request: Request, name: str) -> Response:
        if name not in page_files:
            raise ProblemError(404, STATUS_MEANINGS[404])

        file = page_files[name]
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.text, media_type=file.media_type, headers=headers)

    @app.get("/page/{name}", include_in_schema=False)
    async def get_file(request: Request, name: str) -> Response:
        return respond(request, name)

    for path, name in (("/", "index.html"), ("/favicon.ico", "icon.svg"), ("/api", "api.html")):
        app.add_route(path, partial(respond, name=name), methods=["GET"])
