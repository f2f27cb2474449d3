"""Ordered: work on many things at once; results come in the order of the things. Knows nothing of images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")


def map_in_order(
    work: Callable[[Item], Done], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Done]:
    """Works on items in threads and yields what comes of them in their order.

    Args:
        work: What is done to each item.
        items: Taken one by one, as results are asked for.
        threads: How many work at once.
        ahead: How many items may be at work or wait for their turn, so that memory stays flat.
        name: Of the threads.
    """
    waiting: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
