"""A sweep's page in W&B: its runs are asked for, the page is made (`reporting.wandb_page`) and saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.errors import ConfigError, DataError, GeoguesserError, check_number, first_line
from geoguesser.tracking.wandb_login import log_in
from geoguesser.tracking.wandb_report import SweepRun, load_reports_package, make_report

log = logging.getLogger(__name__)


def run_dashboard(cfg: DictConfig) -> str:
    """Makes the page of the sweep's group and logs its address.

    Args:
        cfg: The config of conf/dashboard.yaml.

    Returns:
        The address.

    Raises:
        ConfigError: The extra is not installed, or nobody is logged in.
        DataError: W&B has no run of this sweep.
        GeoguesserError: W&B does not answer, or refuses the page.
    """
    config = to_plain(cfg, list_known_keys("dashboard"))
    patience_s = check_number("patience_s", config["patience_s"], low=0, open_low=True)
    if config["of"] is None:
        raise ConfigError.at("sweep", "must be a sweep's folder, or its name", found=None)
    load_reports_package()
    group, folder = _group_of(str(config["of"]))
    try:
        api = log_in(patience_s)
        entity = config["entity"] or api.default_entity
        if entity is None:
            raise ConfigError.at("entity", "must be given, for the account has no default one", found=None)
        runs = _runs_of(api, entity, str(config["project"]), group, folder)
        page = make_report(runs, group, entity=entity, project=str(config["project"]), title=config["title"])
        page.save()
        address = str(page.url)
    except GeoguesserError:
        raise
    except ConnectionError as error:
        raise GeoguesserError(f"W&B does not answer ({first_line(error)}). Try again later.") from error
    except Exception as error:  # W&B's packages raise ten kinds, most of them private
        raise GeoguesserError(f"W&B did not take the page ({first_line(error)}). Try again later.") from error
    log.info("%d runs of %s: %s", len(runs), group, address)
    return address


def _group_of(sweep: str) -> tuple[str, Path]:
    """The sweep's name, which is its group in W&B, and its folder here, which need not exist."""
    folder = Path(sweep).expanduser()
    if not folder.is_dir() and not folder.is_absolute():
        folder = Path("multirun") / sweep
    parts = folder.resolve().parts
    below = parts[len(parts) - parts[::-1].index("multirun") :] if "multirun" in parts else ()
    return "/".join(below) or folder.resolve().name, folder


def _runs_of(api: Any, entity: str, project: str, group: str, folder: Path) -> list[SweepRun]:
    found = []
    try:
        for run in api.runs(f"{entity}/{project}", filters={"group": group}, lazy=False):
            summary = _flat(run.summary_metrics)
            found.append(SweepRun(run.id, run.name, _flat(run.config), summary))
    except ValueError as error:  # its word for a project that is not there
        if "project" not in str(error):
            raise
    waiting = find_missing_runs(folder)
    how = f"To upload them: ls -d '{folder}'/*/wandb/offline-run-* | xargs -n 1 wandb sync"
    if not found:
        remedy = (
            f"{len(waiting)} runs lie offline in {folder}. {how}"
            if waiting
            else "Check sweep, project and entity."
        )
        raise DataError.at(
            f"W&B's project {entity}/{project}", f"must have runs of the group {group}", remedy=remedy
        )
    if waiting:
        log.warning("%d runs of %s are not uploaded, so they are not on the page. %s", len(waiting), folder, how)
    return found


def find_missing_runs(folder: Path) -> list[Path]:
    """W&B's offline records in a sweep's folder that `wandb sync` has not marked as uploaded."""
    records = sorted(folder.glob("*/wandb/offline-run-*/*.wandb"))
    return [file.parent for file in records if not file.with_name(file.name + ".synced").exists()]


def _flat(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys as W&B shows them, joined by dots; its own bookkeeping left out."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found
