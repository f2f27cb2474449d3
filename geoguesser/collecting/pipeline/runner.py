"""Runner of the metadata and download steps: cost estimate, requests, signals, and the final tables."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from geoguesser.collecting.budget import MICROS_PER_USD, Budget, read_spending
from geoguesser.collecting.database import CommitQueue, Database
from geoguesser.collecting.output_tables import PLACES_FILE, write_places_table
from geoguesser.collecting.pipeline import status
from geoguesser.collecting.pipeline.download import download_places, forget_lost_views
from geoguesser.collecting.pipeline.filters import Filters, mark_places
from geoguesser.collecting.pipeline.metadata import request_metadata
from geoguesser.collecting.providers.base import Provider
from geoguesser.collecting.providers.http_client import HttpClient
from geoguesser.collecting.providers.http_settings import HttpSettings
from geoguesser.errors import ConfigError
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Reason of an early end by a signal, and the exit status of the command: 128 + SIGINT, as shells report it.
INTERRUPTED = "interrupted"
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class CollectionRunner:
    """Runs the steps that send requests to a provider whose credentials are loaded."""

    database: Database
    provider: Provider
    budget: Budget
    http: HttpSettings
    filters: Filters

    def run(self, step: str) -> None:
        """Runs `metadata`, `download`, or `all` (both). Logs the cost before and the status after each step.

        Raises SystemExit if the user interrupted a step.
        """
        for current in ("metadata", "download") if step == "all" else (step,):
            end = self._run_step(current, is_all=step == "all")
            if end == INTERRUPTED:
                log.info("stopped; run the same command again to continue")
                raise SystemExit(EXIT_INTERRUPTED)
            if end:
                log.warning("%s Run the same command again when the budget allows more.", end)
                return

    def _run_step(self, step: str, *, is_all: bool) -> str:
        """Runs one step, and returns the reason of an early end (`INTERRUPTED` or a message), or an empty text."""
        is_metadata = step == "metadata"
        if not is_metadata:
            self._select_places()

        remaining = status.count_remaining_requests(
            self.database, self.provider, points=is_metadata, places=not is_metadata
        )
        if not remaining:
            log.info("step=%s: no requests are left", step)
            if not is_metadata and (open_points := self._count_open("metadata")):
                log.warning("%s without metadata: run step=metadata first", format_count(open_points, "point"))
            self._finish(step)
            return ""

        log_cost(
            "step=all" if is_all and is_metadata else f"step={step}",
            self.database, self.provider, self.budget,
            points=is_metadata, places=is_all or not is_metadata,
        )  # fmt: skip
        self._check_money(remaining)
        try:
            return asyncio.run(self._send_requests(step))
        finally:
            self._finish(step)

    def _check_money(self, requests: dict[str, int]) -> None:
        """Refuses a step if the budget does not cover a single one of its paid requests."""
        prices = {kind: self.provider.request_kinds[kind].micros for kind in requests}
        limit, used = self.budget.micros, read_spending(self.database.connection, self.provider.name).micros

        if limit is not None and limit - used < max(prices.values()) > 0:
            total = used + sum(prices[kind] * count for kind, count in requests.items())
            # Rounded up to whole cents, because the named amount must be enough.
            total_usd = math.ceil(total * 100 / MICROS_PER_USD) / 100
            remedy = f"All of them need budget.money={total_usd:.2f} (USD, over all runs)."
            rule, found = "allows none of these requests", limit / MICROS_PER_USD
            raise ConfigError.at("budget.money", rule, found=found, remedy=remedy)

    async def _send_requests(self, step: str) -> str:
        """Sends the requests of a step until they are finished, a budget is used up, or a signal arrives.

        The first signal stops new requests; those in flight end first, because they may be paid. A second signal
        ends the process at once.
        """
        stop, interrupted = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            log.info("stopping: requests in flight are finished and recorded first; a second signal ends at once")
            interrupted.set()
            stop.set()

        # Systems without POSIX signals keep Python's handler: Ctrl-C ends at once.
        with suppress(NotImplementedError):
            for number in SIGNALS:
                loop.add_signal_handler(number, on_signal)

        run, unit = request_metadata, " points"
        if step == "download":
            run, unit = partial(download_places, out=self.database.folder), " places"

        commit_queue = CommitQueue(self.database)
        client = HttpClient(
            self.provider.name, self.provider.request_kinds, self.budget, self.http, commit_queue, stop
        )
        try:
            async with client:
                with tqdm(total=self._count_open(step), desc=step, unit=unit, disable=None) as bar:
                    end = await run(self.provider, client, progress=bar.update)
        finally:
            await commit_queue.close()
            for reason, count in client.failure_counts.most_common():
                log.info("failed attempts: %d by %s", count, reason)
        return INTERRUPTED if interrupted.is_set() else end

    def _count_open(self, step: str) -> int:
        query = {
            "metadata": "SELECT count(*) FROM points WHERE state IN ('planned', 'failed')",
            "download": "SELECT count(*) FROM places WHERE state = 'wanted'",
        }[step]
        return int(self.database.query(query)[0][0])

    def _select_places(self) -> None:
        if lost := forget_lost_views(self.database):
            log.warning("%s missing or changed on disk, to be downloaded again", format_count(lost, "view"))
        self.database.write(lambda db: mark_places(db, self.filters))

    def _finish(self, step: str) -> None:
        """Applies the filters or writes data.csv, and logs the status, however the step ended."""
        if step == "metadata":
            self._select_places()
        else:
            count = write_places_table(self.database)
            log.info("%s: %s", self.database.folder / PLACES_FILE, format_count(count, "place"))

        budget_lines = status.format_budget(self.database, self.provider, self.budget)
        for line in (*status.format_status(self.database), *budget_lines):
            log.info("%s", line)


def log_cost(
    title: str, database: Database, provider: Provider, budget: Budget, *, points: bool, places: bool
) -> None:
    """Logs the remaining requests with their cost, the spending so far, and whether the budget covers them.

    Requests for points and for views of places are included if `points` and `places` are true.
    """
    requests = status.count_remaining_requests(database, provider, points=points, places=places)
    log.info("%s takes at most, if no request must be repeated:", title)
    for line in status.format_cost(requests, provider.request_kinds):
        log.info("  %s", line)
    for line in status.format_budget(database, provider, budget):
        log.info("%s", line)

    if exceeded := status.find_exceeded_budget(database, provider, budget, requests):
        log.warning("%s does not cover this: requests end when the budget is used up", exceeded)
