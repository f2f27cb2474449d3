"""Errors that the user can correct, and checks that return a config value or raise a `ConfigError`.

Entry points print only the message, without a traceback, and end with exit code 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self, TypeVar

_ABSENT: Any = object()
Kind = TypeVar("Kind")


class GeoguesserError(Exception):
    """Error that the user can correct. Its message is complete without a traceback."""

    @classmethod
    def at(cls, where: str, rule: str, *, found: Any = _ABSENT, remedy: str = "") -> Self:
        """Builds the message `where rule, got found. remedy`.

        Args:
            where: Config key, file or row.
            rule: Rest of a sentence with the rule: `must be a positive integer`.
            found: Value that breaks the rule.
            remedy: Sentence on what the user can do.
        """
        message = f"{where} {rule}"
        if found is not _ABSENT:
            message += f", got {found!r}"
        return cls(f"{message}. {remedy}" if remedy else f"{message}.")


class ConfigError(GeoguesserError, ValueError):
    """A key of the configuration is unknown or its value breaks a rule."""


class DataError(GeoguesserError, ValueError):
    """A table, row or image of the data breaks a rule."""


class MissingFileError(GeoguesserError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class RegionError(GeoguesserError, ValueError):
    """A boundary, CRS or coordinate does not fit the region."""


class StoreError(GeoguesserError, OSError):
    """A store cannot be written, is damaged, or does not fit."""


class WeightsError(GeoguesserError, RuntimeError):
    """Weights cannot be downloaded or do not fit the network."""


class CheckpointError(GeoguesserError, RuntimeError):
    """A checkpoint or run folder comes from another program, is damaged, or does not fit."""


class UnknownKindError(CheckpointError):
    """A checkpoint names a kind of head, backbone or other part that no imported module registers."""


class ProviderError(GeoguesserError, RuntimeError):
    """A provider of street views refuses a request, cannot be reached, or must not be used."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def look_up_kind(part: str, kinds: Mapping[str, Kind], kind: Any) -> Kind:
    """Returns what a registry holds for a kind that a checkpoint names.

    Args:
        part: Part of the model, for the message: `head`, `backbone`.
        kinds: Registry: kind -> class.
        kind: Recorded kind.

    Raises:
        UnknownKindError: The registry has no such kind.
    """
    if kind not in kinds:
        raise UnknownKindError.at(f"{part}.kind", f"must be one of {', '.join(sorted(kinds))}", found=kind)
    return kinds[kind]


def check_int(key: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Returns `value` if it is an integer, no boolean, from `low` to `high`, both included."""
    limits = f"from {low}" + (f" to {high}" if high is not None else " up")
    rule = "must be a positive integer" if (low, high) == (1, None) else f"must be an integer {limits}"
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        raise ConfigError.at(key, rule, found=value)
    return int(value)


def check_number(
    key: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Returns `value` as a float if it is a finite number from `low` to `high`; `open_low` excludes `low`."""
    rule = "must be a number"
    if open_low:
        rule += f" above {low:g}"
    elif low > -math.inf:
        rule += f" from {low:g}"
    if high < math.inf:
        rule += f" to {high:g}"

    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high or (open_low and value == low):
        raise ConfigError.at(key, rule, found=value)
    return float(value)


def check_choice(key: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `choices`."""
    if value not in choices:
        raise ConfigError.at(key, f"must be one of {', '.join(choices)}", found=value)
    return str(value)


def check_bool(key: str, value: Any) -> bool:
    """Returns `value` if it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError.at(key, "must be true or false", found=value)
    return value


def check_mapping(key: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns `value` if it is a mapping with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(names):
        found = sorted(map(str, value)) if isinstance(value, dict) else value
        raise ConfigError.at(key, f"must have the keys {', '.join(names)}, and no other", found=found)
    return value
