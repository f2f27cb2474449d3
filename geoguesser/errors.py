"""What can go wrong for a user, each kind also a built-in's subclass; and the checks that raise it.

A message names the config key, file or row, the rule, the value found and the remedy. Entry points
print it alone, without a traceback, and end with exit code 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self, TypeVar

_ABSENT: Any = object()
Kind = TypeVar("Kind")


class GeoguesserError(Exception):
    """An error that the user can mend. Its message is complete: it needs no traceback."""

    @classmethod
    def at(cls, where: str, rule: str, *, found: Any = _ABSENT, remedy: str = "") -> Self:
        """Builds the message `where rule, got found. remedy`.

        Args:
            where: The config key, file or row.
            rule: What must hold there, as the rest of a sentence: `must be a positive integer`.
            found: The value that breaks the rule.
            remedy: What the user can do, as a sentence of its own.
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
    """A file or folder that the user named is not there."""


class RegionError(GeoguesserError, ValueError):
    """A boundary, CRS or coordinate does not fit the region."""


class StoreError(GeoguesserError, OSError):
    """A store cannot be written, is damaged, or does not fit."""


class WeightsError(GeoguesserError, RuntimeError):
    """Weights cannot be fetched or do not fit the network."""


class CheckpointError(GeoguesserError, RuntimeError):
    """A checkpoint or run folder is not one of ours, or does not fit."""


class UnknownKindError(CheckpointError):
    """A checkpoint names a kind of head, backbone or other part that no imported module registers."""


class ProviderError(GeoguesserError, RuntimeError):
    """A provider of street views refuses to answer, cannot be reached, or may not be asked."""


def first_line(error: BaseException) -> str:
    """The first line of a library's message, or its kind where it has none."""
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
    """Returns `value` where it is an integer from `low` to `high` (both included).

    Raises:
        ConfigError: It is not; a boolean is no integer here.
    """
    limits = f"from {low}" + (f" to {high}" if high is not None else " up")
    rule = "must be a positive integer" if (low, high) == (1, None) else f"must be an integer {limits}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError.at(key, rule, found=value)
    if value < low or (high is not None and value > high):
        raise ConfigError.at(key, rule, found=value)
    return value


def check_number(
    key: str, value: Any, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Returns `value` as a float where it is a finite number from `low` to `high`.

    Args:
        key: The config key that the message names.
        value: What stands there.
        low: The least value allowed.
        high: The greatest value allowed.
        open_low: `low` itself is not allowed.

    Raises:
        ConfigError: It is not.
    """
    rule = "must be a number"
    if open_low:
        rule += f" above {low:g}"
    elif low > -math.inf:
        rule += f" from {low:g}"
    if high < math.inf:
        rule += f" to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError.at(key, rule, found=value)
    if value > high or value < low or (open_low and value == low):
        raise ConfigError.at(key, rule, found=value)
    return float(value)


def check_choice(key: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns `value` where it is one of `choices`.

    Raises:
        ConfigError: It is not.
    """
    if value not in choices:
        raise ConfigError.at(key, f"must be one of {', '.join(choices)}", found=value)
    return str(value)


def check_bool(key: str, value: Any) -> bool:
    """Returns `value` where it is true or false.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, bool):
        raise ConfigError.at(key, "must be true or false", found=value)
    return value


def check_mapping(key: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns `value` where it is a mapping with these keys and no other.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        found = sorted(map(str, value)) if isinstance(value, dict) else value
        raise ConfigError.at(key, f"must have the keys {', '.join(names)}, and no other", found=found)
    return value
