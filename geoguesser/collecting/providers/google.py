"""Street View Static API of Google: metadata and images.

Source: developers.google.com/maps/documentation/streetview (request-streetview, metadata, digital-signature),
read in November 2026.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from geoguesser.collecting.output_files import PlaceholderError, check_view
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.credentials import read_key
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import (
    HttpResponse,
    NotFoundError,
    RequestFailedError,
    RetryableError,
)
from geoguesser.collecting.providers.http_settings import check_base_url, parse_request_kinds
from geoguesser.errors import ConfigError, ProviderError, check_bool, check_choice, check_int, check_number

TERMS = (
    "Google's terms for Street View (Google Maps Platform Terms of Service, section 3.2.3, and the Service "
    "Specific Terms) forbid to download images in bulk, to store them beyond short caching, and to build datasets "
    "from them, for machine learning too, unless Google has allowed you more in writing. Read the terms of your "
    "account and region. If they allow your use, confirm it: provider.accept_terms=true"
)


class Google(Provider):
    """Street View Static API. The arguments are the keys of conf/provider/google.yaml, which describes them."""

    name = "google"

    def __init__(
        self,
        *,
        accept_terms: bool,
        base_url: str,
        key_variable: str,
        key_file: str | None,
        secret_variable: str,
        secret_file: str | None,
        radius_m: float,
        source: str,
        size: int,
        fov_deg: float,
        pitch_deg: float,
        requests: dict[str, Any],
    ) -> None:
        self._accept_terms = check_bool("provider.accept_terms", accept_terms)
        self._base_url = check_base_url("provider.base_url", base_url)
        self._key_source: dict[str, Any] = {"variable": key_variable, "file": key_file}
        self._secret_source: dict[str, Any] = {"variable": secret_variable, "file": secret_file}
        self._radius_m = check_number("provider.radius_m", radius_m, low=1.0, high=100_000.0)
        self._source = check_choice("provider.source", source, ("outdoor", "default"))
        self._size = check_int("provider.size", size, low=16, high=640)
        self._fov_deg = check_number("provider.fov_deg", fov_deg, low=10.0, high=120.0)
        self._pitch_deg = check_number("provider.pitch_deg", pitch_deg, low=-90.0, high=90.0)

        self.request_kinds = parse_request_kinds(requests, ("metadata", "image"))
        self.requests_per_point, self.requests_per_place = {"metadata": 1}, {"image": 4}
        self.view_settings = {"size": self._size, "fov_deg": self._fov_deg, "pitch_deg": self._pitch_deg}

        self._key, self._secret = "", b""

    def load_credentials(self) -> list[str]:
        if not self._accept_terms:
            raise ConfigError(f"provider=google sends no request until its terms are accepted. {TERMS}")

        self._key = read_key("provider.key", **self._key_source)
        secret = read_key("provider.secret", **self._secret_source, required=False)
        try:
            self._secret = base64.b64decode(secret, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(
                "provider.secret must be the signing secret as Google shows it, in base64."
            ) from None
        return [self._key, secret]

    async def find_panorama(self, client: HttpClient, latitude: float, longitude: float) -> Panorama:
        location, radius = f"{latitude:.7f},{longitude:.7f}", f"{self._radius_m:g}"
        url = self._make_url("/metadata", {"location": location, "radius": radius, "source": self._source})
        return await client.get("metadata", url, content_type="application/json", parse=parse_metadata)

    async def fetch_views(
        self, client: HttpClient, panorama: Panorama, headings_deg: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes]]:
        for heading in headings_deg:
            # return_error_code asks for a 404 instead of a grey picture with status 200.
            url = self._make_url(
                "",
                {
                    "pano": panorama.panorama_id,
                    "size": f"{self._size}x{self._size}",
                    "heading": f"{heading}",
                    "pitch": f"{self._pitch_deg:g}",
                    "fov": f"{self._fov_deg:g}",
                    "return_error_code": "true",
                },
            )
            view = await client.get("image", url, content_type="image/", parse=parse_view, in_thread=True)
            yield heading, view

    def _make_url(self, path: str, parameters: dict[str, str]) -> str:
        url = f"{self._base_url}{path}?{urlencode({**parameters, 'key': self._key})}"
        return f"{url}&signature={sign_url(url, self._secret)}" if self._secret else url


def sign_url(url: str, secret: bytes) -> str:
    """Computes the signature of a URL: HMAC-SHA1 of its path and query, in URL-safe base64."""
    parts = urlsplit(url)
    digest = hmac.new(secret, f"{parts.path}?{parts.query}".encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def parse_metadata(response: HttpResponse) -> Panorama:
    """Parses a metadata response, or raises the error that its status means."""
    try:
        metadata = json.loads(response.body)
        status = str(metadata["status"])
    except (ValueError, KeyError, TypeError):
        raise RetryableError("broken_answer") from None

    if status in ("ZERO_RESULTS", "NOT_FOUND"):
        raise NotFoundError("no_panorama")
    if status == "OVER_QUERY_LIMIT":
        raise RetryableError("over_query_limit", response.retry_after_s)
    if status == "REQUEST_DENIED":
        raise ProviderError(
            "google refuses the request (REQUEST_DENIED): the key is wrong or restricted, the Street View Static "
            "API is not enabled for it, billing is off, or a signature is missing or wrong."
        )
    if status == "INVALID_REQUEST":
        raise RequestFailedError("invalid_request")
    if status != "OK":
        raise RetryableError("unknown_error")

    try:
        location = metadata["location"]
        latitude, longitude = float(location["lat"]), float(location["lng"])
        panorama_id = str(metadata["pano_id"])
        # Written so that NaN is refused too.
        if not panorama_id or not abs(latitude) <= 90 or not abs(longitude) <= 180:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise RetryableError("broken_answer") from None

    date, owner = str(metadata.get("date", ""))[:7], str(metadata.get("copyright", ""))
    return Panorama(panorama_id, latitude, longitude, date, owner)


def parse_view(response: HttpResponse) -> bytes:
    """Returns the bytes of an image response, after decoding it to its end.

    Raises NotFoundError if the image is a placeholder for missing imagery, RetryableError if it is incomplete.
    """
    try:
        check_view(response.body)
    except PlaceholderError:
        raise NotFoundError("no_imagery") from None
    except ValueError:
        raise RetryableError("broken_image") from None
    return response.body
