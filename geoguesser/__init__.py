"""Training of models that predict where a street-level photo was taken.

`geoguesser.load(folder)` opens a trained model. Before that, nothing heavy is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoguesser.system.versions import __version__

if TYPE_CHECKING:
    from geoguesser.inference.api import Model as Model
    from geoguesser.inference.api import load as load

__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports `Model` and `load` on first use, because importing torch takes seconds."""
    if name in ("Model", "load"):
        return getattr(import_module("geoguesser.inference.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
