"""Manners: how a server is dealt with, as the config says: how much at once, how fast, at what price."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from geoguesser.collecting.budget import check_price
from geoguesser.errors import ConfigError, check_int, check_mapping, check_number


@dataclass(frozen=True)
class Http:
    """How a server is dealt with; the config's `http`.

    Attributes:
        concurrency: Requests under way at once.
        connect_timeout_s: For a connection.
        timeout_s: For a whole answer.
        tries: Attempts of one request.
        first_wait_s: Before the second attempt at most so long; doubled each time.
        longest_wait_s: No wait is longer; a provider that asks for a longer one ends the step.
        give_up_after: So many requests failed in a row end the step: the server is away.
        most_mib: A longer answer is not read.
    """

    concurrency: int
    connect_timeout_s: float
    timeout_s: float
    tries: int
    first_wait_s: float
    longest_wait_s: float
    give_up_after: int
    most_mib: float

    @classmethod
    def of(cls, node: Any) -> Http:
        """From the config.

        Raises:
            ConfigError: A value is out of range.
        """
        given = check_mapping("http", node, tuple(one.name for one in fields(cls)))
        return cls(
            concurrency=check_int("http.concurrency", given["concurrency"], low=1, high=512),
            tries=check_int("http.tries", given["tries"], low=1, high=50),
            give_up_after=check_int("http.give_up_after", given["give_up_after"], low=1),
            **{
                key: check_number(f"http.{key}", given[key], low=0.0, open_low=True)
                for key in ("connect_timeout_s", "timeout_s", "first_wait_s", "longest_wait_s", "most_mib")
            },
        )


@dataclass(frozen=True)
class Kind:
    """One kind of request: its price in millionths of a US dollar, and how many a second."""

    micros: int
    per_second: float


def kinds_of(node: Any, names: tuple[str, ...]) -> dict[str, Kind]:
    """From the config's `provider.requests`: name -> price_per_1000 and per_second.

    Raises:
        ConfigError: A kind is missing, or a value out of range.
    """
    kinds = {}
    for name, one in check_mapping("provider.requests", node, names).items():
        key = f"provider.requests.{name}"
        given = check_mapping(key, one, ("price_per_1000", "per_second"))
        rate = check_number(f"{key}.per_second", given["per_second"], low=0.0, high=100_000.0, open_low=True)
        kinds[name] = Kind(check_price(f"{key}.price_per_1000", given["price_per_1000"]), rate)
    return kinds


def check_base_url(key: str, value: Any) -> str:
    """A server's address without its last slash.

    Raises:
        ConfigError: It is not https (plain http only reaches this machine), or it holds a question mark or a user.
    """
    try:
        parts = urlsplit(str(value))
        _ = parts.port  # a property that checks
    except ValueError:
        parts = urlsplit("")
    bare = not (parts.query or parts.fragment or "@" in parts.netloc)
    if not (
        bare
        and parts.hostname
        and (parts.scheme == "https" or (parts.scheme == "http" and _local(parts.hostname)))
    ):
        raise ConfigError(
            f"{key} must be an address https://HOST/PATH, so that keys travel encrypted, and no more."
        )
    return str(value).rstrip("/")


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
