"""Budgets hold for parallel requests, over days and restarts, and with exact sums of money."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from geoguesser.collecting.budget import (
    Budget,
    BudgetExceededError,
    check_price,
    read_spending,
    read_spending_by_kind,
    release_request,
    reserve_request,
    utc_today,
)
from geoguesser.collecting.database import CommitQueue, Database
from geoguesser.errors import ConfigError

NO_LIMIT = {"requests": None, "requests_per_day": None, "money": None, "money_per_day": None}


def budget(**limits: float) -> Budget:
    return Budget.from_config({**NO_LIMIT, **limits})


def reserve_many(folder: Path, count: int, limits: Budget, *, micros: int = 7000, day: str = "2026-11-27") -> int:
    """Reserves requests in parallel, and returns the number of allowed ones."""

    async def run(database: Database) -> int:
        commit_queue = CommitQueue(database)
        work = partial(reserve_request, provider="p", kind="image", micros=micros, day=day, budget=limits)
        results = await asyncio.gather(*(commit_queue.write(work) for _ in range(count)), return_exceptions=True)
        await commit_queue.close()
        assert all(result is None or isinstance(result, BudgetExceededError) for result in results)
        return sum(result is None for result in results)

    with Database(folder) as database:
        return asyncio.run(run(database))


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"requests": 20}, 20),
        ({"requests_per_day": 13}, 13),
        ({"money": 0.0699}, 9),
        ({"money_per_day": 0.035}, 5),
        ({"requests": 20, "money": 0.021}, 3),
    ],
)
def test_many_at_once_and_a_restart_stay_within(limits: dict, allowed: int, tmp_path: Path):
    assert reserve_many(tmp_path, 50, budget(**limits)) == allowed
    assert reserve_many(tmp_path, 50, budget(**limits)) == 0  # another process, later
    # Requests that cost nothing exceed no budget of money.
    if "requests" not in limits and "requests_per_day" not in limits:
        assert reserve_many(tmp_path, 5, budget(**limits), micros=0) == 5


@pytest.mark.parametrize("dollars", [8.12, 4.06, 2.03])
def test_a_budget_of_money_is_what_its_decimals_say(dollars: float, tmp_path: Path):
    """As floats these are a little less, and the last image that they pay for would stay away."""
    most = round(dollars / 0.007)
    assert reserve_many(tmp_path, most + 1, budget(money=dollars)) == most


def test_a_new_day_has_its_own_requests_and_the_total_stays(tmp_path: Path):
    limits = budget(requests=25, requests_per_day=10)
    days = ("2026-11-27", "2026-11-28", "2026-11-29", "2026-11-30")
    assert [reserve_many(tmp_path, 50, limits, day=day) for day in days] == [10, 10, 5, 0]


def test_what_was_not_sent_is_given_back(tmp_path: Path):
    reserve_many(tmp_path, 3, budget(), day=utc_today())
    with Database(tmp_path) as database:
        work = partial(release_request, provider="p", kind="image", micros=7000, day=utc_today())
        database.write(work)
        assert read_spending_by_kind(database.connection, "p") == {"image": (2, 14_000)}
        assert read_spending(database.connection, "p") == (
            spending := read_spending(database.connection, "p", utc_today())
        )
        assert (spending.requests, spending.requests_today, spending.micros) == (2, 2, 14_000)
        assert read_spending(database.connection, "another").requests == 0


def test_a_price_is_exact():
    """A price with three decimals per 1,000 requests is a whole number of millionths per request."""
    for thousandths in range(1, 20_000):
        assert check_price("key", thousandths / 1000) == thousandths


@pytest.mark.parametrize("value", [-1, "7", 7.0001, float("nan"), True])
def test_a_bad_price_is_refused(value: object):
    with pytest.raises(ConfigError, match=r"^provider\.requests\.image\.price_per_1000 must"):
        check_price("provider.requests.image.price_per_1000", value)


@pytest.mark.parametrize("limits", [{"requests": -1}, {"requests": 1.5}, {"money": "10"}, {"moneys": 1}])
def test_a_bad_budget_is_refused(limits: dict):
    with pytest.raises(ConfigError, match=r"^budget"):
        budget(**limits)
