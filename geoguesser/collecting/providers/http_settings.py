"""Settings of HTTP requests: concurrency, timeouts, retries, and rate and price of each kind of request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from geoguesser.collecting.budget import check_price
from geoguesser.errors import ConfigError, check_int, check_mapping, check_number


@dataclass(frozen=True)
class HttpSettings:
    """The config's `http`.

    Attributes:
        concurrency: Largest number of requests in flight.
        connect_timeout_s: Time limit for opening a connection.
        timeout_s: Time limit for a complete response.
        max_attempts: Largest number of attempts per request.
        backoff_base_s: Longest wait before the second attempt; doubled for each further one.
        backoff_max_s: Longest wait. A provider that asks for a longer one ends the step.
        max_consecutive_failures: Number of requests failed in a row after which the step ends.
        max_response_mib: Largest response in MiB. A longer one is not read.
    """

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
        """Reads the config's `http`.

        Raises:
            ConfigError: A value is out of its range.
        """
        values = check_mapping("http", node, tuple(field.name for field in fields(cls)))
        return cls(
            concurrency=check_int("http.concurrency", values["concurrency"], low=1, high=512),
            max_attempts=check_int("http.max_attempts", values["max_attempts"], low=1, high=50),
            max_consecutive_failures=check_int(
                "http.max_consecutive_failures", values["max_consecutive_failures"], low=1
            ),
            **{
                key: check_number(f"http.{key}", values[key], low=0.0, open_low=True)
                for key in (
                    "connect_timeout_s", "timeout_s", "backoff_base_s", "backoff_max_s", "max_response_mib",
                )
            },
        )  # fmt: skip


@dataclass(frozen=True)
class RequestKind:
    """Price and rate limit of one kind of request.

    Attributes:
        micros: Price of a request in millionths of a US dollar.
        per_second: Highest number of requests per second.
    """

    micros: int
    per_second: float


def parse_request_kinds(node: Any, names: tuple[str, ...]) -> dict[str, RequestKind]:
    """Reads price_per_1000 and per_second of each kind from the config's `provider.requests`.

    Raises:
        ConfigError: A kind is missing, or a value is out of its range.
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

    Raises:
        ConfigError: The address is not https (plain http is allowed for this machine only), or has a query, a
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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
