"""In-process cache shared by the jobs of a sweep, so that data are read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Cache of one value per kind, each under a key that names everything the value depends on.

    Values are shared and must not be changed. A value with a new key replaces the one of the same kind: images of
    several sizes need not fit in memory at once.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, Any]] = {}

    def get(self, kind: str, key: Any) -> Any:
        """Returns the value of a kind if it has this key, else removes it and returns None.

        Args:
            kind: Kind of the value, such as `data`.
            key: Plain values, everything that the value depends on.
        """
        name = _to_name(key)
        if kind in self._values and self._values[kind][0] != name:
            # Free the memory before the caller makes the next value.
            del self._values[kind]
        return self._values[kind][1] if kind in self._values else None

    def put(self, kind: str, key: Any, value: Any) -> None:
        """Stores a value for `get`."""
        self._values[kind] = (_to_name(key), value)

    def get_or_make(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        """Returns the stored value; without one, calls `make` and stores its result."""
        value: T | None = self.get(kind, key)
        if value is None:
            value = make()
            self.put(kind, key, value)
        return value


def _to_name(key: Any) -> str:
    return json.dumps(key, sort_keys=True, default=str)
