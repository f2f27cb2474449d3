"""Asking: the steps that ask a provider, from what they will cost to what they leave. It knows no provider."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Callable
from contextlib import suppress

from tqdm import tqdm

from geoguesser.collecting.budget import MICROS, Budget, spent
from geoguesser.collecting.database import Commits, Journal
from geoguesser.collecting.output_tables import TABLE, write_places
from geoguesser.collecting.pipeline import status as state
from geoguesser.collecting.pipeline.cost import cost_lines, cost_of
from geoguesser.collecting.pipeline.download import download_places, forget_lost_views
from geoguesser.collecting.pipeline.filters import Filters, choose
from geoguesser.collecting.pipeline.metadata import ask_points
from geoguesser.collecting.pipeline.supervisor import lifeline
from geoguesser.collecting.providers.base import Provider
from geoguesser.collecting.providers.http_client import Web
from geoguesser.collecting.providers.http_settings import Http
from geoguesser.errors import ConfigError
from geoguesser.system.text import format_count

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TWICE_S = 1.0  # a signal that comes again within it is the same one
INTERRUPTED = 130  # as a shell tells of a process that Ctrl-C ended


class Asking:
    """The steps that ask a provider."""

    def __init__(self, journal: Journal, provider: Provider, budget: Budget, http: Http, filters: Filters) -> None:
        self._journal, self._provider, self._budget = journal, provider, budget
        self._http, self._filters = http, filters

    def run(self, step: str) -> None:
        """Asks for metadata, downloads, or both; says what it costs before and what remains after each.

        Where the command is killed meanwhile, what is under way ends first.
        """
        with lifeline.held(self._journal.ends):
            self._run(step)

    def _run(self, step: str) -> None:
        ends: list[str] = []
        for one in ("metadata", "download"):
            if step not in (one, "all") or ends:
                continue
            if one == "download":
                self._choose()
            own = state.due(self._journal, self._provider, points=one == "metadata", places=one == "download")
            if not own:
                log.info("step=%s: nothing is left to be asked for", one)
                if one == "download" and (open_points := self._open("metadata")):
                    log.warning(
                        "%s not asked for yet: step=metadata does that", format_count(open_points, "point")
                    )
                self._close(one)
                continue
            show_cost(
                "all of it" if step == "all" and one == "metadata" else f"step={one}",
                self._journal, self._provider, self._budget,
                points=one == "metadata", places=one == "download" or step == "all",
            )  # fmt: skip
            self._check_money(own)
            try:
                end = asyncio.run(self._ask(one))
            finally:
                self._close(one)
            if end:
                ends.append(end)
        if ends and ends[0] == "interrupted":
            log.info("stopped; the same command goes on")
            raise SystemExit(INTERRUPTED)
        if ends:
            log.warning("%s Run the same command again when there is more: it goes on.", ends[0])

    def _check_money(self, requests: dict[str, int]) -> None:
        """Refuses a step of which the budget allows nothing that costs, before anything is asked."""
        prices = [self._provider.kinds[kind].micros for kind in requests]
        limit, used = self._budget.micros, spent(self._journal.db, self._provider.name).micros
        if limit is not None and max(prices) > 0 and limit - used < max(prices):
            whole = sum(self._provider.kinds[kind].micros * count for kind, count in requests.items())
            raise ConfigError.at(
                "budget.money",
                "allows none of these requests",
                found=limit / MICROS,
                remedy=f"All of them need budget.money={_cents_up(used + whole):.2f} (USD, over all runs).",
            )

    async def _ask(self, step: str) -> str:
        stop, interrupted = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop_now() -> None:
            interrupted.set()
            stop.set()

        def on_signal() -> None:
            log.info("stopping: what is under way ends first")
            stop_now()
            for number in SIGNALS:  # pkill and systemd tell both processes, and the first one passes it on
                loop.add_signal_handler(number, lambda: None)
            loop.call_later(TWICE_S, let_through)

        def let_through() -> None:
            for number in SIGNALS:  # a second one ends at once
                loop.remove_signal_handler(number)

        def on_cut() -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it what was under way
                loop.call_soon_threadsafe(stop_now)

        with suppress(NotImplementedError):  # no POSIX: Ctrl-C then ends at once
            for number in SIGNALS:
                loop.add_signal_handler(number, on_signal)
        commits = Commits(self._journal)
        web = Web(self._provider.name, self._provider.kinds, self._budget, self._http, commits, stop)
        try:
            async with web:
                bar = tqdm(total=self._open(step), desc=step, unit=_unit(step), disable=None)
                with bar, lifeline.held(on_cut):
                    end = await self._work(step, web, bar.update)
        finally:
            await commits.close()
            for kind, count in web.counts.most_common():
                log.info("attempts that failed: %d by %s", count, kind)
        return "interrupted" if interrupted.is_set() else end

    async def _work(self, step: str, web: Web, progress: Callable[[], object]) -> str:
        many = self._http.concurrency
        if step == "metadata":
            return await ask_points(self._provider, web, concurrency=many, progress=progress)
        return await download_places(
            self._provider, web, self._journal.folder, concurrency=many, progress=progress
        )

    def _open(self, step: str) -> int:
        query = {
            "metadata": "SELECT count(*) FROM points WHERE state IN ('planned', 'failed')",
            "download": "SELECT count(*) FROM places WHERE state = 'wanted'",
        }[step]
        return int(self._journal.rows(query)[0][0])

    def _choose(self) -> None:
        if lost := forget_lost_views(self._journal):
            log.warning("%s no longer on disk as written, to be brought again", format_count(lost, "view"))
        self._journal.change(lambda db: choose(db, self._filters))

    def _close(self, step: str) -> None:
        """Whatever ended the step: the table is written, and what was done and remains is shown."""
        if step == "metadata":
            self._choose()
        else:
            log.info("%s: %s", self._journal.folder / TABLE, format_count(write_places(self._journal), "place"))
        for line in state.lines_of(state.standing(self._journal)):
            log.info("%s", line)
        for line in state.budget_lines(self._journal, self._provider, self._budget):
            log.info("%s", line)


def show_cost(
    what: str, journal: Journal, provider: Provider, budget: Budget, *, points: bool, places: bool
) -> None:
    """Says what is to be asked for and what it costs, and whether the budget allows it."""
    requests = state.due(journal, provider, points=points, places=places)
    log.info("%s takes at most, where no request has to be repeated:", what)
    for line in cost_lines(cost_of(requests, state.prices_of(provider))):
        log.info("  %s", line)
    for line in state.budget_lines(journal, provider, budget):
        log.info("%s", line)
    if passed := state.passes(journal, provider, budget, requests):
        log.warning("%s does not cover this: asking ends where the budget does", passed)


def _cents_up(micros: int) -> float:
    """US dollars, rounded up to whole cents: what is named as enough must be."""
    return math.ceil(micros * 100 / MICROS) / 100


def _unit(step: str) -> str:
    return " points" if step == "metadata" else " places"
