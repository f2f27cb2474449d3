"""Download: brings the four views of each wanted place onto the disk. A place is done when all of them are whole.

A view that is whole on disk is never asked for again, recorded or not.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from geoguesser.collecting.database import Journal
from geoguesser.collecting.output_files import view_path, whole_view, write_view
from geoguesser.collecting.pipeline.worker_pool import work_through
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_responses import AbsentError, FailedError
from geoguesser.data.place_files import HEADINGS

BATCH = 64
VIEW = "view:"  # before why a place was dropped: its imagery is not there, whatever the filters say


class Wanted(NamedTuple):
    """A place whose views are to be brought: its number, id and panorama, and the headings that are recorded."""

    id: int
    uuid: str
    panorama: Panorama
    recorded: frozenset[int]


async def download_places(
    provider: Provider, web: Web, out: Path, *, concurrency: int, progress: Callable[[], object]
) -> str:
    """Downloads all wanted places of a provider.

    Args:
        provider: Who is asked.
        web: How.
        out: The folder, for `images/<uuid>/<heading>.jpg`.
        concurrency: Places at once; the views of one come one after the other.
        progress: Called for each place.

    Returns:
        Why it ended early, or an empty string.

    Raises:
        ProviderError: The provider refuses, or is away.
        StoreError: The disk is full, or the like.
    """
    changing = web.commits.change

    async def batch_after(last: int) -> list[tuple[int, Wanted]]:
        found = await changing(partial(_wanted, provider=provider.name, last=last))
        return [(place.id, place) for place in found]

    async def bring(place: Wanted) -> None:
        missing = []
        for heading in HEADINGS:
            if heading in place.recorded:
                continue
            path = view_path(out, place.uuid, heading)
            if path.exists() and (size := await asyncio.to_thread(whole_view, path)):
                await changing(partial(_record, place=place.id, heading=heading, size=size))
            else:
                missing.append(heading)
        try:
            async for heading, data in provider.views(web, place.panorama, missing) if missing else _nothing():
                await asyncio.to_thread(write_view, view_path(out, place.uuid, heading), data)
                await changing(partial(_record, place=place.id, heading=heading, size=len(data)))
        except AbsentError as absent:
            await changing(partial(_settle, place=place.id, state="dropped", why=f"{VIEW}{absent}"))
        except FailedError as failed:
            await changing(partial(_settle, place=place.id, state="failed", why=str(failed)))
        progress()

    return await work_through(batch_after, bring, concurrency=concurrency, stop=web.stop)


def forget_lost_views(journal: Journal) -> int:
    """Looks whether the files of all recorded views are there, and takes those that are not out of the journal.

    Returns:
        How many were lost: removed or changed by somebody, and asked for again.
    """
    lost: list[tuple[int, int]] = []
    rows = journal.db.execute("SELECT place, heading, bytes, uuid FROM views JOIN places ON places.id = place")
    for place, heading, size, uuid in rows:
        try:
            whole = view_path(journal.folder, uuid, heading).stat().st_size == size
        except OSError:
            whole = False
        if not whole:
            lost.append((place, heading))

    def work(db: sqlite3.Connection) -> None:
        db.executemany("DELETE FROM views WHERE place = ? AND heading = ?", lost)
        db.executemany(
            "UPDATE places SET state = 'found' WHERE id = ? AND state = 'done'", {(place,) for place, _ in lost}
        )

    if lost:
        journal.change(work)
    return len(lost)


def _wanted(db: sqlite3.Connection, *, provider: str, last: int) -> list[Wanted]:
    rows = db.execute(
        "SELECT id, uuid, panorama_id, latitude, longitude, extra, "
        "(SELECT group_concat(heading) FROM views WHERE place = places.id) "
        "FROM places WHERE state = 'wanted' AND provider = ? AND id > ? ORDER BY id LIMIT ?",
        (provider, last, BATCH),
    )
    return [_place(row) for row in rows]


def _place(row: tuple[Any, ...]) -> Wanted:
    number, uuid, panorama_id, latitude, longitude, extra, done = row
    recorded = frozenset(int(heading) for heading in (done or "").split(",") if heading)
    return Wanted(number, uuid, Panorama(panorama_id, latitude, longitude, extra=json.loads(extra)), recorded)


def _record(db: sqlite3.Connection, *, place: int, heading: int, size: int) -> None:
    """Records a view whose file is whole, and the place as done where it was the last one."""
    db.execute("INSERT OR REPLACE INTO views VALUES (?, ?, ?)", (place, heading, size))
    (count,) = db.execute("SELECT count(*) FROM views WHERE place = ?", (place,)).fetchone()
    if count == len(HEADINGS):
        _settle(db, place=place, state="done", why="")


def _settle(db: sqlite3.Connection, *, place: int, state: str, why: str) -> None:
    db.execute("UPDATE places SET state = ?, why = ? WHERE id = ?", (state, why, place))


async def _nothing() -> Any:
    return
    yield
