"""Command `compare`: compares runs and writes a page."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.configs import conf_dir, list_known_keys, to_plain
from geoguesser.commands.recorded_config import build_recorded, read_config
from geoguesser.errors import (
    ConfigError,
    GeoguesserError,
    MissingFileError,
    StoreError,
    check_bool,
    check_int,
    first_line,
)
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import Comparison, compare_groups
from geoguesser.geo.region import Region, world
from geoguesser.reporting.comparison.places import find_spread_places
from geoguesser.reporting.comparison.report import print_comparison, write_comparison
from geoguesser.runs.config_history import normalise_config
from geoguesser.runs.run_folder import Run, read_runs

log = logging.getLogger(__name__)


def run_compare(cfg: DictConfig) -> Comparison:
    """Compares runs, writes the page and its table, and prints a short report.

    Raises:
        GeoguesserError: The config or the runs cannot be used; nothing is written.
    """
    config = to_plain(cfg, list_known_keys("compare"))
    settings = BootstrapSettings.from_config(config)
    pictures = check_bool("pictures", config["pictures"])
    max_places = check_int("places", config["places"], low=0, high=100)
    out = _check_out(str(config["out"]))
    baseline = None if config["baseline"] is None else str(config["baseline"])

    runs, unused = read_runs(_check_runs(config["runs"]), read_config)
    region, choices = _build_region(runs, config["extensions"]), load_choices()
    comparison = compare_groups(runs, unused, region, settings, choices=choices, baseline=baseline)
    places = find_spread_places(comparison, max_places)
    try:
        table = write_comparison(comparison, places, out, pictures=pictures)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error

    print_comparison(comparison)
    log.info("page: %s", out)
    log.info("table: %s", table)
    return comparison


def load_choices() -> dict[tuple[str, str], str]:
    """Returns (config group, `_target_`) -> name of the choice, for targets of only one choice."""
    names: dict[tuple[str, str], list[str]] = {}
    for path in Path(conf_dir()).glob("*/*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(path))
        choice = node.get(path.parent.name, node) if isinstance(node, dict) else None
        if isinstance(choice, dict) and choice.get("_target_") is not None:
            names.setdefault((path.parent.name, str(choice["_target_"])), []).append(path.stem)
    return {key: stems[0] for key, stems in names.items() if len(stems) == 1}


def _check_runs(runs: Any) -> list[str]:
    folders = [runs] if isinstance(runs, str) else runs
    if not isinstance(folders, list) or not folders or not all(isinstance(name, str) and name for name in folders):
        remedy = "For example python -m geoguesser.compare multirun/NAME outputs/DATE/TIME."
        raise ConfigError.at("runs", "must name run or sweep folders", found=runs, remedy=remedy)
    return folders


def _check_out(name: str) -> Path:
    out = Path(name).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise ConfigError.at("out", "must be the name of an .html file", found=name)
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={name}", "must lie in a folder that exists", found=str(out.parent))
    return out


def _build_region(runs: list[Run], extensions: Sequence[str]) -> Region:
    """Returns the region of all runs; the world if their regions differ or a boundary file is gone."""
    nodes = {json.dumps(normalise_config(run.config).get("region"), sort_keys=True) for run in runs}
    if len(nodes) > 1:
        log.warning("the runs have different regions: maps and blocks are those of the world")
        return world()

    try:
        region: Region = build_recorded(runs[0].config.get("region"), "region", extensions)
    except GeoguesserError as error:
        message = "the runs' region cannot be built (%s): maps and blocks are those of the world"
        log.warning(message, first_line(error))
        return world()
    return region
