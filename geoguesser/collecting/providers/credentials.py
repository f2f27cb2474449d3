"""Keys: read from the environment or from a file of the owner's alone, and kept out of all that is shown.

A config names a variable or a file, never a key. Nothing here writes a key anywhere.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from geoguesser.errors import ConfigError, MissingFileError, ProviderError

HIDDEN = "***"
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,63}")
LIKE_A_KEY = re.compile(
    r"AIza[\w-]{10,}|MLY\|?\d{6,}|[A-Za-z0-9_+=|-]{32,}"
)  # Google's, Mapillary's, any long word
SURELY_A_KEY = re.compile(r"AIza[\w-]{30,}|MLY(\||%7C)\d{6,}")
LEAST = 8  # characters; a shorter one is a mistake, and hiding it would hide words


class Keys:
    """The keys of one process, to be hidden wherever something is shown.

    Args:
        values: The keys; empty ones are ignored.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values if value for form in (value, quote(value, safe=""), quote_plus(value))}
        self._forms = sorted(forms, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text without any key."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def stand_in(self, text: str) -> bool:
        """Whether a key stands in the text."""
        return any(form in text for form in self._forms)


@contextmanager
def hidden(keys: Keys) -> Iterator[None]:
    """No key in any log line, nor in an error that nobody foresaw."""

    def hide(record: logging.LogRecord) -> bool:
        record.msg, record.args = keys.hide(record.getMessage()), None
        return True

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(hide)
    try:
        yield
    except Exception as error:
        _raise_clean(error, keys)
    finally:
        for handler in handlers:
            handler.removeFilter(hide)


def _raise_clean(error: Exception, keys: Keys) -> NoReturn:
    text = "".join(traceback.format_exception(error))
    if keys.stand_in(text):  # the traceback would show it
        raise ProviderError(f"{type(error).__name__}: {keys.hide(str(error))}") from None
    raise error


def read_key(where: str, *, variable: Any, file: Any, needed: bool = True) -> str:
    """A key from a file of the owner's alone where one is named, else from the environment.

    Args:
        where: The config key without its ending: `provider.key` for `provider.key_variable` and `..._file`.
        variable: The environment variable's name.
        file: The file's path, or None.
        needed: Whether its absence is an error.

    Returns:
        The key; empty where there is none and none is needed.

    Raises:
        ConfigError: A config value is, or looks like, a key; the key is missing or no key; or others may read
            the file. The message never shows the value.
        MissingFileError: There is no such file.
    """
    if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
        raise ConfigError(
            f"{where}_variable must be the name of an environment variable (capitals, digits and _); what stands "
            "there is not shown, for it may be a key. Keys never stand in a config or on a command line."
        )
    if file is not None:
        return _from_file(f"{where}_file", file)
    value = os.environ.get(variable, "").strip()
    if not value and needed:
        raise ConfigError(
            f"{where} is missing: the environment variable {variable} is not set. Set it, or name a file that "
            f"only you may read: {where}_file=PATH."
        )
    return _checked(f"the environment variable {variable}", value) if value else ""


def refuse_keys(config: Any, where: str = "") -> None:
    """Refuses a config in which a value looks like a key of Google's or Mapillary's.

    Raises:
        ConfigError: With its place, without the value.
    """
    if isinstance(config, dict):
        for name, value in config.items():
            refuse_keys(value, f"{where}.{name}" if where else str(name))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            refuse_keys(value, f"{where}[{number}]")
    elif SURELY_A_KEY.search(str(config)):
        raise ConfigError(
            f"{where} looks like a key, and is not shown. Keys never stand in a config or on a command line: put "
            "it into the environment, or into a file that only you may read."
        )


def _from_file(where: str, file: Any) -> str:
    name = str(file)
    if LIKE_A_KEY.fullmatch(name):
        raise ConfigError(
            f"{where} must be the path of a file; what stands there looks like a key and is not shown."
        )
    path = Path(name).expanduser()
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError.at(where, "must be the path of a file", found=name)
        if about.st_mode & 0o077:
            raise ConfigError.at(
                where, "must be a file that only its owner may read",
                found=f"{name} with rights {stat.S_IMODE(about.st_mode):o}", remedy=f"chmod 600 {name}",
            )  # fmt: skip
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise MissingFileError.at(where, "must name a file that is there", found=name) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read ({type(error).__name__}).") from None
    return _checked(name, text)


def _checked(where: str, value: str) -> str:
    if len(value) < LEAST or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(
            f"{where} must hold one key of at least {LEAST} characters without spaces, and only that."
        )
    return value
