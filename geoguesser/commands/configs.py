"""Finds conf/, converts composed configs to plain values, and makes the objects that they describe."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geoguesser.errors import ConfigError, GeoguesserError, first_line
from geoguesser.runs.config_history import take_old_keys

log = logging.getLogger(__name__)

# Values that Hydra's grammar reads without quotes.
PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:+%@-]+")
# Config groups that only some heads need: a head needs one if its `fit` has a parameter of that name.
HEAD_GROUPS = ("grid", "loss", "decoder")
# Groups whose files set keys of other groups and have no key in the config.
PRESET_GROUPS = {"density", "experiment"}


def conf_dir() -> str:
    """Returns the absolute path of conf/: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return str(inside if (inside / "train.yaml").is_file() else package.parent / "conf")


def format_override(key: str, value: object) -> str:
    """Formats `key=value` for Hydra's grammar, with quotes if the value has spaces or special characters."""
    text = str(value)
    if PLAIN_VALUE.fullmatch(text):
        return f"{key}={text}"

    # Backslashes are literal, except before a quote or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"{key}='{escaped}'"


def get_signature(node: Mapping[str, Any], key: str) -> inspect.Signature:
    """Returns the signature of a node's `_target_`, with a keyword for each key of `**settings: Unpack[T]`.

    Raises:
        ConfigError: The node has no target, or one that cannot be imported.
    """
    from hydra.utils import get_object

    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError.at(key, "must be a mapping with the key _target_", found=node)
    try:
        function = get_object(target)
        return _unpack(inspect.signature(function), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        remedy = "" if target.startswith("geoguesser.") else "Put the folder of its package into PYTHONPATH."
        rule = f"cannot be imported ({first_line(error)})"
        raise ConfigError.at(f"{key}._target_", rule, found=target, remedy=remedy) from error


def _unpack(signature: inspect.Signature, function: Any) -> inspect.Signature:
    """Replaces `**settings: Unpack[T]` by a parameter for each key of the TypedDict `T`."""
    parameters = list(signature.parameters.values())
    if not parameters or not str(parameters[-1].annotation).startswith("Unpack["):
        return signature
    last = parameters.pop()
    hints = get_type_hints(getattr(function, "__init__") if isinstance(function, type) else function)  # noqa: B009
    (settings,) = get_args(hints[last.name])

    # `check_keys` only asks whether a parameter has a default, so None stands for any default.
    keyword_parameters = [
        last.replace(
            name=name,
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name in settings.__required_keys__ else None,
        )
        for name in settings.__annotations__
    ]
    return signature.replace(parameters=[*parameters, *keyword_parameters])


def instantiate_node(node: Mapping[str, Any], key: str, **fitted: Any) -> Any:
    """Makes the object that a node (a mapping with `_target_`) of the resolved config describes.

    Args:
        node: Plain values of the node.
        key: Config key of the node, for messages.
        fitted: Objects that the config cannot describe, for parameters of the target.

    Raises:
        ConfigError: A key is unknown to the target, a required key is missing, or a value is invalid.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    check_keys(node, key, fitted)
    # `_partial_`, because `instantiate` would wrap the errors of the target if it called it.
    try:
        target = instantiate({**node, "_partial_": True}, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, GeoguesserError):
            raise cause from None
        raise ConfigError(f"{key} cannot be made: {first_line(error)}") from error

    # Lightning is not imported here: if it is not loaded yet, it cannot have raised.
    invalid_value_errors: list[type[Exception]] = [TypeError, ValueError, ModuleNotFoundError]
    if lightning := sys.modules.get("lightning_fabric.utilities.exceptions"):
        invalid_value_errors.append(lightning.MisconfigurationException)
    try:
        return target(**fitted)
    except GeoguesserError:
        raise
    except tuple(invalid_value_errors) as error:
        raise ConfigError(f"{key} does not take these values: {first_line(error)}") from error


def check_keys(node: Mapping[str, Any], key: str, fitted: Mapping[str, Any]) -> None:
    """Checks a node's keys without calling its target. Arguments and errors as in `instantiate_node`."""
    parameters = get_signature(node, key).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    allowed = {name for name, parameter in parameters.items() if parameter.kind in kinds} - set(fitted)
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    given = {name for name in node if not str(name).startswith("_")}

    unknown = sorted(given - allowed)
    if unknown and not takes_any:
        keys = ", ".join(sorted(allowed))
        raise ConfigError(f"{key}.{unknown[0]} is not a key of {node['_target_']}. Its keys: {keys or 'none'}.")
    missing = [name for name in allowed - given if parameters[name].default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"{key}.{min(missing)} must be given: {node['_target_']} needs it.")


def to_plain(cfg: DictConfig, keys: set[str]) -> dict[str, Any]:
    """Converts a composed config to plain values.

    Args:
        cfg: Composed config.
        keys: Allowed top-level keys. Others are refused here, because Hydra accepts `+typo=1`.

    Raises:
        ConfigError: A value is missing, an interpolation fails, or a key is unknown.
    """
    config = _to_container(cfg)
    _check_known(config, keys)
    return config


def _to_container(cfg: DictConfig) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "a key")
        reason = first_line(error)
        raise ConfigError.at(key, f"must be given ({reason})", remedy=f"Add {key}=... to the command.") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _check_known(config: dict[str, Any], keys: set[str]) -> None:
    if unknown := sorted(set(config) - keys):
        raise ConfigError(f"{unknown[0]} is not a key of this command. Its keys: {', '.join(sorted(keys))}.")


def resolve_run_config(cfg: DictConfig) -> dict[str, Any]:
    """Returns the plain values of a training config that describe the run.

    Left out are groups that the head does not use; `sweep`, which is about the command and not the run; and
    `epochs`, which is also in `trainer.max_epochs`. Errors as in `to_plain`.
    """
    config = _to_container(cfg)
    # A YAML file of the user may have old names.
    for old, new in take_old_keys(config):
        _warn_renamed(old, new)
    _check_known(config, list_known_keys())

    used = get_signature(config["head"], "head").parameters
    unused = {"sweep", "epochs", *(key for key in HEAD_GROUPS if key not in used)}
    return {key: value for key, value in config.items() if key not in unused}


@cache
def _warn_renamed(old: str, new: str) -> None:
    """Warns once per process: a config is resolved for the name of its job and again for the run."""
    log.warning("%s is now %s; the old name works until version 1.0", old, new)


def list_known_keys(name: str = "train") -> set[str]:
    """Returns the top-level keys of a command's config and the names of its groups."""
    primary = OmegaConf.to_container(OmegaConf.load(Path(conf_dir()) / f"{name}.yaml"))
    assert isinstance(primary, dict)
    entries = [str(key) for entry in primary["defaults"] if isinstance(entry, dict) for key in entry]
    groups = {key for key in entries if not key.startswith(("override ", "hydra/"))}
    return (groups | {str(key) for key in primary}) - {"defaults", "hydra"} - PRESET_GROUPS
