"""Ledger: requests and money, reserved in the journal before a request is sent. No budget is ever passed.

What is reserved counts as spent, whether an answer came or not: after a kill up to as many requests as were under
way are counted that nobody answered, never one too few.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from geoguesser.errors import ConfigError, GeoguesserError, check_int, check_mapping, check_number

MICROS = 1_000_000  # in a US dollar: sums of integers do not drift


class BudgetSpentError(GeoguesserError):
    """The next request would pass a budget; it was not sent."""


@dataclass(frozen=True)
class Budget:
    """What may be spent in one folder; None is no limit.

    Attributes:
        requests: In all.
        requests_per_day: In one UTC day.
        micros: Money in all, in millionths of a US dollar.
        micros_per_day: In one UTC day.
    """

    requests: int | None
    requests_per_day: int | None
    micros: int | None
    micros_per_day: int | None

    @classmethod
    def of(cls, node: Any) -> Budget:
        """From the config's `budget`.

        Raises:
            ConfigError: A value is no number from 0 up, or null.
        """
        given = check_mapping("budget", node, ("requests", "requests_per_day", "money", "money_per_day"))
        requests = {
            key: None if given[key] is None else check_int(f"budget.{key}", given[key], low=0)
            for key in ("requests", "requests_per_day")
        }
        money = {
            key: None if given[key] is None else _micros(f"budget.{key}", given[key])
            for key in ("money", "money_per_day")
        }
        return cls(requests["requests"], requests["requests_per_day"], money["money"], money["money_per_day"])


@dataclass(frozen=True)
class Spent:
    """What was reserved so far: requests and millionths of a US dollar, in all and today."""

    requests: int
    requests_today: int
    micros: int
    micros_today: int


def _micros(key: str, value: Any) -> int:
    """Millionths of a US dollar by the decimals that were written: as a float 8.12 times a million is less."""
    return int(Decimal(str(check_number(key, value, low=0.0))) * MICROS)


def today() -> str:
    """The UTC day."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def spent(db: sqlite3.Connection, provider: str, day: str | None = None) -> Spent:
    """What was spent with a provider."""
    row = db.execute(
        "SELECT total(requests), total(micros), total(requests * (day = ?1)), total(micros * (day = ?1)) "
        "FROM spent WHERE provider = ?2",
        (day or today(), provider),
    ).fetchone()
    return Spent(int(row[0]), int(row[2]), int(row[1]), int(row[3]))


def reserve(db: sqlite3.Connection, *, provider: str, kind: str, micros: int, day: str, budget: Budget) -> None:
    """Reserves one request on a UTC day, within a transaction.

    Raises:
        BudgetSpentError: It would pass a budget; nothing is changed.
    """
    so_far = spent(db, provider, day)
    limits = (
        ("requests", budget.requests, so_far.requests + 1, 1),
        ("requests_per_day", budget.requests_per_day, so_far.requests_today + 1, 1),
        ("money", budget.micros, so_far.micros + micros, MICROS),
        ("money_per_day", budget.micros_per_day, so_far.micros_today + micros, MICROS),
    )
    for key, limit, then, unit in limits:
        free = unit == MICROS and micros == 0  # what costs nothing passes no budget of money
        if limit is not None and then > limit and not free:
            raise BudgetSpentError(
                f"budget.{key}={limit / unit:g} is spent: the next {kind} request would pass it."
            )
    db.execute(
        "INSERT INTO spent VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET requests = requests + 1, "
        "micros = micros + excluded.micros",
        (day, provider, kind, micros),
    )


def give_back(db: sqlite3.Connection, *, provider: str, kind: str, micros: int, day: str) -> None:
    """Undoes the reservation of a request that was certainly not sent."""
    db.execute(
        "UPDATE spent SET requests = requests - 1, micros = micros - ? "
        "WHERE day = ? AND provider = ? AND kind = ? AND requests > 0",
        (micros, day, provider, kind),
    )


def spent_by_kind(db: sqlite3.Connection, provider: str) -> dict[str, tuple[int, int]]:
    """Kind -> requests and millionths of a US dollar, in all."""
    rows = db.execute(
        "SELECT kind, sum(requests), sum(micros) FROM spent WHERE provider = ? GROUP BY kind ORDER BY kind",
        (provider,),
    )
    return {str(kind): (int(requests), int(micros)) for kind, requests, micros in rows}


def check_price(key: str, value: Any) -> int:
    """Millionths of a US dollar per request, from a price per 1,000.

    Raises:
        ConfigError: It is no number from 0 up, or no whole number of millionths per request.
    """
    micros = check_number(key, value, low=0.0, high=1e6) * MICROS / 1000
    if abs(micros - round(micros)) > 1e-6:
        raise ConfigError.at(
            key, "must have at most three decimals, for it is a price per 1,000 requests", found=value
        )
    return round(micros)
