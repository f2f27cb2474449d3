"""What several runs of one process need, made once: a sweep reads its data for its first job alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """One thing of each kind, kept under all that it depends on.

    What is kept is shared, so nobody changes it. Of each kind only the last one stays: views of several sizes
    need not fit in memory at once.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, Any]] = {}

    def find(self, kind: str, key: Any) -> Any:
        """What was kept under this key, or None; what was kept of this kind under another key goes.

        Args:
            kind: `data`, say.
            key: Plain values, all that it depends on.
        """
        name = _name(key)
        if kind in self._kept and self._kept[kind][0] != name:
            del self._kept[kind]
        return self._kept[kind][1] if kind in self._kept else None

    def keep(self, kind: str, key: Any, made: Any) -> None:
        """Keeps it for `find`."""
        self._kept[kind] = (_name(key), made)

    def get(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        """What was kept, else what `make` gives, which is kept then."""
        found: T | None = self.find(kind, key)
        if found is None:
            found = make()
            self.keep(kind, key, found)
        return found


def _name(key: Any) -> str:
    return json.dumps(key, sort_keys=True, default=str)
