"""Command `dashboard`: makes a page in W&B that compares the runs of a sweep."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.errors import ConfigError, DataError, GeoguesserError, check_number, first_line
from geoguesser.runs.config_keys import flatten_config
from geoguesser.tracking.wandb_login import log_in
from geoguesser.tracking.wandb_report import SweepRun, load_reports_package, make_report

log = logging.getLogger(__name__)


def run_dashboard(cfg: DictConfig) -> str:
    """Makes the page of a sweep, and logs and returns its address.

    Raises:
        ConfigError: The extra is not installed, or no user is logged in.
        DataError: W&B has no run of this sweep.
        GeoguesserError: W&B does not respond, or refuses the page.
    """
    config = to_plain(cfg, list_known_keys("dashboard"))
    patience_s = check_number("patience_s", config["patience_s"], low=0, open_low=True)
    if config["sweep_dir"] is None:
        raise ConfigError.at("sweep_dir", "must be the folder of a sweep, or its name", found=None)
    load_reports_package()
    group, folder = find_group(str(config["sweep_dir"]))

    try:
        api = log_in(patience_s)
        entity = config["entity"] or api.default_entity
        if entity is None:
            raise ConfigError.at("entity", "must be given, because the account has no default entity", found=None)
        runs = _load_runs(api, entity, str(config["project"]), group, folder)
        page = make_report(runs, group, entity=entity, project=str(config["project"]), title=config["title"])
        page.save()
        address = str(page.url)
    except GeoguesserError:
        raise
    except ConnectionError as error:
        raise GeoguesserError(f"W&B does not answer ({first_line(error)}). Try again later.") from error
    except Exception as error:
        # W&B's packages raise about ten types of errors, most of them private.
        raise GeoguesserError(f"W&B did not take the page ({first_line(error)}). Try again later.") from error

    log.info("%d runs of %s: %s", len(runs), group, address)
    return address


def find_group(sweep: str) -> tuple[str, Path]:
    """Returns the group in W&B and the local folder, which may not exist, of a folder or name in `multirun`."""
    folder = Path(sweep).expanduser()
    if not folder.is_dir() and not folder.is_absolute():
        folder = Path("multirun") / sweep

    # The name has all parts below multirun: it may be a date and a time.
    parts = folder.resolve().parts
    below = parts[len(parts) - parts[::-1].index("multirun") :] if "multirun" in parts else ()
    return "/".join(below) or folder.resolve().name, folder


def _load_runs(api: Any, entity: str, project: str, group: str, folder: Path) -> list[SweepRun]:
    """Loads the runs of a group from W&B, and warns of runs that are not uploaded."""
    runs: list[SweepRun] = []
    try:
        for run in api.runs(f"{entity}/{project}", filters={"group": group}, lazy=False):
            columns = (flatten_config(node, _is_private) for node in (run.config, run.summary_metrics))
            runs.append(SweepRun(run.id, run.name, *columns))
    except ValueError as error:
        # W&B raises this error if there is no such project.
        if "project" not in str(error):
            raise

    offline = find_offline_records(folder)
    command = f"To upload them: ls -d '{folder}'/*/wandb/offline-run-* | xargs -n 1 wandb sync"
    if not runs:
        remedy = "Check sweep_dir, project and entity."
        if offline:
            remedy = f"{len(offline)} runs in {folder} are not uploaded. {command}"
        where = f"W&B's project {entity}/{project}"
        raise DataError.at(where, f"must have runs of the group {group}", remedy=remedy)
    if offline:
        message = "%d runs in %s are not uploaded, so the page does not show them. %s"
        log.warning(message, len(offline), folder, command)
    return runs


def _is_private(key: str) -> bool:
    """Returns whether a dotted key is one of W&B's private keys."""
    return key.rpartition(".")[2].startswith("_")


def find_offline_records(folder: Path) -> list[Path]:
    """Returns W&B's offline records in the folder of a sweep that `wandb sync` has not marked as uploaded."""
    files = sorted(folder.glob("*/wandb/offline-run-*/*.wandb"))
    return [file.parent for file in files if not file.with_name(file.name + ".synced").exists()]
