"""Local server that imitates the documented APIs of Google and Mapillary over sockets, faults included.

Answers depend on the seed and the request only, faults also on the number of the attempt. Every request is logged
with its time, the requested item and the outcome.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from aiohttp import web
from PIL import Image

from support.pictures import encode_image

KEY = "AIzaSyTESTKEY-not-a-real-one-0123456789ab"
SECRET = base64.urlsafe_b64encode(b"a signing secret of tests").decode()
TOKEN = "MLY|1234567890123456|0f1e2d3c4b5a69788796a5b4c3d2e1f0"
THUMBNAIL_SECRET = "oh=SIGNED-THUMBNAIL-ADDRESS"
FAULTS = ("limit", "429", "429 date", "500", "slow", "truncated", "wrong type", "cut")
PRICES = {"metadata": 0.0, "image": 0.007, "search": 0.0, "lookup": 0.0, "thumbnail": 0.0}  # USD each
_ARRIVED: ContextVar[float] = ContextVar("arrived")
SNAP_DEG = 0.0005  # side of the squares in which all points find one panorama


class Entry(NamedTuple):
    """Time, kind, requested item and outcome (`ok`, a fault or a status) of a request."""

    at_s: float
    kind: str
    item: str
    outcome: str


@dataclass
class ProviderServer:
    """ProviderServer in a thread; a context manager.

    Attributes:
        seed: Seed of panoramas and faults.
        faults: Faults that occur.
        fault_share: Share of requests with a fault.
        empty_share: Share of points without a panorama.
        twice_share: Share of points that find a distant panorama shared with others.
        grey_share: Share of panoramas whose views are grey pictures with status 200.
        gone_share: Share of panoramas whose views are answered with 404.
        slow_s: Duration of a slow answer.
        delay_s: Duration of any answer.
        retry_after_s: Wait that a 429 asks for.
        signed: Whether a signature is required.
        panoramas: (id, latitude, longitude) of panoramas to use instead of random ones.
        view: Returns the JPEG of a panorama id and a heading.
        answer: Answers all requests instead.
        log: All requests.
    """

    seed: int = 0
    faults: tuple[str, ...] = FAULTS
    fault_share: float = 0.0
    empty_share: float = 0.1
    twice_share: float = 0.05
    grey_share: float = 0.01
    gone_share: float = 0.01
    slow_s: float = 30.0
    delay_s: float = 0.0
    retry_after_s: int = 1
    signed: bool = False
    panoramas: list[tuple[str, float, float]] | None = None
    view: Callable[[str, int], bytes] | None = None
    answer: Callable[[web.Request], web.Response] | None = None
    log: list[Entry] = field(default_factory=list)

    def __enter__(self) -> ProviderServer:
        self._attempts: Counter[str] = Counter()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    @property
    def google(self) -> str:
        return f"http://127.0.0.1:{self.port}/maps/api/streetview"

    @property
    def mapillary(self) -> str:
        return f"http://127.0.0.1:{self.port}/graph"

    def counts(self) -> Counter[str]:
        """Returns the number of requests by kind."""
        return Counter(entry.kind for entry in self.log)

    def cost(self) -> float:
        """Returns the price of all requests in US dollars."""
        return sum(PRICES[entry.kind] for entry in self.log)

    def answered(self, kind: str) -> Counter[str]:
        """Returns how often each item was answered completely."""
        return Counter(entry.item for entry in self.log if entry.kind == kind and entry.outcome == "ok")

    def max_requests_within(self, seconds: float, kind: str | None = None) -> int:
        """Returns the largest number of requests in any half-open window of the given length."""
        times = np.sort([entry.at_s for entry in self.log if kind in (None, entry.kind)])
        if not len(times):
            return 0
        return int((np.searchsorted(times, times + seconds) - np.arange(len(times))).max())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[_stamp])
        routes = {
            "/maps/api/streetview/metadata": self._metadata,
            "/maps/api/streetview": self._image,
            "/graph/images": self._search,
            "/graph/{id}": self._lookup,
            "/thumbs/{id}": self._thumbnail,
        }
        for path, handler in routes.items():
            app.router.add_get(path, handler if self.answer is None else self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self._note("image", request.path, "fixed")
        return self.answer(request)

    # Google

    async def _metadata(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        item = query.get("location", query.get("pano", ""))
        if refusal := self._refusal(request):
            denied = {"status": "REQUEST_DENIED", "error_message": refusal}
            return self._json("metadata", item, denied, refusal)
        if (broken := await self._break(request, "metadata", item)) is not None:
            return broken
        try:
            latitude, longitude = (float(part) for part in item.split(","))
        except ValueError:
            return self._json("metadata", item, {"status": "INVALID_REQUEST"}, "invalid")
        panorama = self.panorama(latitude, longitude, float(query.get("radius", 50)))
        if panorama is None:
            return self._json("metadata", item, {"status": "ZERO_RESULTS"})
        pano, lat, lng = panorama
        year = 2010 + int(12 * self.share("year", pano))
        facts = {"status": "OK", "pano_id": pano, "location": {"lat": lat, "lng": lng}, "date": f"{year}-07"}
        owner = "© Google" if self.share("owner", pano) < 0.9 else "© Somebody Else"
        return self._json("metadata", item, {**facts, "copyright": owner})

    async def _image(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        item = f"{query.get('pano', '')}/{query.get('heading', '')}"
        if refusal := self._refusal(request):
            self._note("image", item, refusal)
            return web.Response(status=403, text=refusal)
        size = int(query["size"].split("x")[0])
        pano = query["pano"]
        view = self._view(pano, int(query["heading"]))
        if (broken := await self._break(request, "image", item, view)) is not None:
            return broken
        if self.share("gone", pano) < self.gone_share:
            self._note("image", item, "gone")
            status = 404 if query.get("return_error_code") == "true" else 200
            return web.Response(status=status, body=make_grey_jpeg(size))
        if self.share("grey", pano) < self.grey_share:
            self._note("image", item, "grey")
            return web.Response(body=make_grey_jpeg(size), content_type="image/jpeg")
        await asyncio.sleep(self.delay_s)
        self._note("image", item, "ok")
        return web.Response(body=view, content_type="image/jpeg")

    def panorama(self, latitude: float, longitude: float, radius_m: float) -> tuple[str, float, float] | None:
        """Returns the panorama near a point."""
        if self.panoramas is not None:
            positions = np.array([panorama[1:] for panorama in self.panoramas])
            scale = np.array((111_000.0, 111_000.0 * np.cos(np.radians(latitude))))
            distances_m = np.hypot(*((positions - (latitude, longitude)) * scale).T)
            nearest = int(distances_m.argmin())
            return self.panoramas[nearest] if distances_m[nearest] <= radius_m else None
        point = f"{latitude:.7f},{longitude:.7f}"
        if self.share("empty", point) < self.empty_share:
            return None
        step = 0.5 if self.share("twice", point) < self.twice_share else SNAP_DEG
        row, column = round(latitude / step), round(longitude / step)
        pano = hashlib.sha256(f"{self.seed} {step} {row} {column}".encode()).hexdigest()[:22]
        return pano, round(row * step + 1e-5, 7), round(column * step + 2e-5, 7)

    def _refusal(self, request: web.Request) -> str:
        if request.query.get("key") != KEY:
            return "The provided API key is invalid."
        if not self.signed:
            return ""
        path, _, signature = request.path_qs.partition("&signature=")
        digest = hmac.new(base64.urlsafe_b64decode(SECRET), path.encode(), hashlib.sha1).digest()
        expected = base64.urlsafe_b64encode(digest).decode()
        return "" if hmac.compare_digest(expected, signature) else "Bad signature."

    # Mapillary

    async def _search(self, request: web.Request) -> web.StreamResponse:
        item = request.query.get("bbox", "")
        if (denied := self._denied(request, "search", item)) is not None:
            return denied
        west, south, east, north = (float(part) for part in item.split(","))
        if (east - west) * (north - south) >= 0.01:
            return self._json("search", item, {"error": {"code": 100}}, "too large", status=400)
        if (broken := await self._break(request, "search", item)) is not None:
            return broken
        panorama = self.panorama(round((south + north) / 2, 7), round((west + east) / 2, 7), 50.0)
        if panorama is None:
            return self._json("search", item, {"data": []})
        pano, lat, lng = panorama
        images = [_make_mapillary_image(pano, lat, lng, 360 * self.share("compass", pano))]
        if request.query.get("is_pano") == "false":
            images = [
                _make_mapillary_image(f"{pano}f{turn}", lat + 1e-5 * number, lng, turn + 7.0)
                for number, turn in enumerate((0, 90, 180, 270, 45))
            ]
        return self._json("search", item, {"data": images})

    async def _lookup(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        if (denied := self._denied(request, "lookup", name)) is not None:
            return denied
        if (broken := await self._break(request, "lookup", name)) is not None:
            return broken
        address = f"http://127.0.0.1:{self.port}/thumbs/{name}?{THUMBNAIL_SECRET}"
        return self._json("lookup", name, {"id": name, request.query["fields"]: address})

    async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        if "Authorization" in request.headers:
            self._note("thumbnail", name, "sent a token")
            return web.Response(status=400)
        if request.query_string != THUMBNAIL_SECRET:
            self._note("thumbnail", name, "not signed")
            return web.Response(status=403)
        flat = len(name) > 22
        body = self._view(name, 0) if flat else make_panorama_jpeg(360 * self.share("compass", name))
        if (broken := await self._break(request, "thumbnail", name, body)) is not None:
            return broken
        self._note("thumbnail", name, "ok")
        return web.Response(body=body, content_type="image/jpeg")

    def _denied(self, request: web.Request, kind: str, item: str) -> web.Response | None:
        if request.headers.get("Authorization") == f"OAuth {TOKEN}":
            return None
        body = {"error": {"code": 190, "message": "Invalid OAuth 2.0 Access Token"}}
        return self._json(kind, item, body, "denied", status=401)

    # Both providers

    def share(self, *words: str) -> float:
        """Returns a pseudorandom number from 0 to 1 that depends on the seed and the words only."""
        digest = hashlib.sha256(" ".join((str(self.seed), *words)).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _view(self, pano: str, heading: int) -> bytes:
        return self.view(pano, heading) if self.view else make_noise_jpeg(f"{pano}/{heading}")

    def _note(self, kind: str, item: str, outcome: str) -> None:
        self.log.append(Entry(_ARRIVED.get(), kind, item, outcome))

    def _json(self, kind: str, item: str, body: Any, outcome: str = "ok", *, status: int = 200) -> web.Response:
        self._note(kind, item, outcome)
        return web.json_response(body, status=status)

    def _fault(self, kind: str, item: str) -> str:
        key = f"{kind} {item}"
        self._attempts[key] += 1
        share = self.share("fault", key, str(self._attempts[key]))
        if share >= self.fault_share:
            return ""
        return self.faults[int(share / self.fault_share * len(self.faults))]

    async def _break(
        self, request: web.Request, kind: str, item: str, image: bytes = b""
    ) -> web.StreamResponse | None:
        """Returns the response to a request with a fault, or None for one without."""
        fault = self._fault(kind, item)
        if not fault:
            return None
        if fault == "limit":
            if kind == "metadata":
                return self._json(kind, item, {"status": "OVER_QUERY_LIMIT"}, fault)
            fault = "429"
        body, content_type = (image, "image/jpeg") if image else (b"{}" * 50, "application/json")
        self._note(kind, item, fault)
        if fault == "429":
            return web.Response(status=429, headers={"Retry-After": str(self.retry_after_s)})
        if fault == "429 date":
            return web.Response(status=429, headers={"Retry-After": formatdate(time.time() + 1, usegmt=True)})
        if fault == "500":
            return web.Response(status=500, text="an internal error")
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
            return web.Response(body=body, content_type=content_type)
        if fault == "wrong type":
            return web.Response(text="<html>Sorry</html>", content_type="text/html")
        response = web.StreamResponse(headers={"Content-Type": content_type, "Content-Length": str(len(body))})
        if fault == "cut":
            request.transport.abort()
            return response

        # Truncated: half of the announced bytes.
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        request.transport.close()
        return response


def _make_mapillary_image(name: str, latitude: float, longitude: float, compass_deg: float) -> dict[str, Any]:
    return {
        "id": name,
        # The camera's own position is off; the computed one is right.
        "geometry": {"type": "Point", "coordinates": [longitude + 1e-3, latitude]},
        "computed_geometry": {"type": "Point", "coordinates": [longitude, latitude]},
        "compass_angle": (compass_deg + 20) % 360,
        "computed_compass_angle": compass_deg % 360,
        "captured_at": 1_560_000_000_000,
        "is_pano": True,
        "creator": {"username": "someone", "id": "1"},
    }


@web.middleware
async def _stamp(request: web.Request, handler: Any) -> web.StreamResponse:
    """Records the time of arrival for the handler, which runs in a context of its own."""
    _ARRIVED.set(time.monotonic())
    return await handler(request)


@lru_cache
def make_grey_jpeg(size: int) -> bytes:
    """Returns the picture that Google sends for missing imagery."""
    return _jpeg(np.full((size, size, 3), 228, dtype=np.uint8))


@lru_cache
def _noise(number: int) -> bytes:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return _jpeg(np.kron(small, np.ones((8, 8, 1), dtype=np.uint8)))


def make_noise_jpeg(name: str) -> bytes:
    """Returns a coloured JPEG that differs by name and holds the name in a comment."""
    data = _noise(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 64)
    comment = name.encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


@lru_cache(maxsize=64)
def make_panorama_jpeg(compass_deg: float) -> bytes:
    """Returns a panorama whose middle looks to `compass_deg`: red to the north, then green, blue, grey."""
    columns = (np.arange(512) + 0.5) / 512 * 360 - 180 + compass_deg
    quarter = (np.floor((columns + 45) / 90).astype(int)) % 4
    colours = np.array([(220, 30, 30), (30, 220, 30), (30, 30, 220), (230, 230, 230)], dtype=np.uint8)
    image = np.repeat(colours[quarter][None], 256, axis=0).copy()

    # The ground is darker than the sky.
    image[128:] = image[128:] // 2
    return _jpeg(image)


def _jpeg(image: np.ndarray) -> bytes:
    return encode_image(Image.fromarray(image), quality=90)
