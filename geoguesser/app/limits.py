"""Limits: how much one request may ask for, and all of them together. Checked once, when the server starts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from geoguesser.errors import ConfigError, check_int, check_number

MIB = 2**20
MAX_JSON_BYTES = 64 * 1024  # of a request without photos


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server takes on.

    Attributes:
        upload_mib: Size of one request, all photos together, in MiB.
        megapixels: Width x height of one photo, in millions.
        upload_s: Seconds in which a request must have arrived.
        request_s: Seconds in which a request must be answered, its arrival included.
        requests: How many requests may be at work or waiting at once; more are answered 429.
        connections: How many connections may be open at once; more are answered 503.
        batch: Places that go through the network together; 1 for no batching.
        wait_ms: How long a batch waits for further places.
        places: Places of one folder.
        games: Games that are remembered; the oldest go first.
    """

    upload_mib: float = 32.0
    megapixels: float = 50.0
    upload_s: float = 20.0
    request_s: float = 60.0
    requests: int = 32
    connections: int = 256
    batch: int = 8
    wait_ms: float = 3.0
    places: int = 256
    games: int = 1000

    def __post_init__(self) -> None:
        for one in fields(self):
            key, value = f"limits.{one.name}", getattr(self, one.name)
            if one.type == "int":
                check_int(key, value, low=1)
            else:
                check_number(key, value, low=0.0, open_low=one.name != "wait_ms")

    @property
    def upload_bytes(self) -> int:
        """`upload_mib` in bytes."""
        return int(self.upload_mib * MIB)


def make_limits(node: Any) -> Limits:
    """Makes them of plain values.

    Raises:
        ConfigError: A key is unknown or a value breaks its rule.
    """
    names = [one.name for one in fields(Limits)]
    if not isinstance(node, dict):
        raise ConfigError.at("limits", f"must be a mapping of {', '.join(names)}", found=node)
    for key in node:
        if key not in names:
            raise ConfigError(f"limits.{key} is no key of this program. Its keys: {', '.join(names)}.")
    return Limits(**node)
