"""Extensions: packages of the user whose modules register kinds of heads, losses, backbones and the like."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from geoguesser.errors import ConfigError, first_line


def load_extensions(names: Any) -> None:
    """Imports packages with all their modules, which register what they define.

    Args:
        names: Names of importable packages or modules, the value of the config key `extensions`.

    Raises:
        ConfigError: It is no list of names, or one cannot be imported.
    """
    names = [] if names is None else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError.at("extensions", "must be a list of importable packages, as [my_package]", found=names)

    for name in names:
        try:
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
                importlib.import_module(module.name)
        except Exception as error:
            raise ConfigError.at(
                "extensions",
                f"must name packages that can be imported ({type(error).__name__}: {first_line(error)})",
                found=name,
                remedy="Install the package, or put its folder into PYTHONPATH.",
            ) from error
