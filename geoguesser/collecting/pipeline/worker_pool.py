"""Worker pool that processes numbered items in parallel until they are finished or the run is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from geoguesser.collecting.budget import BudgetExceededError
from geoguesser.collecting.providers.http_responses import CancelledError

Item = TypeVar("Item", bound=tuple[Any, ...])


async def run_workers(
    load_batch: Callable[[int], Awaitable[list[Item]]],
    process: Callable[[Item], Awaitable[None]],
    *,
    concurrency: int,
    stop: asyncio.Event,
) -> str:
    """Processes all items with `concurrency` workers, holding one batch of items in memory.

    `load_batch` returns the items after a number, which begin with their number; an empty list at the end. The
    first error of `process` is raised after all items in flight have ended. Once `stop` is set, here after such an
    error, no further item is started. Returns the reason of an early end (a used up budget), or an empty string.
    """
    budget_messages: list[str] = []
    errors: list[Exception] = []
    items = _iterate(load_batch)
    # An async generator must not be resumed by two tasks at once.
    items_lock = asyncio.Lock()

    async def work() -> None:
        while not (stop.is_set() or budget_messages):
            try:
                async with items_lock:
                    item = await anext(items, None)
                if item is None:
                    return
                await process(item)
            except CancelledError:
                return
            except BudgetExceededError as error:
                # Requests that other workers have already reserved are still sent.
                budget_messages.append(str(error))
            except Exception as error:
                # Raised only after the other workers have finished their requests in flight, which may be paid.
                errors.append(error)
                stop.set()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    if errors:
        raise errors[0]
    return budget_messages[0] if budget_messages else ""


async def _iterate(load_batch: Callable[[int], Awaitable[list[Item]]]) -> AsyncIterator[Item]:
    last = -1
    while batch := await load_batch(last):
        for item in batch:
            yield item
        last = batch[-1][0]
