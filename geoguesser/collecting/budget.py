"""Budget of requests and money: every request is reserved in the database before it is sent.

A reservation counts as spent, whether or not an answer arrives. After a kill the counts may therefore be too high
by the number of requests in flight, but never too low, so that no budget is exceeded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from geoguesser.errors import ConfigError, GeoguesserError, check_int, check_mapping, check_number

# Money is counted in integer millionths of a US dollar, because sums of floats drift.
MICROS_PER_USD = 1_000_000


class BudgetExceededError(GeoguesserError):
    """Request that was not sent because it would exceed a budget."""


@dataclass(frozen=True)
class Budget:
    """Limits of spending in one folder, in total and per UTC day, with money in millionths of a dollar."""

    requests: int | None
    requests_per_day: int | None
    micros: int | None
    micros_per_day: int | None

    @classmethod
    def from_config(cls, node: Any) -> Budget:
        """Reads the config's `budget`, whose values are numbers from 0 up or null."""
        keys = ("requests", "requests_per_day", "money", "money_per_day")
        values = check_mapping("budget", node, keys)
        limits: list[int | None] = []
        for key in keys:
            check: Callable[..., int] = _parse_micros if key.startswith("money") else partial(check_int, low=0)
            limits.append(None if values[key] is None else check(f"budget.{key}", values[key]))
        return cls(*limits)

    def find_excess(self, spending: Spending, *, requests: int, micros: int) -> str:
        """Returns the first limit that more requests would exceed as `budget.KEY=VALUE`, or an empty string.

        Requests that cost nothing never exceed a limit of money, even one of 0.
        """
        limits = (
            ("requests", self.requests, spending.requests + requests, 1),
            ("money", self.micros, spending.micros + micros, MICROS_PER_USD),
            ("requests_per_day", self.requests_per_day, spending.requests_today + requests, 1),
            ("money_per_day", self.micros_per_day, spending.micros_today + micros, MICROS_PER_USD),
        )
        for key, limit, total, unit in limits:
            is_free = unit == MICROS_PER_USD and micros == 0
            if limit is not None and total > limit and not is_free:
                return f"budget.{key}={limit / unit:.15g}"
        return ""


class Spending(NamedTuple):
    """Reserved requests and millionths of a US dollar, in total and today."""

    requests: int
    requests_today: int
    micros: int
    micros_today: int


def _parse_micros(key: str, value: Any) -> int:
    """Converts US dollars to millionths by the decimals as written: 8.12 * 1e6 in floats is 8119999.999."""
    return int(Decimal(str(check_number(key, value, low=0.0))) * MICROS_PER_USD)


def utc_today() -> str:
    """Returns the current UTC day as YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def read_spending(db: sqlite3.Connection, provider: str, day: str | None = None) -> Spending:
    """Reads the spending with a provider, in total and on a UTC day (today by default)."""
    row = db.execute(
        "SELECT total(requests), total(requests * (day = ?1)), total(micros), total(micros * (day = ?1)) "
        "FROM spent WHERE provider = ?2",
        (day or utc_today(), provider),
    ).fetchone()
    return Spending(*map(int, row))


def reserve_request(
    db: sqlite3.Connection, *, provider: str, kind: str, micros: int, day: str, budget: Budget
) -> None:
    """Reserves one request on a UTC day, within the caller's transaction.

    Raises BudgetExceededError if the request would exceed a budget; nothing is changed.
    """
    exceeded = budget.find_excess(read_spending(db, provider, day), requests=1, micros=micros)
    if exceeded:
        raise BudgetExceededError(f"{exceeded} is used up: the next {kind} request would exceed it.")

    db.execute(
        "INSERT INTO spent VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET requests = requests + 1, "
        "micros = micros + excluded.micros",
        (day, provider, kind, micros),
    )


def release_request(db: sqlite3.Connection, *, provider: str, kind: str, micros: int, day: str) -> None:
    """Undoes the reservation of a request that was certainly not sent."""
    db.execute(
        "UPDATE spent SET requests = requests - 1, micros = micros - ? "
        "WHERE day = ? AND provider = ? AND kind = ? AND requests > 0",
        (micros, day, provider, kind),
    )


def read_spending_by_kind(db: sqlite3.Connection, provider: str) -> dict[str, tuple[int, int]]:
    """Reads requests and millionths of a US dollar in total, by kind of request."""
    rows = db.execute(
        "SELECT kind, sum(requests), sum(micros) FROM spent WHERE provider = ? GROUP BY kind ORDER BY kind",
        (provider,),
    )
    return {str(kind): (int(requests), int(micros)) for kind, requests, micros in rows}


def check_price(key: str, value: Any) -> int:
    """Converts a price in US dollars per 1,000 requests to millionths of a US dollar per request.

    Raises ConfigError if the price is not a number from 0 up, or not an integer number of millionths per request.
    """
    micros = check_number(key, value, low=0.0, high=1e6) * MICROS_PER_USD / 1000
    if abs(micros - round(micros)) > 1e-6:
        raise ConfigError.at(
            key, "must have at most three decimals, because it is a price per 1,000 requests", found=value
        )
    return round(micros)
