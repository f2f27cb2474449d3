"""Metadata: asks a provider for the panorama near each point of the plan. Each answer is asked for once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from geoguesser.collecting.pipeline.worker_pool import work_through
from geoguesser.collecting.providers.base import Panorama, Provider, place_uuid
from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_responses import AbsentError, FailedError

BATCH = 256
LONGEST = 300  # characters of a text that a provider gives us


class Point(NamedTuple):
    """A point of the plan: its number and coordinates in degrees."""

    id: int
    latitude: float
    longitude: float


async def ask_points(provider: Provider, web: Web, *, concurrency: int, progress: Callable[[], object]) -> str:
    """Asks for all points that are planned, or that failed before.

    Args:
        provider: Who is asked.
        web: How.
        concurrency: Points at once.
        progress: Called for each point.

    Returns:
        Why it ended early, or an empty string.

    Raises:
        ProviderError: The provider refuses, or is away.
    """
    changing = web.commits.change

    async def batch_after(last: int) -> list[tuple[int, Point]]:
        return [(point.id, point) for point in await changing(partial(_open_points, last=last))]

    async def ask(point: Point) -> None:
        try:
            found = await provider.find(web, point.latitude, point.longitude)
        except AbsentError as absent:
            await changing(partial(_settle, point=point.id, state="empty", why=str(absent)))
        except FailedError as failed:
            await changing(partial(_settle, point=point.id, state="failed", why=str(failed)))
        else:
            await changing(partial(_found, provider=provider.name, point=point.id, panorama=found))
        progress()

    return await work_through(batch_after, ask, concurrency=concurrency, stop=web.stop)


def _open_points(db: sqlite3.Connection, *, last: int) -> list[Point]:
    rows = db.execute(
        "SELECT id, latitude, longitude FROM points "
        "WHERE state IN ('planned', 'failed') AND id > ? ORDER BY id LIMIT ?",
        (last, BATCH),
    )
    return [Point(*row) for row in rows]


def _settle(db: sqlite3.Connection, *, point: int, state: str, why: str) -> None:
    db.execute("UPDATE points SET state = ?, why = ? WHERE id = ?", (state, why, point))


def _found(db: sqlite3.Connection, *, provider: str, point: int, panorama: Panorama) -> None:
    """Notes a panorama under the first point that it was found for, whichever answer came first."""
    values = (
        provider, panorama.panorama_id, place_uuid(provider, panorama.panorama_id), panorama.latitude,
        panorama.longitude, _line(panorama.date), _line(panorama.copyright), json.dumps(panorama.extra), point,
    )  # fmt: skip
    (place,) = db.execute(
        "INSERT INTO places (provider, panorama_id, uuid, latitude, longitude, date, copyright, extra, point) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (provider, panorama_id) DO UPDATE SET point = min(point, excluded.point) RETURNING id",
        values,
    ).fetchone()
    db.execute("UPDATE points SET state = 'found', why = '', place = ? WHERE id = ?", (place, point))


def _line(text: str) -> str:
    """One line of bounded length, for tables."""
    return " ".join(text.split())[:LONGEST]
