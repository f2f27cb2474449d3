"""The collect command: runs a step from its config, and leaves a folder that training reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.collecting.budget import Budget
from geoguesser.collecting.database import Database
from geoguesser.collecting.output_tables import PLACE_COLUMNS, check_table_columns
from geoguesser.collecting.pipeline.filters import Filters
from geoguesser.collecting.pipeline.plan_table import (
    PLAN_NAME,
    check_has_plan,
    check_plan_settings,
    count_points,
    record_plan,
    record_provider,
    write_plan,
)
from geoguesser.collecting.pipeline.runner import CollectionRunner, log_cost
from geoguesser.collecting.planning.plan_lines import format_plan
from geoguesser.collecting.providers.base import Provider
from geoguesser.collecting.providers.credentials import check_no_secrets
from geoguesser.collecting.providers.http_settings import HttpSettings
from geoguesser.commands.configs import instantiate_node, list_known_keys, to_plain
from geoguesser.errors import ConfigError, check_bool, check_choice, check_int
from geoguesser.system.files import refuse_links
from geoguesser.system.secret_values import SecretRedactor, redact_logs

log = logging.getLogger(__name__)

COLLECT_STEPS = ("plan", "metadata", "download", "all", "photos", "cut")


def run_collect(cfg: DictConfig) -> None:
    """Runs one step, or all steps of a provider. A step that was stopped continues when it is run again.

    Raises:
        GeoguesserError: The config, a file or a provider prevents the step. The message names the remedy.
        SystemExit: The user interrupted the step.
    """
    config = to_plain(cfg, list_known_keys("collect"))
    check_no_secrets(config)
    step = check_choice("step", config["step"], COLLECT_STEPS)
    out = config["out"]
    if out is None or isinstance(out, bool | list | dict) or not str(out).strip():
        raise ConfigError.at("out", "must name a folder", found=out)
    folder = Path(str(out)).expanduser()
    refuse_links(folder)

    if step in ("photos", "cut"):
        _convert_own_images(step, config, folder)
        return

    # All settings are checked before the database is created or a key is read.
    check_table_columns(folder, PLACE_COLUMNS)
    budget = Budget.from_config(config["budget"])
    http = HttpSettings.from_config(config["http"])
    filters = Filters.from_config(config["filters"])
    provider: Provider = instantiate_node(config["provider"], "provider")

    sends_requests = step != "plan"
    redactor = SecretRedactor(provider.load_credentials() if sends_requests else ())
    with redact_logs(redactor), Database(folder) as database:
        if step in ("plan", "all"):
            _make_plan(config, database)
        check_has_plan(database)

        if sends_requests:
            record_provider(database, provider.name, provider.view_settings)
            CollectionRunner(database, provider, budget, http, filters).run(step)
        else:
            log_cost("step=all", database, provider, budget, points=True, places=True)


def _make_plan(config: dict[str, Any], database: Database) -> None:
    """Draws the points of the plan and records them, unless the folder already has the plan."""
    places, seed = check_int("places", config["places"], low=1), check_int("seed", config["seed"], low=0)
    pictures = check_bool("pictures", config["pictures"])
    settings = {"places": places, "seed": seed, "region": config["region"], "strategy": config["strategy"]}

    if check_plan_settings(database, settings):
        # A kill may have come between the writing of the database and of its copy.
        write_plan(database)
        log.info("the plan already exists: %d points", count_points(database))
        return

    strategy = instantiate_node(config["strategy"], "strategy")
    region = instantiate_node(config["region"], "region")
    coords_deg = strategy.sample(region, places=places, seed=seed)
    if not len(coords_deg):
        raise ConfigError("The plan has no points: strategy.spacing_m, strategy.near or the region leave no room.")

    new_points = record_plan(database, coords_deg, settings)
    report = strategy.report()
    for line in format_plan(report):
        log.info("%s", line)
    log.info("%s: %d new points", database.folder / PLAN_NAME, new_points)

    if pictures:
        from geoguesser.reporting.plan_map import draw_plan

        path = database.folder / "plan.png"
        draw_plan(
            path, region=region, planned_deg=coords_deg, existing_deg=strategy.existing_deg, layer=strategy.layer,
            title=f"{len(coords_deg):,} points, {region.name}", report=report,
        )  # fmt: skip
        log.info("picture: %s", path)


def _convert_own_images(step: str, config: dict[str, Any], out: Path) -> None:
    """Makes places from the user's photos, or views from the user's panoramas. No request is sent."""
    # Imported here because they are slow and most runs do not need them.
    from geoguesser.collecting.photos.cut_panoramas import cut_panoramas
    from geoguesser.collecting.photos.import_photos import import_photos
    from geoguesser.collecting.photos.writer import format_summary

    key = {"photos": "photos", "cut": "panoramas"}[step]
    settings = dict(config[key])
    folder = settings.pop("folder")
    if not folder:
        raise ConfigError.at(f"{key}.folder", f"must name a folder for step={step}", found=folder)

    convert: Callable[..., dict[str, Any]] = import_photos if step == "photos" else cut_panoramas
    for line in format_summary(convert(str(folder), out, **settings)):
        log.info("%s", line)
