"""Collection: one `python -m geoguesser.collect`, from its config to a folder that training reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.collecting.budget import Budget
from geoguesser.collecting.database import Journal
from geoguesser.collecting.output_tables import COLUMNS, check_own
from geoguesser.collecting.pipeline.filters import Filters
from geoguesser.collecting.pipeline.plan_table import (
    check_planned,
    check_same_plan,
    keep_plan,
    keep_provider,
    planned,
    write_plan,
)
from geoguesser.collecting.pipeline.runner import Asking, show_cost
from geoguesser.collecting.providers.base import Provider
from geoguesser.collecting.providers.credentials import Keys, hidden, refuse_keys
from geoguesser.collecting.providers.http_settings import Http
from geoguesser.commands.configs import build, list_known_keys, to_plain
from geoguesser.errors import ConfigError, check_bool, check_choice, check_int

log = logging.getLogger(__name__)

STEPS = ("plan", "metadata", "download", "all", "photos", "cut")


def run_collect(cfg: DictConfig) -> None:
    """Runs one step, or all.

    Args:
        cfg: The config of conf/collect.yaml.

    Raises:
        GeoguesserError: What the user can mend. The same command goes on where it was.
        SystemExit: The user stopped it.
    """
    config = to_plain(cfg, list_known_keys("collect"))
    refuse_keys(config)
    step = check_choice("step", config["step"], STEPS)
    out = _folder(config["out"])
    if step in ("photos", "cut"):
        _own_pictures(step, config, out)
        return
    check_own(out, COLUMNS)
    asking = step != "plan"
    budget, http, filters = Budget.of(config["budget"]), Http.of(config["http"]), Filters.of(config["filters"])
    provider: Provider = build(config["provider"], "provider")
    keys = Keys(provider.unlock() if asking else ())
    with hidden(keys), Journal(out) as journal:
        if step in ("plan", "all"):
            _plan(config, journal, provider)
        check_planned(journal)
        if asking:
            keep_provider(journal, provider.name, provider.look)
            Asking(journal, provider, budget, http, filters).run(step)
        else:
            show_cost("all of it", journal, provider, budget, points=True, places=True)


def _folder(value: Any) -> Path:
    if value is None or isinstance(value, bool | list | dict) or not str(value).strip():
        raise ConfigError.at("out", "must name a folder", found=value)
    return Path(str(value)).expanduser()


def _plan(config: dict[str, Any], journal: Journal, provider: Provider) -> None:
    places, seed = check_int("places", config["places"], low=1), check_int("seed", config["seed"], low=0)
    pictures = check_bool("pictures", config["pictures"])
    settings = {"places": places, "seed": seed, "region": config["region"], "strategy": config["strategy"]}
    if check_same_plan(journal, settings):
        write_plan(journal)  # a kill may have come between the journal and its copy
        log.info("the plan is there: %d points", planned(journal))
        return
    from geoguesser.collecting.planning.plan_lines import plan_lines

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
        from geoguesser.reporting.plan_map import draw_plan

        path = journal.folder / "plan.png"
        draw_plan(
            path, region=region, planned_deg=coords_deg, existing_deg=strategy.existing_deg, layer=strategy.layer,
            title=f"{len(coords_deg):,} points, {region.name}", report=report,
        )  # fmt: skip
        log.info("picture: %s", path)


def _own_pictures(step: str, config: dict[str, Any], out: Path) -> None:
    """Places from photos or panoramas of the user's own: nobody is asked."""
    from geoguesser.collecting.photos.writer import summary_lines

    key = {"photos": "photos", "cut": "panoramas"}[step]
    given = dict(config[key])
    folder = given.pop("folder")
    if not folder:
        raise ConfigError.at(f"{key}.folder", f"must name a folder for step={step}", found=folder)
    if step == "photos":
        from geoguesser.collecting.photos.import_photos import photos_to_places

        counts = photos_to_places(str(folder), out, **given)
    else:
        from geoguesser.collecting.photos.cut_panoramas import cut_files

        counts = cut_files(str(folder), out, **given)
    for line in summary_lines(counts):
        log.info("%s", line)
