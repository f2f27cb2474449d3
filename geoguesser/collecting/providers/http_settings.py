"""Settings of HTTP requests: concurrency, timeouts, retries, and rate and price of each kind of request."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from geoguesser.collecting.budget import check_price
from geoguesser.errors import ConfigError, check_int, check_mapping, check_number


@dataclass(frozen=True)
class HttpSettings:
    """The node `http` of conf/collect.yaml, which describes the values."""

    concurrency: int
    connect_timeout_s: float
    timeout_s: float
    max_attempts: int
    backoff_base_s: float
    backoff_max_s: float
    max_consecutive_failures: int
    max_response_mib: float

    @classmethod
    def from_config(cls, node: Any) -> HttpSettings:
        values = check_mapping("http", node, tuple(field.name for field in fields(cls)))
        max_by_key = {"concurrency": 512, "max_attempts": 50, "max_consecutive_failures": None}
        for key, value in values.items():
            if key in max_by_key:
                check_int(f"http.{key}", value, low=1, high=max_by_key[key])
            else:
                check_number(f"http.{key}", value, low=0.0, open_low=True)
        return cls(**values)


class RequestKind(NamedTuple):
    """Price in millionths of a US dollar, and highest rate, of one kind of request."""

    micros: int
    per_second: float


def parse_request_kinds(node: Any, names: tuple[str, ...]) -> dict[str, RequestKind]:
    """Reads price_per_1000 and per_second of each kind from the config's `provider.requests`.

    Raises ConfigError if a kind is missing, or a value is out of its range.
    """
    kinds = {}
    for name, value in check_mapping("provider.requests", node, names).items():
        key = f"provider.requests.{name}"
        settings = check_mapping(key, value, ("price_per_1000", "per_second"))

        rate = check_number(f"{key}.per_second", settings["per_second"], low=0.0, high=100_000.0, open_low=True)
        kinds[name] = RequestKind(check_price(f"{key}.price_per_1000", settings["price_per_1000"]), rate)
    return kinds


def check_base_url(key: str, value: Any) -> str:
    """Returns a server's address without a trailing slash.

    Raises ConfigError if the address is not https (plain http is allowed for this machine only), or has a query, a
    fragment or a user.
    """
    try:
        parts = urlsplit(str(value))
        # The property raises ValueError if the port is not a number.
        _ = parts.port
    except ValueError:
        parts = urlsplit("")

    host = parts.hostname or ""
    is_encrypted = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    if not host or not is_encrypted or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"{key} must be an address https://HOST/PATH, so that keys are encrypted, without query or user."
        )
    return str(value).rstrip("/")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
