"""Google: the Street View Static API, metadata and images.

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
from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_responses import AbsentError, AgainError, FailedError, Reply
from geoguesser.collecting.providers.http_settings import check_base_url, kinds_of
from geoguesser.errors import ConfigError, ProviderError, check_bool, check_choice, check_int, check_number

TERMS = (
    "Google's terms for Street View (Google Maps Platform Terms of Service, section 3.2.3, and the Service "
    "Specific Terms) forbid to download images in bulk, to store them beyond short caching, and to build datasets "
    "from them, for machine learning too, unless Google has allowed you more in writing. Whether you may do this "
    "is for you to know: read the terms of your account and region. If you may, say so: provider.accept_terms=true"
)


class Google(Provider):
    """The Street View Static API.

    Args:
        accept_terms: The user says that the terms allow what is done here.
        base_url: Of the API.
        key_variable: The environment variable that holds the key.
        key_file: Or a file that only its owner may read.
        secret_variable: The environment variable that holds the signing secret; unset, nothing is signed.
        secret_file: Or a file.
        radius_m: How far from the point a panorama may lie.
        source: `outdoor`, or `default`.
        size: Side of the square views in pixels, up to 640.
        fov_deg: Their field of view, up to 120.
        pitch_deg: Up (positive) or down.
        requests: Kind (`metadata`, `image`) -> price_per_1000, per_second.

    Raises:
        ConfigError: A value is out of range.
    """

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
        self._accepted = check_bool("provider.accept_terms", accept_terms)
        self._base = check_base_url("provider.base_url", base_url)
        self._names = (key_variable, key_file, secret_variable, secret_file)
        self._radius = check_number("provider.radius_m", radius_m, low=1.0, high=100_000.0)
        self._source = check_choice("provider.source", source, ("outdoor", "default"))
        self._size = check_int("provider.size", size, low=16, high=640)
        self._fov = check_number("provider.fov_deg", fov_deg, low=10.0, high=120.0)
        self._pitch = check_number("provider.pitch_deg", pitch_deg, low=-90.0, high=90.0)
        self.kinds = kinds_of(requests, ("metadata", "image"))
        self.per_point, self.per_place = {"metadata": 1}, {"image": 4}
        self.look = {"size": self._size, "fov_deg": self._fov, "pitch_deg": self._pitch}
        self._key, self._secret = "", b""

    def unlock(self) -> list[str]:
        if not self._accepted:
            raise ConfigError(f"provider=google may not be asked as it stands. {TERMS}")
        key_variable, key_file, secret_variable, secret_file = self._names
        self._key = read_key("provider.key", variable=key_variable, file=key_file)
        secret = read_key("provider.secret", variable=secret_variable, file=secret_file, needed=False)
        try:
            self._secret = base64.b64decode(secret, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(
                "provider.secret must be the signing secret as Google shows it, in base64."
            ) from None
        return [self._key, secret]

    async def find(self, web: Web, latitude: float, longitude: float) -> Panorama:
        words = {
            "location": f"{latitude:.7f},{longitude:.7f}",
            "radius": f"{self._radius:g}",
            "source": self._source,
        }
        url = self._url("/metadata", words)
        return await web.get("metadata", url, accept="application/json", read=read_metadata)

    async def views(
        self, web: Web, panorama: Panorama, headings_deg: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes]]:
        for heading in headings_deg:
            words = {
                "pano": panorama.panorama_id,
                "size": f"{self._size}x{self._size}",
                "heading": f"{heading}",
                "pitch": f"{self._pitch:g}",
                "fov": f"{self._fov:g}",
                "return_error_code": "true",
            }
            yield (
                heading,
                await web.get("image", self._url("", words), accept="image/", read=read_view, heavy=True),
            )

    def _url(self, path: str, words: dict[str, str]) -> str:
        url = f"{self._base}{path}?{urlencode({**words, 'key': self._key})}"
        return f"{url}&signature={sign(url, self._secret)}" if self._secret else url


def sign(url: str, secret: bytes) -> str:
    """The signature of a URL: HMAC-SHA1 of its path and query, in URL-safe base64."""
    parts = urlsplit(url)
    digest = hmac.new(secret, f"{parts.path}?{parts.query}".encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def read_metadata(reply: Reply) -> Panorama:
    """The panorama of a metadata answer.

    Raises:
        AbsentError: There is none near the point.
        FailedError: The request is invalid.
        AgainError: For now, or the answer makes no sense.
        ProviderError: The key is refused.
    """
    try:
        found = json.loads(reply.body)
        status = str(found["status"])
    except (ValueError, KeyError, TypeError):
        raise AgainError("broken_answer") from None
    if status in ("ZERO_RESULTS", "NOT_FOUND"):
        raise AbsentError("no_panorama")
    if status == "OVER_QUERY_LIMIT":
        raise AgainError("over_query_limit", reply.retry_after_s)
    if status == "REQUEST_DENIED":
        raise ProviderError(
            "google refuses the request (REQUEST_DENIED): the key is wrong or restricted, the Street View Static "
            "API is not enabled for it, billing is off, or a signature is missing or wrong."
        )
    if status == "INVALID_REQUEST":
        raise FailedError("invalid_request")
    if status != "OK":
        raise AgainError("unknown_error")
    try:
        at = found["location"]
        latitude, longitude = float(at["lat"]), float(at["lng"])
        panorama_id = str(found["pano_id"])
        if not panorama_id or not abs(latitude) <= 90 or not abs(longitude) <= 180:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise AgainError("broken_answer") from None
    return Panorama(
        panorama_id, latitude, longitude, str(found.get("date", ""))[:7], str(found.get("copyright", ""))
    )


def read_view(reply: Reply) -> bytes:
    """The bytes of an image answer, checked to its end.

    Raises:
        AbsentError: It is a placeholder: there is no imagery.
        AgainError: It is not whole.
    """
    try:
        check_view(reply.body)
    except PlaceholderError:
        raise AbsentError("no_imagery") from None
    except ValueError:
        raise AgainError("broken_image") from None
    return reply.body
