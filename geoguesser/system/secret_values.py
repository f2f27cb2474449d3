"""Redaction of secret values in texts, log lines and written files."""

from __future__ import annotations

import html
import json
import logging
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

from geoguesser.errors import GeoguesserError
from geoguesser.system.text import escape_unprintable

REDACTED = "***"
# Names of config keys and environment variables whose values are secret.
SECRET_NAME_PATTERN = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
# Redacting a shorter value would redact ordinary words.
MIN_SECRET_LENGTH = 8


class SecretRedactor:
    """Replaces secret values in texts, also as URLs, JSON and HTML encode them, and line by line."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values if value for form in _list_forms(value)}
        # Longest first, so that no part of an encoded form remains.
        self._forms = sorted(forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text

    def occurs_in(self, text: str) -> bool:
        return any(form in text for form in self._forms)


def _list_forms(value: str) -> Iterator[str]:
    yield from (value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], html.escape(value))
    yield from (line for line in value.splitlines() if len(line) >= MIN_SECRET_LENGTH)


def redact(text: str) -> str:
    """Returns a text without the values of environment variables whose names look secret.

    Values shorter than `MIN_SECRET_LENGTH` stay, and paths, which name the file of a secret.
    """
    values = (value for name, value in os.environ.items() if _is_secret(name, value))
    return SecretRedactor(values).redact(text)


def _is_secret(name: str, value: str) -> bool:
    if SECRET_NAME_PATTERN.search(name) is None or len(value) < MIN_SECRET_LENGTH:
        return False
    # A secret in base64 can begin as an absolute path does.
    names_path = name.upper().endswith(("FILE", "PATH", "DIR")) or Path(value).exists()
    return not (os.path.isabs(value) and names_path)


def format_for_terminal(text: object) -> str:
    """Returns a text without secrets of the environment, in which no character controls the terminal."""
    return escape_unprintable(redact(str(text)))


def redact_record(record: logging.LogRecord) -> bool:
    """Filter for log handlers: passes the message of a record through `format_for_terminal`."""
    record.msg, record.args = format_for_terminal(record.getMessage()), None
    return True


@contextmanager
def redact_logs(redactor: SecretRedactor) -> Iterator[None]:
    """Redacts values in all log lines, and in unexpected errors, for the duration of a with block."""

    def redact_line(record: logging.LogRecord) -> bool:
        record.msg, record.args = redactor.redact(record.getMessage()), None
        return True

    # Filters of a logger do not see the records of its children; filters of handlers see all.
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(redact_line)
    try:
        yield
    except Exception as error:
        # A traceback shows messages of chained errors. If a secret is among them, the complete chain is dropped.
        if redactor.occurs_in("".join(traceback.format_exception(error))):
            raise GeoguesserError(f"{type(error).__name__}: {redactor.redact(str(error))}") from None
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(redact_line)
