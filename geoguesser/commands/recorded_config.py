"""Configs that a run folder recorded: read as plain values, and the objects that they describe.

Somebody else may have made the folder. Nothing that it names is imported, called or resolved, except for targets
that are in conf/ or in this command line's `extensions`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from geoguesser.commands.configs import conf_dir
from geoguesser.errors import ConfigError, first_line
from geoguesser.runs.config_history import shorten_target, update_config
from geoguesser.system.received_files import read_yaml

TARGET_LINE = re.compile(r"^\s*_target_: (geoguesser\.[\w.]+)", re.MULTILINE)


def read_config(file: Path) -> dict[str, Any]:
    """Reads a run's config.yaml as plain values, with the current names of keys and targets.

    Raises:
        ConfigError: The file is not the config of a run.
        DataError: The file is not plain YAML, see `read_yaml`.
    """
    config = read_yaml(file)
    if not isinstance(config, dict) or not isinstance(config.get("seed"), int):
        raise ConfigError.at(str(file), "must be the config of a run, with an integer seed")
    return update_config({str(key): value for key, value in config.items()}, list_current_targets())


def build_recorded(node: Any, key: str, extensions: Sequence[str] = ()) -> Any:
    """Makes the object that a node of a run folder's config describes; somebody else may have written it.

    Nothing is imported for it, and nothing in its values is resolved or called.

    Args:
        node: Plain values of the node.
        key: Config group of the node.
        extensions: Packages of this command line's `extensions`, whose modules are imported already.

    Raises:
        ConfigError: The target is neither one of this config group nor in `extensions`, a value is no scalar or
            list of scalars, or the target does not take these values.
    """
    where = f"{key} of the run's config"
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ConfigError.at(where, "must be a mapping with the key _target_", found=node)

    target, values = node["_target_"], {name: value for name, value in node.items() if name != "_target_"}
    module, _, name = target.rpartition(".")
    if target not in _list_targets(key) and not _is_in(module, extensions):
        remedy = "If you trust it, add extensions=[PACKAGE] to this command line."
        raise ConfigError.at(f"{where}: _target_", f"must be one of conf/{key}", found=target, remedy=remedy)
    if any(str(name).startswith("_") or not _is_plain(value) for name, value in values.items()):
        raise ConfigError.at(where, "must have scalars and lists of scalars, without interpolations", found=values)
    function = getattr(sys.modules.get(module), name, None)
    if function is None:
        raise ConfigError.at(f"{where}: _target_", "must be a class or function of a loaded module", found=target)

    try:
        return function(**values)
    except TypeError as error:
        raise ConfigError(f"{where} does not take these values: {first_line(error)}") from error


@cache
def list_current_targets() -> dict[str, str]:
    """Returns the import path of each target in conf/ by its `shorten_target`, without ambiguous names.

    Used to find a class that moved without an entry in `config_history.OLD_TARGETS`.
    """
    paths: dict[str, set[str]] = {}
    for target in _list_targets("."):
        paths.setdefault(shorten_target(target), set()).add(target)
    return {short: next(iter(targets)) for short, targets in paths.items() if len(targets) == 1}


def _list_targets(folder: str) -> set[str]:
    """Returns the targets of this package in a folder of conf/."""
    files = sorted(Path(conf_dir(), folder).rglob("*.yaml"))
    return {target for file in files for target in TARGET_LINE.findall(file.read_text(encoding="utf-8"))}


def _is_in(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list) and _is_plain(item) for item in value)
    return not isinstance(value, dict) and "${" not in str(value)
