"""Collection: one `python -m geoguesser.collect`, from its config to a folder that training reads."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.collecting import standing as state
from geoguesser.collecting.cost import cost_lines, cost_of
from geoguesser.collecting.download import download_places, forget_lost_views
from geoguesser.collecting.filters import Filters, choose
from geoguesser.collecting.journal import Commits, Journal
from geoguesser.collecting.keys import Keys, refuse_keys
from geoguesser.collecting.ledger import MICROS, Budget, spent
from geoguesser.collecting.manners import Http
from geoguesser.collecting.metadata import ask_points
from geoguesser.collecting.points import check_planned, check_same_plan, keep_plan, keep_provider, planned
from geoguesser.collecting.provider import Provider
from geoguesser.collecting.tables import TABLE, write_places
from geoguesser.collecting.web import Web
from geoguesser.configs import build, known_keys, plain
from geoguesser.counted import counted
from geoguesser.errors import ConfigError, ProviderError, check_bool, check_choice, check_int

log = logging.getLogger(__name__)

STEPS = ("plan", "metadata", "download", "all", "photos", "cut")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130  # as a shell tells of a process that Ctrl-C ended


def collect_places(cfg: DictConfig) -> None:
    """Runs one step, or all.

    Args:
        cfg: The config of conf/collect.yaml.

    Raises:
        GeoguesserError: What the user can mend. The same command goes on where it was.
        SystemExit: The user stopped it.
    """
    config = plain(cfg, known_keys("collect"))
    refuse_keys(config)
    step = check_choice("step", config["step"], STEPS)
    out = Path(str(config["out"])).expanduser()
    if step in ("photos", "cut"):
        _own_pictures(step, config, out)
        return
    asking = step != "plan"
    budget, http, filters = Budget.of(config["budget"]), Http.of(config["http"]), Filters.of(config["filters"])
    provider: Provider = build(config["provider"], "provider")
    keys = Keys(provider.unlock() if asking else ())
    with _hidden(keys), Journal(out) as journal:
        if step in ("plan", "all"):
            _plan(config, journal, provider)
        check_planned(journal)
        if asking:
            keep_provider(journal, provider.name, provider.look)
            _Asking(journal, provider, budget, http, filters).run(step)
        else:
            _show_cost("all of it", journal, provider, budget, points=True, places=True)


class _Asking:
    """The steps that ask a provider."""

    def __init__(self, journal: Journal, provider: Provider, budget: Budget, http: Http, filters: Filters) -> None:
        self._journal, self._provider, self._budget = journal, provider, budget
        self._http, self._filters = http, filters

    def run(self, step: str) -> None:
        """Asks for metadata, downloads, or both; says what it costs before and what remains after each."""
        ends: list[str] = []
        for one in ("metadata", "download"):
            if step not in (one, "all") or ends:
                continue
            if one == "download":
                self._choose()
            own = state.due(self._journal, self._provider, points=one == "metadata", places=one == "download")
            if not own:
                log.info("step=%s: nothing is left to be asked for", one)
                self._close(one)
                continue
            _show_cost(
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
                remedy=f"All of them need budget.money={(used + whole) / MICROS:.2f} (USD, over all runs).",
            )

    async def _ask(self, step: str) -> str:
        stop, interrupted = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            log.info("stopping: what is under way ends first")
            interrupted.set()
            stop.set()
            for number in SIGNALS:  # a second one ends at once
                loop.remove_signal_handler(number)

        with suppress(NotImplementedError):  # no POSIX: Ctrl-C then ends at once
            for number in SIGNALS:
                loop.add_signal_handler(number, on_signal)
        commits = Commits(self._journal)
        web = Web(self._provider.name, self._provider.kinds, self._budget, self._http, commits, stop)
        try:
            async with web:
                with tqdm(total=self._open(step), desc=step, unit=_unit(step), disable=None) as bar:
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
            log.warning("%s no longer on disk as written, to be brought again", counted(lost, "view"))
        self._journal.change(lambda db: choose(db, self._filters))

    def _close(self, step: str) -> None:
        """Whatever ended the step: the table is written, and what was done and remains is shown."""
        if step == "metadata":
            self._choose()
        else:
            log.info("%s: %s", self._journal.folder / TABLE, counted(write_places(self._journal), "place"))
        for line in state.lines_of(state.standing(self._journal)):
            log.info("%s", line)
        for line in state.budget_lines(self._journal, self._provider, self._budget):
            log.info("%s", line)


def _plan(config: dict[str, Any], journal: Journal, provider: Provider) -> None:
    places, seed = check_int("places", config["places"], low=1), check_int("seed", config["seed"], low=0)
    pictures = check_bool("pictures", config["pictures"])
    settings = {"places": places, "seed": seed, "region": config["region"], "strategy": config["strategy"]}
    if check_same_plan(journal, settings):
        log.info("the plan is there: %d points", planned(journal))
        return
    from geoguesser.collecting.plan import plan_lines

    strategy = build(config["strategy"], "strategy")
    region = build(config["region"], "region")
    coords_deg = strategy.sample(region, places=places, seed=seed)
    if not len(coords_deg):
        raise ConfigError("The plan has no point: strategy.spacing_m, strategy.near or the region leave none.")
    new = keep_plan(journal, coords_deg, settings)
    report = strategy.report()
    for line in plan_lines(report):
        log.info("%s", line)
    log.info("%s: %d new points", journal.folder / "plan.csv", new)
    if pictures:
        from geoguesser.reporting.plan_picture import draw_plan

        path = journal.folder / "plan.png"
        draw_plan(
            path, region=region, planned_deg=coords_deg, existing_deg=strategy.existing_deg, layer=strategy.layer,
            title=f"{len(coords_deg):,} points, {region.name}", report=report,
        )  # fmt: skip
        log.info("picture: %s", path)


def _show_cost(
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


def _own_pictures(step: str, config: dict[str, Any], out: Path) -> None:
    """Places from photos or panoramas of the user's own: nobody is asked."""
    key = {"photos": "photos", "cut": "panoramas"}[step]
    given = dict(config[key])
    folder = given.pop("folder")
    if not folder:
        raise ConfigError.at(f"{key}.folder", f"must name a folder for step={step}", found=folder)
    if step == "photos":
        from geoguesser.collecting.photos import photos_to_places

        counts = photos_to_places(str(folder), out, **given)
    else:
        from geoguesser.collecting.cutting import cut_files

        counts = cut_files(str(folder), out, **given)
    for name, count in counts.items():
        log.info("%s: %s", name, count)


@contextmanager
def _hidden(keys: Keys) -> Iterator[None]:
    """No key in any log line, nor in an error that nobody foresaw."""

    def hide(record: logging.LogRecord) -> bool:
        record.msg, record.args = keys.hide(record.getMessage()), None
        return True

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(hide)
    try:
        yield
    except Exception as error:
        _raise_clean(error, keys)
    finally:
        for handler in handlers:
            handler.removeFilter(hide)


def _raise_clean(error: Exception, keys: Keys) -> NoReturn:
    import traceback

    text = "".join(traceback.format_exception(error))
    if keys.stand_in(text):  # the traceback would show it
        raise ProviderError(f"{type(error).__name__}: {keys.hide(str(error))}") from None
    raise error


def _unit(step: str) -> str:
    return " points" if step == "metadata" else " places"
