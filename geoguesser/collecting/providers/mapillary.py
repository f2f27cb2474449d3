"""Mapillary: its API v4. Four views are cut from a panorama, or chosen from flat images by their compass angles.

Source: mapillary.com/developer/api-documentation, read in November 2026. A search is by bounding box, smaller than
0.01 square degrees. Addresses of thumbnails are signed and expire, so they are asked for when they are used, never
kept, and never sent the token.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import simplejpeg

from geoguesser.collecting.output_files import PlaceholderError, check_view
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.credentials import read_key
from geoguesser.collecting.providers.google import read_view
from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_responses import AbsentError, FailedError, Reply
from geoguesser.collecting.providers.http_settings import check_base_url, kinds_of
from geoguesser.collecting.providers.mapillary_responses import (
    choose_flat,
    read_address,
    read_panorama,
    read_search,
)
from geoguesser.data.images import ByteArray
from geoguesser.errors import ConfigError, DataError, check_choice, check_int, check_number

FIELDS = "id,geometry,computed_geometry,captured_at,compass_angle,computed_compass_angle,is_pano,creator"
METRES_PER_DEGREE = 110_574.0  # of latitude at the equator, where it is least
QUALITY = 92  # of JPEGs that are cut


class Mapillary(Provider):
    """Mapillary's API v4.

    Args:
        base_url: Of the API.
        image_hosts: Endings of the hosts that thumbnails may lie on.
        key_variable: The environment variable that holds the token.
        key_file: Or a file that only its owner may read.
        views: `panorama` or `flat`.
        radius_m: How far from the point an image may lie.
        spread_m: How far the other flat images may lie from the first.
        tolerance_deg: How far a flat image may look off its heading.
        thumbnail: `original` or `2048`: what is fetched.
        size: Side of the views that are cut, in pixels.
        fov_deg: Their field of view.
        pitch_deg: Up (positive) or down.
        limit: Images per search.
        requests: Kind (`search`, `lookup`, `image`) -> price_per_1000, per_second.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "mapillary"

    def __init__(
        self,
        *,
        base_url: str,
        image_hosts: list[str],
        key_variable: str,
        key_file: str | None,
        views: str,
        radius_m: float,
        spread_m: float,
        tolerance_deg: float,
        thumbnail: str | int,
        size: int,
        fov_deg: float,
        pitch_deg: float,
        limit: int,
        requests: dict[str, Any],
    ) -> None:
        self._base = check_base_url("provider.base_url", base_url)
        if not isinstance(image_hosts, list) or not image_hosts:
            raise ConfigError.at("provider.image_hosts", "must be a list of hosts", found=image_hosts)
        self._hosts = tuple(str(host).lower() for host in image_hosts)
        self._names = (key_variable, key_file)
        self._flat = check_choice("provider.views", views, ("panorama", "flat")) == "flat"
        self._radius = check_number("provider.radius_m", radius_m, low=1.0, high=1000.0)
        self._spread = check_number("provider.spread_m", spread_m, low=0.0, high=1000.0)
        self._tolerance = check_number("provider.tolerance_deg", tolerance_deg, low=0.0, high=45.0)
        self._field = f"thumb_{check_choice('provider.thumbnail', str(thumbnail), ('original', '2048'))}_url"
        self._size = check_int("provider.size", size, low=16, high=4096)
        self._fov = check_number("provider.fov_deg", fov_deg, low=10.0, high=120.0)
        self._pitch = check_number("provider.pitch_deg", pitch_deg, low=-90.0, high=90.0)
        self._limit = check_int("provider.limit", limit, low=1, high=2000)
        self.kinds = kinds_of(requests, ("search", "lookup", "image"))
        images = 4 if self._flat else 1
        self.per_point, self.per_place = {"search": 1}, {"lookup": images, "image": images}
        self.look = {"views": str(views), "thumbnail": self._field}
        if not self._flat:
            self.look |= {"size": self._size, "fov_deg": self._fov, "pitch_deg": self._pitch}
        self._headers: dict[str, str] = {}

    def unlock(self) -> list[str]:
        variable, file = self._names
        token = read_key("provider.key", variable=variable, file=file)
        self._headers = {"Authorization": f"OAuth {token}"}
        return [token]

    async def find(self, web: Web, latitude: float, longitude: float) -> Panorama:
        tall = self._radius / METRES_PER_DEGREE
        wide = tall / max(0.01, math.cos(math.radians(latitude)))
        box = (
            max(-180.0, longitude - wide), max(-90.0, latitude - tall),
            min(180.0, longitude + wide), min(90.0, latitude + tall),
        )  # fmt: skip
        words = {
            "bbox": ",".join(f"{value:.7f}" for value in box),
            "fields": FIELDS,
            "limit": str(self._limit),
            "is_pano": "false" if self._flat else "true",
        }
        url = f"{self._base}/images?{urlencode(words, safe=',')}"
        read = partial(read_search, point=(latitude, longitude), radius_m=self._radius)
        near = await web.get("search", url, accept="application/json", read=read, headers=self._headers)
        if not self._flat:
            return near[0]
        return choose_flat(near, spread_m=self._spread, tolerance_deg=self._tolerance)

    async def views(
        self, web: Web, panorama: Panorama, headings_deg: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes]]:
        if self._flat:
            for heading in headings_deg:
                yield heading, await self._fetch(web, panorama.extra["images"][str(heading)], read_view)
            return
        whole = await self._fetch(web, panorama.panorama_id, read_panorama)
        compass = float(panorama.extra["compass_deg"])
        for heading, data in zip(
            headings_deg, await asyncio.to_thread(self._cut, whole, compass, headings_deg), strict=True
        ):
            yield heading, data

    def _cut(self, whole: ByteArray, compass_deg: float, headings_deg: Sequence[int]) -> list[bytes]:
        from geoguesser.collecting.panorama import cut_views

        try:
            views = cut_views(
                whole,
                compass_deg=compass_deg,
                headings_deg=tuple(headings_deg),
                pitch_deg=self._pitch,
                fov_deg=self._fov,
                size=self._size,
            )
        except DataError:  # a part of the sphere
            raise AbsentError("no_full_sphere") from None
        found = [simplejpeg.encode_jpeg(view, quality=QUALITY, colorspace="RGB") for view in views]
        for one in found:
            try:
                check_view(one)
            except PlaceholderError:
                raise AbsentError("no_imagery") from None
        return found

    async def _fetch(self, web: Web, image_id: str, read: Callable[[Reply], Any]) -> Any:
        """Asks for an image's address, which is good for a while, then for the image; the token stays behind."""
        url = f"{self._base}/{quote(image_id, safe='')}?fields={self._field}"
        address = await web.get(
            "lookup",
            url,
            accept="application/json",
            headers=self._headers,
            read=partial(read_address, field=self._field),
        )
        self._check_host(address)
        return await web.get("image", address, accept="image/", read=read, heavy=True, keyed=False)

    def _check_host(self, address: str) -> None:
        try:
            check_base_url("a thumbnail's address", address.split("?", maxsplit=1)[0])
            host = (urlsplit(address).hostname or "").lower()
        except (ConfigError, ValueError):
            raise FailedError("foreign_host") from None
        if not any(host == one or host.endswith(f".{one}") for one in self._hosts):
            raise FailedError("foreign_host")
