"""Comparison: one `python -m geoguesser.compare`, from its config to a page."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.configs import build, conf_dir, list_known_keys, read_config, to_plain
from geoguesser.errors import (
    ConfigError,
    GeoguesserError,
    MissingFileError,
    StoreError,
    check_bool,
    check_int,
    check_mapping,
    check_number,
    first_line,
)
from geoguesser.evaluation.comparison import Comparison, ComparisonSettings, compare_groups
from geoguesser.evaluation.resampling_units import check_block_km
from geoguesser.geo.region import Region, world
from geoguesser.reporting.comparison import report as compare_report
from geoguesser.reporting.comparison.places import find_spread_places
from geoguesser.runs.config_history import normalise_config
from geoguesser.runs.run_folder import Run, read_runs

log = logging.getLogger(__name__)


def run_compare(cfg: DictConfig) -> Comparison:
    """Compares runs, writes the page and its table, and prints the short report.

    Args:
        cfg: The config of conf/compare.yaml.

    Returns:
        What was found.

    Raises:
        GeoguesserError: What the user can mend; nothing is then written.
    """
    config = to_plain(cfg, list_known_keys("compare"))
    settings, pictures = _settings(config), check_bool("pictures", config["pictures"])
    shown = check_int("places", config["places"], low=0, high=100)
    out = _out(str(config["out"]))
    runs, unused = read_runs(_words(config["runs"]), read_config)
    baseline = None if config["baseline"] is None else str(config["baseline"])
    found = compare_groups(runs, unused, _region(runs), settings, choices=load_choices(), baseline=baseline)
    try:
        table = compare_report.write_comparison(found, find_spread_places(found, shown), out, pictures=pictures)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    compare_report.print_comparison(found)
    log.info("page: %s", out)
    log.info("table: %s", table)
    return found


def load_choices() -> dict[tuple[str, str], str]:
    """(group, `_target_`) -> the word that chooses it, where one word alone does."""
    found: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for path in Path(conf_dir()).glob("*/*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(path))
        own = node.get(path.parent.name, node) if isinstance(node, dict) else {}
        target = own.get("_target_") if isinstance(own, dict) else None
        if target is not None:
            found[path.parent.name, str(target)] = path.stem
            counts[path.parent.name, str(target)] += 1
    return {key: word for key, word in found.items() if counts[key] == 1}


def _settings(config: dict[str, Any]) -> ComparisonSettings:
    bootstrap = check_mapping("bootstrap", config["bootstrap"], ("samples", "seed", "block_km"))
    return ComparisonSettings(
        confidence=check_number("confidence", config["confidence"], low=0.5, high=0.999),
        samples=check_int("bootstrap.samples", bootstrap["samples"], low=1000, high=1_000_000),
        seed=check_int("bootstrap.seed", bootstrap["seed"], low=0),
        block_km=check_block_km(bootstrap["block_km"]),
    )


def _words(given: Any) -> list[str]:
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise ConfigError.at(
            "runs", "must name run or sweep folders", found=given,
            remedy="For example python -m geoguesser.compare multirun/NAME outputs/DATE/TIME.",
        )  # fmt: skip
    return words


def _out(given: str) -> Path:
    out = Path(given).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise ConfigError.at("out", "must be the name of an .html file", found=given)
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={given}", "must lie in a folder that exists", found=str(out.parent))
    return out


def _region(runs: list[Run]) -> Region:
    """The region of all runs; the world where they differ, or where its boundary is no longer there."""
    nodes = {json.dumps(normalise_config(run.config).get("region"), sort_keys=True) for run in runs}
    if len(nodes) > 1:
        log.warning("the runs have different regions: maps and blocks are those of the world")
        return world()
    try:
        made: Region = build(runs[0].config["region"], "region")
        return made
    except (GeoguesserError, KeyError) as error:
        log.warning(
            "the runs' region cannot be made (%s): maps and blocks are those of the world", first_line(error)
        )
        return world()
