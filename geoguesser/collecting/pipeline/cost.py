"""Cost: what so many requests come to by a table of prices, before anything is asked. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoguesser.errors import ConfigError, check_int, check_number


@dataclass(frozen=True)
class Item:
    """One kind of request.

    Attributes:
        kind: `metadata`, `image`, or what else a provider calls it.
        requests: How many.
        free: How many of them cost nothing.
        per_thousand_usd: The price of 1,000 others.
    """

    kind: str
    requests: int
    free: int
    per_thousand_usd: float

    @property
    def usd(self) -> float:
        """The price of these requests."""
        return (self.requests - self.free) * self.per_thousand_usd / 1000.0


def cost_of(
    requests: Mapping[str, int],
    prices: Mapping[str, float],
    free: Mapping[str, int] | None = None,
    key: str = "provider",
) -> list[Item]:
    """Prices requests by kind.

    Args:
        requests: Kind -> how many.
        prices: Kind -> US dollars per 1,000 requests. Each kind that is asked for must be priced.
        free: Kind -> how many cost nothing (of a month); None for none. What is used already is not known here.
        key: The config key of the provider, for messages.

    Returns:
        An item for each kind, in the order of `requests`.

    Raises:
        ConfigError: A kind has no price, a price or quota has no such kind, or a number is out of its range.
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
        items.append(Item(kind, check_int(f"requests of kind {kind}", count, low=0), min(quota, count), price))
    return items


def total_usd(items: list[Item]) -> float:
    """The price of all items together."""
    return sum(item.usd for item in items)


def cost_lines(items: list[Item]) -> list[str]:
    """A table for people: kind, requests, free ones, price of 1,000, US dollars; and the sum.

    A sum is never rounded to nothing: what costs less than a cent says so.
    """
    head = ("kind", "requests", "free", "USD per 1,000", "USD")
    rows = [
        (item.kind, f"{item.requests:,}", f"{item.free:,}", f"{item.per_thousand_usd:g}", money(item.usd))
        for item in items
    ]
    rows.append(("together", f"{sum(item.requests for item in items):,}", "", "", money(total_usd(items))))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(word.ljust(width) if at == 0 else word.rjust(width) for at, (word, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    ]


def money(usd: float) -> str:
    """`1,234.50`; `< 0.01` for what is more than nothing and less than a cent."""
    return "< 0.01" if 0 < usd < 0.01 else f"{usd:,.2f}"
