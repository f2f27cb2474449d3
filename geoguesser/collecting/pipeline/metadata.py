"""Metadata step: asks the provider for the panorama near each point of the plan."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from functools import partial

from geoguesser.collecting.pipeline.worker_pool import run_workers
from geoguesser.collecting.providers.base import Panorama, Provider
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_responses import NotFoundError, RequestFailedError

# Random, and never to be changed: the ids of all places derive from it.
NAMESPACE = uuid.UUID("5b1f3c39-0a8e-5e0e-9a54-0e3d5b0d8c51")
METADATA_BATCH_SIZE = 256
MAX_TEXT_LENGTH = 300  # characters


async def request_metadata(provider: Provider, client: HttpClient, *, progress: Callable[[], object]) -> str:
    """Requests the panoramas of all points that are planned, or failed before.

    Calls `progress` after each point. Returns the reason of an early end; an empty string otherwise.

    Raises ProviderError if the provider refuses the key, or is unavailable.
    """
    write = client.commit_queue.write

    async def load_batch(last: int) -> list[tuple[int, float, float]]:
        return await write(partial(_load_open_points, last=last))

    async def process(point: tuple[int, float, float]) -> None:
        number, latitude, longitude = point
        try:
            panorama = await provider.find_panorama(client, latitude, longitude)
        except NotFoundError as error:
            await write(partial(_set_state, point=number, state="empty", reason=str(error)))
        except RequestFailedError as error:
            await write(partial(_set_state, point=number, state="failed", reason=str(error)))
        else:
            await write(partial(_record_panorama, provider=provider.name, point=number, panorama=panorama))
        progress()

    return await run_workers(load_batch, process, concurrency=client.settings.concurrency, stop=client.stop)


def _load_open_points(db: sqlite3.Connection, *, last: int) -> list[tuple[int, float, float]]:
    return db.execute(
        "SELECT id, latitude, longitude FROM points "
        "WHERE state IN ('planned', 'failed') AND id > ? ORDER BY id LIMIT ?",
        (last, METADATA_BATCH_SIZE),
    ).fetchall()


def _set_state(db: sqlite3.Connection, *, point: int, state: str, reason: str) -> None:
    db.execute("UPDATE points SET state = ?, why = ? WHERE id = ?", (state, reason, point))


def _record_panorama(db: sqlite3.Connection, *, provider: str, point: int, panorama: Panorama) -> None:
    # Several points may find the same panorama. The place belongs to the point with the lowest number, so that
    # the result does not depend on the order of the answers.
    # Tables hold texts as single lines of limited length.
    date, notice = (" ".join(text.split())[:MAX_TEXT_LENGTH] for text in (panorama.date, panorama.copyright))
    # The same panorama has the same id in every folder.
    place_id = str(uuid.uuid5(NAMESPACE, f"{provider}:{panorama.panorama_id}"))
    values = (
        provider, panorama.panorama_id, place_id, panorama.latitude, panorama.longitude, date, notice,
        json.dumps(panorama.extra), point,
    )  # fmt: skip
    (place,) = db.execute(
        "INSERT INTO places (provider, panorama_id, uuid, latitude, longitude, date, copyright, extra, point) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (provider, panorama_id) DO UPDATE SET point = min(point, excluded.point) RETURNING id",
        values,
    ).fetchone()
    db.execute("UPDATE points SET state = 'found', why = '', place = ? WHERE id = ?", (place, point))
