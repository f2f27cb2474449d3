"""Limits on the size, duration and number of requests, checked once when the server starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from typing import Any

from geoguesser.errors import ConfigError, check_int, check_number

# Applies to requests without photos.
MAX_JSON_BYTES = 64 * 1024


def find_client(address: str | None) -> str:
    """Returns the client of an address: the address itself; for IPv6 the network of one subscriber."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))
    return str(ip)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the server; the attributes are the config keys below `limits`.

    Attributes:
        upload_mib: Maximum size of a request, all photos together, in MiB.
        megapixels: Maximum width x height of a photo, in millions of pixels.
        decode_s: Maximum time to decode a photo, in seconds; its decoder is ended then.
        upload_s: Maximum time for a request to arrive, in seconds.
        request_s: Maximum time from the first byte of a request to its response, in seconds.
        requests: Maximum number of requests in progress or waiting; further ones get status 429.
        connections: Maximum number of open connections; further ones get status 503.
        client_requests: The same as `requests` for the requests of one client.
        client_connections: The same as `connections` for the connections of one client.
        batch: Maximum number of places per forward pass; 1 disables batching.
        wait_ms: Time that a batch waits for further places, in milliseconds.
        places: Maximum number of places in a folder.
        games: Maximum number of games in memory; the oldest are dropped first.
    """

    upload_mib: float = 32.0
    megapixels: float = 50.0
    decode_s: float = 20.0
    upload_s: float = 20.0
    request_s: float = 60.0
    requests: int = 32
    connections: int = 256
    client_requests: int = 16
    client_connections: int = 64
    batch: int = 8
    wait_ms: float = 3.0
    places: int = 256
    games: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            key, value = f"limits.{field.name}", getattr(self, field.name)
            if field.type == "int":
                check_int(key, value, low=1)
            else:
                check_number(key, value, low=0.0, open_low=field.name != "wait_ms")

    @property
    def upload_bytes(self) -> int:
        return int(self.upload_mib * 2**20)


def make_limits(node: Any) -> Limits:
    """Makes limits from the config node `limits`, or raises ConfigError."""
    names = [field.name for field in fields(Limits)]
    if not isinstance(node, dict):
        raise ConfigError.at("limits", f"must be a mapping of {', '.join(names)}", found=node)

    for key in node:
        if key not in names:
            raise ConfigError(f"limits.{key} is not a key of this program. Its keys: {', '.join(names)}.")
    return Limits(**node)
