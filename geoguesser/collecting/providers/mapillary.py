"""Mapillary's API v4: four views cut from a panorama, or four flat images chosen by their compass angles.

Source: mapillary.com/developer/api-documentation, read in November 2026. A search covers a bounding box of less
    than 0.01 square degrees. Addresses of thumbnails are signed and expire, so each is requested directly before
    its use and never stored. The token is not sent to the hosts of thumbnails.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import simplejpeg

from geoguesser.arrays import ByteArray
from geoguesser.collecting.output_files import PlaceholderError, check_view
from geoguesser.collecting.panorama import cut_views
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.credentials import read_key
from geoguesser.collecting.providers.google import parse_view
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import HttpResponse, NotFoundError, RequestFailedError
from geoguesser.collecting.providers.http_settings import check_base_url, parse_request_kinds
from geoguesser.collecting.providers.mapillary_responses import (
    decode_panorama,
    parse_search,
    parse_thumbnail_url,
    select_flat_images,
)
from geoguesser.errors import ConfigError, DataError, check_choice, check_int, check_number
from geoguesser.geo.distance import MIN_METRES_PER_DEGREE

SEARCH_FIELDS = "id,geometry,computed_geometry,captured_at,compass_angle,computed_compass_angle,is_pano,creator"
VIEW_JPEG_QUALITY = 92


class Mapillary(Provider):
    """Mapillary's API v4. The arguments are the keys of conf/provider/mapillary.yaml, which describes them."""

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
        self._base_url = check_base_url("provider.base_url", base_url)
        if not isinstance(image_hosts, list) or not image_hosts:
            raise ConfigError.at("provider.image_hosts", "must be a list of hosts", found=image_hosts)
        self._image_hosts = tuple(str(host).lower() for host in image_hosts)
        self._key_source: dict[str, Any] = {"variable": key_variable, "file": key_file}

        self._is_flat = check_choice("provider.views", views, ("panorama", "flat")) == "flat"
        self._radius_m = check_number("provider.radius_m", radius_m, low=1.0, high=1000.0)
        self._spread_m = check_number("provider.spread_m", spread_m, low=0.0, high=1000.0)
        self._tolerance_deg = check_number("provider.tolerance_deg", tolerance_deg, low=0.0, high=45.0)
        self._url_field = f"thumb_{check_choice('provider.thumbnail', str(thumbnail), ('original', '2048'))}_url"
        self._limit = check_int("provider.limit", limit, low=1, high=2000)
        self._cut_settings: dict[str, Any] = {
            "size": check_int("provider.size", size, low=16, high=4096),
            "fov_deg": check_number("provider.fov_deg", fov_deg, low=10.0, high=120.0),
            "pitch_deg": check_number("provider.pitch_deg", pitch_deg, low=-90.0, high=90.0),
        }

        self.request_kinds = parse_request_kinds(requests, ("search", "lookup", "image"))
        images = 4 if self._is_flat else 1
        self.requests_per_point = {"search": 1}
        self.requests_per_place = {"lookup": images, "image": images}
        cut_settings = {} if self._is_flat else self._cut_settings
        self.view_settings = {"views": str(views), "thumbnail": self._url_field, **cut_settings}
        self._headers: dict[str, str] = {}

    def load_credentials(self) -> list[str]:
        token = read_key("provider.key", **self._key_source)
        self._headers = {"Authorization": f"OAuth {token}"}
        return [token]

    async def find_panorama(self, client: HttpClient, latitude: float, longitude: float) -> Panorama:
        # The box encloses the circle around the point; `parse_search` drops the images in its corners.
        height = self._radius_m / MIN_METRES_PER_DEGREE
        width = height / max(0.01, math.cos(math.radians(latitude)))
        box = (
            max(-180.0, longitude - width), max(-90.0, latitude - height),
            min(180.0, longitude + width), min(90.0, latitude + height),
        )  # fmt: skip

        parameters = {
            "bbox": ",".join(f"{value:.7f}" for value in box),
            "fields": SEARCH_FIELDS,
            "limit": str(self._limit),
            "is_pano": "false" if self._is_flat else "true",
        }
        images = await client.get(
            "search",
            f"{self._base_url}/images?{urlencode(parameters, safe=',')}",
            content_type="application/json",
            headers=self._headers,
            parse=partial(parse_search, point=(latitude, longitude), radius_m=self._radius_m),
        )

        if self._is_flat:
            return select_flat_images(images, spread_m=self._spread_m, tolerance_deg=self._tolerance_deg)
        return images[0]

    async def fetch_views(
        self, client: HttpClient, panorama: Panorama, headings_deg: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes]]:
        if self._is_flat:
            for heading in headings_deg:
                yield heading, await self._fetch(client, panorama.extra["images"][str(heading)], parse_view)
            return

        pixels = await self._fetch(client, panorama.panorama_id, decode_panorama)
        compass_deg = float(panorama.extra["compass_deg"])
        views = await asyncio.to_thread(self._cut_views, pixels, compass_deg, headings_deg)
        for heading, view in zip(headings_deg, views, strict=True):
            yield heading, view

    def _cut_views(self, pixels: ByteArray, compass_deg: float, headings_deg: Sequence[int]) -> list[bytes]:
        try:
            views = cut_views(
                pixels, compass_deg=compass_deg, headings_deg=tuple(headings_deg), **self._cut_settings
            )
        except DataError:
            raise NotFoundError("no_full_sphere") from None

        files = [simplejpeg.encode_jpeg(view, quality=VIEW_JPEG_QUALITY, colorspace="RGB") for view in views]
        for data in files:
            try:
                check_view(data)
            except PlaceholderError:
                raise NotFoundError("no_imagery") from None
        return files

    async def _fetch(self, client: HttpClient, image_id: str, parse: Callable[[HttpResponse], Any]) -> Any:
        """Requests an image's address with the token, then the image without it."""
        url = await client.get(
            "lookup",
            f"{self._base_url}/{quote(image_id, safe='')}?fields={self._url_field}",
            content_type="application/json",
            headers=self._headers,
            parse=partial(parse_thumbnail_url, field=self._url_field),
        )
        self._check_host(url)
        return await client.get(
            "image", url, content_type="image/", parse=parse, in_thread=True, authenticated=False
        )

    def _check_host(self, url: str) -> None:
        try:
            check_base_url("a thumbnail's address", url.split("?", maxsplit=1)[0])
            host = (urlsplit(url).hostname or "").lower()
        except (ConfigError, ValueError):
            raise RequestFailedError("foreign_host") from None

        if not any(host == domain or host.endswith(f".{domain}") for domain in self._image_hosts):
            raise RequestFailedError("foreign_host")
