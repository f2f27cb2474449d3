"""Cost of requests by a price table, before any is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoguesser.errors import ConfigError, check_int, check_number


@dataclass(frozen=True)
class CostItem:
    """Number and price of the requests of one kind.

    Attributes:
        kind: Kind of request as the provider calls it, for example `metadata` or `image`.
        requests: Number of requests.
        free: Number of these that are free of charge.
        per_thousand_usd: Price of 1,000 requests beyond the free ones.
    """

    kind: str
    requests: int
    free: int
    per_thousand_usd: float

    @property
    def usd(self) -> float:
        """Price of these requests."""
        return (self.requests - self.free) * self.per_thousand_usd / 1000.0


def estimate_cost(
    requests: Mapping[str, int],
    prices: Mapping[str, float],
    free: Mapping[str, int] | None = None,
    key: str = "provider",
) -> list[CostItem]:
    """Prices requests by kind.

    Args:
        requests: Number of requests by kind.
        prices: US dollars per 1,000 requests by kind. Every kind in `requests` must have a price.
        free: Number of free requests by kind; None for none. How much of a monthly quota is already used is not
            known here.
        key: Config key of the provider, for messages.

    Returns:
        One item per kind, in the order of `requests`.

    Raises:
        ConfigError: A kind has no price, `free` names an unknown kind, or a number is out of its range.
    """
    quotas = dict(free or {})
    unknown = sorted(set(quotas) - set(prices))
    if unknown:
        raise ConfigError.at(f"{key}.free.{unknown[0]}", f"must be one of the kinds {', '.join(prices)}")

    items = []
    for kind, count in requests.items():
        if kind not in prices:
            remedy = "Give it in US dollars per 1,000 requests, 0.0 if it costs nothing."
            raise ConfigError.at(f"{key}.prices.{kind}", "must be given", remedy=remedy)

        price = check_number(f"{key}.prices.{kind}", prices[kind], low=0.0)
        quota = check_int(f"{key}.free.{kind}", quotas.get(kind, 0), low=0)
        items.append(CostItem(kind, check_int(f"requests of kind {kind}", count, low=0), min(quota, count), price))
    return items


def sum_usd(items: list[CostItem]) -> float:
    """Adds up the prices of all items."""
    return sum(item.usd for item in items)


def format_cost(items: list[CostItem]) -> list[str]:
    """Formats items as the lines of a table: kind, requests, free, price per 1,000, US dollars, and the total."""
    header = ("kind", "requests", "free", "USD per 1,000", "USD")
    rows = [
        (item.kind, f"{item.requests:,}", f"{item.free:,}", f"{item.per_thousand_usd:g}", format_usd(item.usd))
        for item in items
    ]
    rows.append(("total", f"{sum(item.requests for item in items):,}", "", "", format_usd(sum_usd(items))))

    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in (header, *rows)]


def format_usd(usd: float) -> str:
    """Formats dollars as `1,234.50`, and amounts between zero and one cent as `< 0.01` instead of `0.00`."""
    return "< 0.01" if 0 < usd < 0.01 else f"{usd:,.2f}"
