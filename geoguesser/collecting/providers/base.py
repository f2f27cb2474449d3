"""Provider: who has street views. What all of them offer, and what they are asked for; no HTTP here."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_settings import Kind

NAMESPACE = uuid.UUID("5b1f3c39-0a8e-5e0e-9a54-0e3d5b0d8c51")  # ours; place ids are drawn from it


@dataclass(frozen=True)
class Panorama:
    """What a provider has near a point.

    Attributes:
        panorama_id: The provider's name for it.
        latitude: Where it was taken, in degrees (WGS 84), not where was asked.
        longitude: In degrees.
        date: `YYYY-MM`; empty where it is not known.
        copyright: Whose it is.
        extra: Plain values that its views need; no URL.
    """

    panorama_id: str
    latitude: float
    longitude: float
    date: str = ""
    copyright: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Provider(ABC):
    """Who has street views.

    Attributes:
        name: For data.csv, the ledger and messages.
        kinds: Of its requests: price and pace.
        per_point: Kind -> requests that a point takes.
        per_place: Kind -> requests that a place's views take at most.
        look: What its views are made with, and so may not change within a folder.
    """

    name: ClassVar[str]
    kinds: Mapping[str, Kind]
    per_point: Mapping[str, int]
    per_place: Mapping[str, int]
    look: Mapping[str, Any]

    @abstractmethod
    def unlock(self) -> list[str]:
        """Checks that it may be asked, and reads its keys.

        Returns:
            The keys, so that they can be hidden.

        Raises:
            GeoguesserError: Its terms are not accepted, or a key is missing.
        """

    @abstractmethod
    async def find(self, web: Web, latitude: float, longitude: float) -> Panorama:
        """The panorama near a point.

        Raises:
            AbsentError: There is none. Also all that `Web.get` raises.
        """

    @abstractmethod
    def views(self, web: Web, panorama: Panorama, headings_deg: Sequence[int]) -> AsyncIterator[tuple[int, bytes]]:
        """Yields heading and whole JPEG of each view; each was checked to show something.

        Raises:
            AbsentError: There is no imagery. Also all that `Web.get` raises.
        """


def place_uuid(provider: str, panorama_id: str) -> str:
    """The id of a place, which follows from provider and panorama."""
    return str(uuid.uuid5(NAMESPACE, f"{provider}:{panorama_id}"))
