"""Base class of the providers of street views, and the panorama that they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_settings import RequestKind


@dataclass(frozen=True)
class Panorama:
    """Panorama (or set of flat images) of a provider near a point.

    Attributes:
        panorama_id: Id at the provider.
        latitude: Latitude in degrees (WGS 84) where it was taken, which is not the point of the request.
        longitude: Longitude in degrees where it was taken.
        date: Month as `YYYY-MM`; empty if unknown.
        copyright: Copyright notice.
        extra: Plain values needed to fetch its views; no URL, because it is written to the database.
    """

    panorama_id: str
    latitude: float
    longitude: float
    date: str = ""
    copyright: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Provider(ABC):
    """Provider of street views.

    Attributes:
        name: Name in data.csv, the database and messages.
        request_kinds: Price and rate limit by kind of request.
        requests_per_point: Number of requests per point of the plan, by kind.
        requests_per_place: Largest number of requests for the views of a place, by kind.
        view_settings: Settings that shape the views, and so may not change within a folder.
    """

    name: ClassVar[str]
    request_kinds: Mapping[str, RequestKind]
    requests_per_point: Mapping[str, int]
    requests_per_place: Mapping[str, int]
    view_settings: Mapping[str, Any]

    @abstractmethod
    def load_credentials(self) -> list[str]:
        """Checks that requests are permitted, and returns the keys, so that they can be redacted from all output.

        Raises GeoguesserError if the provider's terms are not accepted, or a key is missing.
        """

    @abstractmethod
    async def find_panorama(self, client: HttpClient, latitude: float, longitude: float) -> Panorama:
        """Finds the panorama near a point.

        Raises NotFoundError if the provider has none near the point. Also all errors of `HttpClient.get`.
        """

    @abstractmethod
    def fetch_views(
        self, client: HttpClient, panorama: Panorama, headings_deg: Sequence[int]
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yields the heading and the complete JPEG of each view, after checking that the view shows something.

        Raises NotFoundError if the provider has no imagery. Also all errors of `HttpClient.get`.
        """
