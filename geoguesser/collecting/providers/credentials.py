"""API keys: read from the environment or from a private file.

A config names a variable or a file, never a key. Nothing in this module writes a key anywhere.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from geoguesser.errors import ConfigError, MissingFileError
from geoguesser.system.secret_values import MIN_SECRET_LENGTH

VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,63}")

# Keys of Google and Mapillary, with certainty or nearly so. Used on all config values.
KNOWN_KEY = re.compile(r"AIza[\w-]{30,}|MLY(\||%7C)\d{6,}")

# The same less strictly, and any long word. Used where a path is expected.
POSSIBLE_KEY = re.compile(r"AIza[\w-]{10,}|MLY\|?\d{6,}|[A-Za-z0-9_+=|-]{32,}")


def read_key(where: str, *, variable: Any, file: Any, required: bool = True) -> str:
    """Reads a key from a private file if one is named, otherwise from the environment.

    `where` is the common beginning of the two config keys: `provider.key` for `provider.key_variable` and
    `provider.key_file`. If the key is not `required`, the result for a missing variable is an empty string.

    Raises:
        ConfigError: A config value looks like a key, the key is missing or malformed, or the file is readable by
            others. The message never shows the value.
        MissingFileError: The file does not exist.
    """
    if not isinstance(variable, str) or not VARIABLE_NAME.fullmatch(variable):
        raise ConfigError(
            f"{where}_variable must be the name of an environment variable (capitals, digits and _). The value is "
            "not shown, because it may be a key. Keys must not appear in a config or on a command line."
        )

    if file is not None:
        return _read_key_file(f"{where}_file", file)

    value = os.environ.get(variable, "").strip()
    if value:
        return _check_key(f"the environment variable {variable}", value)
    if required:
        raise ConfigError(
            f"{where} is missing: the environment variable {variable} is not set. Set it, or name a file that "
            f"only you can read: {where}_file=PATH."
        )
    return ""


def check_no_secrets(config: Any, where: str = "") -> None:
    """Raises ConfigError if a value of a config looks like a key, without showing it."""
    if isinstance(config, dict):
        for name, value in config.items():
            check_no_secrets(value, f"{where}.{name}" if where else str(name))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            check_no_secrets(value, f"{where}[{number}]")
    elif KNOWN_KEY.search(str(config)):
        raise ConfigError(
            f"{where} looks like a key, and is not shown. Keys must not appear in a config or on a command line: "
            "put it into the environment, or into a file that only you can read."
        )


def _read_key_file(where: str, file: Any) -> str:
    name = str(file)
    if POSSIBLE_KEY.fullmatch(name):
        raise ConfigError(f"{where} must be the path of a file. The value looks like a key and is not shown.")

    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError.at(where, "must be the path of a file", found=name)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError.at(
                where, "must be a file that only its owner can read",
                found=f"{name} with rights {stat.S_IMODE(mode):o}", remedy=f"chmod 600 {name}",
            )  # fmt: skip
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise MissingFileError.at(where, "must name an existing file", found=name) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read ({type(error).__name__}).") from None
    return _check_key(name, text)


def _check_key(where: str, value: str) -> str:
    if len(value) < MIN_SECRET_LENGTH or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(
            f"{where} must hold one key of at least {MIN_SECRET_LENGTH} characters without spaces, "
            "and nothing else."
        )
    return value
