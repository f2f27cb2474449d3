"""Extensions: packages of the user whose modules register kinds of heads, backbones and other parts of a model."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from geoguesser.errors import ConfigError, first_line


def load_extensions(names: Any) -> None:
    """Imports packages with all their modules, which register what they define.

    Args:
        names: Names of importable packages or modules, the value of the config key `extensions`.

    Raises:
        ConfigError: The value is not a list of names, or a package or a module in it cannot be imported.
    """
    names = [] if names is None else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError.at("extensions", "must be a list of importable packages, as [my_package]", found=names)

    for name in names:
        package = _import(name, name)
        for module_name in _list_modules(package):
            _import(module_name, name)


def _list_modules(package: ModuleType) -> Iterator[str]:
    """Yields the full names of all modules in a package, each package before its modules."""
    # The iterator imports each package after it is yielded, thus after `_import` has reported its errors.
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        # Importing `__main__` would run the package as a program.
        if module.name.rpartition(".")[2] != "__main__":
            yield module.name


def _import(module_name: str, package_name: str) -> ModuleType:
    """Imports a module of a package of the user.

    Args:
        module_name: Full name of the module.
        package_name: Name of its package in the config.

    Raises:
        ConfigError: The import fails for any reason, `sys.exit` in the module included.
    """
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name in _list_parents(package_name)
        remedy = f'The traceback: python -c "import {module_name}".'
        if is_absent:
            remedy = "Install the package, or put the folder that holds it into PYTHONPATH."
        reason = f"{module_name}: {type(error).__name__}: {first_line(error)}"
        rule = f"must name packages that can be imported ({reason})"
        raise ConfigError.at("extensions", rule, found=package_name, remedy=remedy) from error


def _list_parents(name: str) -> list[str]:
    """Returns a dotted name and the names of its parent packages."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
