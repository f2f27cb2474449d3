"""Clients of the local provider server, each with a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from geoguesser.collecting.budget import Budget, read_spending_by_kind
from geoguesser.collecting.database import CommitQueue, Database
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_settings import HttpSettings, RequestKind
from support.collect_config import HTTP, NO_LIMIT


def use_client(
    folder: Path,
    use: Callable[[HttpClient], Awaitable[Any]],
    *,
    kinds: dict[str, RequestKind],
    name: str = "p",
    budget: Budget = NO_LIMIT,
    **http: float,
) -> tuple[Any, HttpClient, int]:
    """Returns the result or error of `use(client)`, the client, and the number of reserved requests for images."""

    async def run(database: Database) -> tuple[Any, HttpClient]:
        commit_queue = CommitQueue(database)
        settings = HttpSettings.from_config({**HTTP, **http})
        client = HttpClient(name, kinds, budget, settings, commit_queue, asyncio.Event())
        try:
            async with client:
                return await use(client), client
        except Exception as error:
            return error, client
        finally:
            await commit_queue.close()

    with Database(folder) as database:
        result, client = asyncio.run(run(database))
        return result, client, read_spending_by_kind(database.connection, name).get("image", (0, 0))[0]
