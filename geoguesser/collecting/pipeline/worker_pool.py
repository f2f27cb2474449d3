"""Working: many items at once, in order of their numbers, until all are done or it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from geoguesser.collecting.budget import BudgetSpentError
from geoguesser.collecting.providers.http_responses import StoppedError

T = TypeVar("T")


async def work_through(
    batch_after: Callable[[int], Awaitable[list[tuple[int, T]]]],
    do: Callable[[T], Awaitable[None]],
    *,
    concurrency: int,
    stop: asyncio.Event,
) -> str:
    """Does all items, `concurrency` at once; only as many are held in memory as a batch has.

    Args:
        batch_after: Gives the next items after a number, each with its number; empty at the end.
        do: Does one.
        concurrency: How many at once.
        stop: Once it is set no item is begun. It is set here where `do` raised.

    Returns:
        Why it ended early (a budget is spent), or an empty string.

    Raises:
        Exception: The first that `do` raised; what was under way has ended by then.
    """
    spent: list[str] = []
    failed: list[Exception] = []
    source = _items(batch_after)
    turn = asyncio.Lock()

    async def work() -> None:
        while not (stop.is_set() or spent):
            try:
                async with turn:
                    item = await anext(source, None)
                if item is None:
                    return
                await do(item[0])
            except StoppedError:
                return
            except BudgetSpentError as error:
                spent.append(str(error))  # what others have reserved is still sent
            except Exception as error:  # the others must end what they began before it is raised
                failed.append(error)
                stop.set()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    if failed:
        raise failed[0]
    return spent[0] if spent else ""


async def _items(batch_after: Callable[[int], Awaitable[list[tuple[int, T]]]]) -> AsyncIterator[tuple[T]]:
    last = -1
    while batch := await batch_after(last):
        for last, item in batch:  # noqa: B007
            yield (item,)
