"""Parallel map over threads whose results keep the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """Maps `work` over items in threads and yields the results in the order of the items.

    Items are taken one at a time as results are requested. At most `ahead` items are in work or waiting for their
    turn, so that memory stays flat. `name` is the prefix of the threads' names.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()

            while pending:
                yield pending.popleft().result()
        finally:
            # The caller may stop early; the pool then waits only for items already in work.
            for future in pending:
                future.cancel()
