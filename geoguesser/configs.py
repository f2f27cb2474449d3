"""From configuration to objects: where conf/ lies, and the only call of hydra.utils.instantiate."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoguesser.errors import ConfigError, GeoguesserError


def conf_dir() -> str:
    """The absolute path of conf/: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "conf"
    inside = package / "conf"
    found = inside if (inside / "train.yaml").is_file() else beside
    return str(found)


def signature_of(node: Mapping[str, Any], key: str) -> inspect.Signature:
    """The signature of a node's `_target_`.

    Raises:
        ConfigError: The node names no target, or one that cannot be imported.
    """
    from hydra.utils import get_object

    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError.at(key, "must be a config group's choice with a _target_", found=node)
    try:
        return inspect.signature(get_object(target))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError.at(f"{key}._target_", f"cannot be imported ({error})", found=target) from error


def build(node: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Makes the object that a node of the resolved config describes.

    Args:
        node: Plain values with `_target_`.
        key: Where it stands in the config, for messages.
        extra: What the config cannot say: fitted objects. Those that the target has no parameter for
            must not be given.

    Raises:
        ConfigError: A key that the target does not take, or one that it lacks.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    check_keys(node, key, extra)
    try:
        make = instantiate({**node, "_partial_": True}, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, GeoguesserError):
            raise cause from None
        raise ConfigError(f"{key} cannot be made: {str(error).splitlines()[0]}") from error
    return make(**extra)


def check_keys(node: Mapping[str, Any], key: str, extra: Mapping[str, Any]) -> None:
    """Binds a node's keys to its target's signature without calling it.

    Raises:
        ConfigError: A key that the target does not take, or one that it lacks.
    """
    parameters = signature_of(node, key).parameters
    named = {
        name
        for name, parameter in parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    given = {name for name in node if not str(name).startswith("_")}
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = sorted(given - (named - set(extra)))
    if unknown and not open_ended:
        choices = ", ".join(sorted(named - set(extra)))
        raise ConfigError(f"{key}.{unknown[0]} is no key of this choice. Its keys: {choices or 'none'}.")
    missing = [name for name in named - given - set(extra) if parameters[name].default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"{key}.{sorted(missing)[0]} must be given: {node['_target_']} needs it.")
