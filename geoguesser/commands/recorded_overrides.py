"""Overrides that a run folder recorded, for `resume=`.

Somebody else may have made the folder, so they are data: choices of known groups and plain values of known keys.
All others are refused by name, unless this command line repeats them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from geoguesser.commands.configs import conf_dir, list_known_keys
from geoguesser.errors import ConfigError, DataError, first_line
from geoguesser.runs.config_history import update_override
from geoguesser.runs.config_keys import SECRET
from geoguesser.system.received_files import read_yaml

# Keys that only the user's own command line and environment set: they run code, or send data somewhere.
USER_KEYS = {"extensions", "logger.mode", "logger.project", "logger.entity", "logger.capture_code"}
CHOICE_PATTERN = re.compile(r"\w[\w.-]*")
MAX_OVERRIDES = 1000
# Characters of one override, and of all: Hydra parses some 10,000 in a second.
MAX_LENGTH, MAX_TOTAL_LENGTH = 10_000, 2**16
MAX_DEPTH = 16


def read_overrides(file: Path, arguments: Sequence[str]) -> list[str]:
    """Reads the overrides that a run recorded, with the current names of their keys.

    Overrides of `USER_KEYS`, and hidden secrets, are left out with a notice on stderr.

    Args:
        file: overrides.yaml of the run folder.
        arguments: This command line. An override that it repeats is the user's own.

    Raises:
        ConfigError: An override is neither a choice of a known group nor a plain value of a known key.
        DataError: The file is no list of overrides.
    """
    words = read_yaml(file)
    if not isinstance(words, list) or len(words) > MAX_OVERRIDES:
        raise DataError.at(str(file), f"must be a list of at most {MAX_OVERRIDES:,} overrides")
    if sum(len(str(word)) for word in words) > MAX_TOTAL_LENGTH:
        raise DataError.at(str(file), f"must have at most {MAX_TOTAL_LENGTH:,} characters")

    groups = {path.name for path in Path(conf_dir()).iterdir() if path.is_dir() and path.name != "hydra"}
    known = list_known_keys() | groups

    overrides = []
    for word in (str(word) for word in words):
        current = update_override(word)
        if word in arguments or current in arguments:
            continue
        if not current.endswith(f"={SECRET}") and USER_KEYS.isdisjoint(_check(current, file, groups, known)):
            overrides.append(current)
        else:
            message = f"note: {current!r} of {file} is not applied; if you trust it, add it to this command line"
            print(message, file=sys.stderr)  # noqa: T201
    return overrides


def _check(word: str, file: Path, groups: set[str], known: set[str]) -> set[str]:
    """Checks a recorded override and returns the dotted keys that it sets.

    `groups` are the config groups, and `known` these and the top-level keys.

    Raises:
        ConfigError: With the rule that the override breaks.
    """
    where = f"{file}: {word[:200]!r}"
    remedy = "If you trust it, add it to this command line."
    try:
        if len(word) > MAX_LENGTH:
            raise ConfigError.at(where, f"must have at most {MAX_LENGTH:,} characters")
        override = OverridesParser.create().parse_override(word)
        key, values = override.key_or_group, [] if override.is_delete() else list(_flatten(override))
    except (HydraException, RecursionError) as error:
        raise ConfigError.at(
            where, f"must be an override of Hydra ({first_line(error)})", remedy=remedy
        ) from error

    names = [part for name in (key, *(name for name, _ in values)) for part in re.split(r"[./]", name)]
    choices = [value for name, value in values if name in groups and value is not None]

    rule = ""
    if override.package is not None or override.is_sweep_override():
        rule = "must set one value, without a package"
    elif names[0] not in known:
        rule = f"must name a known group or key, not {names[0]}"
    elif any(name.startswith("_") for name in names):
        rule = "must name no key that starts with an underscore, such as _target_"
    elif any("${" in str(value) for _, value in values):
        rule = "must have no interpolation"
    elif any(not CHOICE_PATTERN.fullmatch(str(value)) for value in choices):
        rule = "must choose a file of a config group"
    elif any(name == "backbone.name" and ":" in str(value) for name, value in values):
        rule = "must name a model that timm holds"
    elif any(name == "trainer.default_root_dir" for name, _ in values):
        rule = "must not name a folder to write to"
    if rule:
        raise ConfigError.at(where, rule, remedy=remedy)
    return {name for name, _ in values}


def _flatten(override: Override) -> Iterator[tuple[str, Any]]:
    """Yields the dotted key and the value of each scalar that an override sets."""

    def visit(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if depth > MAX_DEPTH:
            raise RecursionError(f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            for key, item in value.items():
                yield from visit(f"{name}.{getattr(key, 'text', key)}", item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from visit(name, item, depth + 1)
        else:
            yield name, getattr(value, "text", value)

    yield from visit(override.key_or_group, override.value(), 0)
