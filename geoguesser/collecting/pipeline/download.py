"""Download step: fetches the four views of each wanted place.

A place is done when all of its views are complete on disk. A view that is complete on disk is never requested
again, even if it is missing in the database.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from geoguesser.collecting.database import DATABASE_NAME, Database
from geoguesser.collecting.output_files import get_complete_view_size, get_view_path, write_view
from geoguesser.collecting.pipeline.worker_pool import run_workers
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import NotFoundError, RequestFailedError
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import StoreError, first_line
from geoguesser.system.received_files import parse_json

DOWNLOAD_BATCH_SIZE = 64

# Prefix of the reason if a place was dropped for missing imagery. Filters never take such a place back.
NO_VIEW_PREFIX = "view:"


class PendingPlace(NamedTuple):
    """Place with views to download; `recorded` are the headings of the views in the database."""

    id: int
    uuid: str
    panorama: Panorama
    recorded: frozenset[int]


async def download_places(
    provider: Provider, client: HttpClient, *, out: Path, progress: Callable[[], object]
) -> str:
    """Downloads the views of all wanted places to `out/images/<uuid>/<heading>.jpg`, those of a place one by one.

    Calls `progress` after each place. Returns the reason of an early end; an empty string otherwise.

    Raises ProviderError if the provider refuses the key or is unavailable, and StoreError if a view cannot be
    written, for example because the disk is full.
    """
    write = client.commit_queue.write

    async def load_batch(last: int) -> list[PendingPlace]:
        return await write(partial(_load_wanted_places, provider=provider.name, last=last))

    async def find_missing_headings(place: PendingPlace) -> list[int]:
        missing = []
        for heading in HEADINGS:
            if heading in place.recorded:
                continue
            # A kill may have come after the writing of a view and before its record.
            path = get_view_path(out, place.uuid, heading)
            if path.exists() and (size := await asyncio.to_thread(get_complete_view_size, path)):
                await write(partial(_record_view, place=place.id, heading=heading, size=size))
            else:
                missing.append(heading)
        return missing

    async def process(place: PendingPlace) -> None:
        missing = await find_missing_headings(place)
        try:
            # Without this check a provider would fetch a panorama only to cut no views from it.
            if missing:
                async for heading, data in provider.fetch_views(client, place.panorama, missing):
                    await asyncio.to_thread(write_view, get_view_path(out, place.uuid, heading), data)
                    await write(partial(_record_view, place=place.id, heading=heading, size=len(data)))
        except NotFoundError as error:
            await write(partial(_set_state, place=place.id, state="dropped", reason=f"{NO_VIEW_PREFIX}{error}"))
        except RequestFailedError as error:
            await write(partial(_set_state, place=place.id, state="failed", reason=str(error)))
        progress()

    return await run_workers(load_batch, process, concurrency=client.settings.concurrency, stop=client.stop)


def forget_lost_views(database: Database) -> int:
    """Deletes the records of views whose files were removed or changed, and returns their number."""
    lost: list[tuple[int, int]] = []
    rows = database.connection.execute(
        "SELECT place, heading, bytes, uuid FROM views JOIN places ON places.id = place"
    )
    for place, heading, size, uuid in rows:
        try:
            is_intact = get_view_path(database.folder, uuid, heading).stat().st_size == size
        except OSError:
            is_intact = False
        if not is_intact:
            lost.append((place, heading))

    def delete(db: sqlite3.Connection) -> None:
        db.executemany("DELETE FROM views WHERE place = ? AND heading = ?", lost)
        db.executemany(
            "UPDATE places SET state = 'found' WHERE id = ? AND state = 'done'", {(place,) for place, _ in lost}
        )

    if lost:
        database.write(delete)
    return len(lost)


def _load_wanted_places(db: sqlite3.Connection, *, provider: str, last: int) -> list[PendingPlace]:
    rows = db.execute(
        "SELECT id, uuid, panorama_id, latitude, longitude, extra, "
        "(SELECT group_concat(heading) FROM views WHERE place = places.id) "
        "FROM places WHERE state = 'wanted' AND provider = ? AND id > ? ORDER BY id LIMIT ?",
        (provider, last, DOWNLOAD_BATCH_SIZE),
    )
    places = []
    for number, uuid, panorama_id, latitude, longitude, extra, headings in rows:
        try:
            panorama = Panorama(panorama_id, latitude, longitude, extra=parse_json(extra))
            recorded = frozenset(map(int, headings.split(","))) if headings else frozenset()
        except (ValueError, TypeError) as error:
            rule = f"holds a damaged place ({first_line(error)})"
            raise StoreError.at(f"{DATABASE_NAME}, place {number}", rule) from error
        places.append(PendingPlace(number, uuid, panorama, recorded))
    return places


def _record_view(db: sqlite3.Connection, *, place: int, heading: int, size: int) -> None:
    db.execute("INSERT OR REPLACE INTO views VALUES (?, ?, ?)", (place, heading, size))
    (count,) = db.execute("SELECT count(*) FROM views WHERE place = ?", (place,)).fetchone()
    if count == len(HEADINGS):
        _set_state(db, place=place, state="done", reason="")


def _set_state(db: sqlite3.Connection, *, place: int, state: str, reason: str) -> None:
    db.execute("UPDATE places SET state = ?, why = ? WHERE id = ?", (state, reason, place))
