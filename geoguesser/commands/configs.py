"""From configuration to objects: where conf/ lies, and the only call of hydra.utils.instantiate."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from geoguesser.errors import ConfigError, GeoguesserError, first_line
from geoguesser.runs.config_history import shorten_target, update_config

PLAIN = re.compile(r"[A-Za-z0-9_./:+%@-]+")  # what Hydra reads as it is, whatever stands where in it
TARGET = re.compile(r"^\s*_target_: (geoguesser\.[\w.]+)", re.MULTILINE)
HEAD_GROUPS = ("grid", "loss", "decoder")  # used by those heads whose `fit` has a parameter of that name


def conf_dir() -> str:
    """The absolute path of conf/: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "conf"
    inside = package / "conf"
    found = inside if (inside / "train.yaml").is_file() else beside
    return str(found)


def format_override(key: str, value: object) -> str:
    """`key=value` as Hydra reads it back: a path with spaces or letters beyond ASCII in quotes of its own.

    Args:
        key: The config key.
        value: A path, say; it is written as text.
    """
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"{key}='{escaped}'"


def get_signature(node: Mapping[str, Any], key: str) -> inspect.Signature:
    """Returns the signature of a node's `_target_`; `**settings: Unpack[T]` counts as the keywords of `T`.

    Raises:
        ConfigError: The node names no target, or one that cannot be imported.
    """
    from hydra.utils import get_object

    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError.at(key, "must be a config group's choice with a _target_", found=node)
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

    # The default of an optional key is the callee's business; it only matters that there is one.
    keys = [
        last.replace(
            name=name,
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name in settings.__required_keys__ else None,
        )
        for name in settings.__annotations__
    ]
    return signature.replace(parameters=[*parameters, *keys])


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
        raise ConfigError(f"{key} cannot be made: {first_line(error)}") from error
    try:
        return make(**extra)
    except GeoguesserError:
        raise
    except Exception as error:
        if not isinstance(error, _refusals()):
            raise
        raise ConfigError(f"{key} does not take these values: {first_line(error)}") from error


def _refusals() -> tuple[type[Exception], ...]:
    """How a target says that it does not take a value; Lightning's own kind only where Lightning is loaded."""
    lightning = sys.modules.get("lightning_fabric.utilities.exceptions")
    return (
        TypeError,
        ValueError,
        ModuleNotFoundError,
        *([lightning.MisconfigurationException] if lightning else []),
    )


def check_keys(node: Mapping[str, Any], key: str, extra: Mapping[str, Any]) -> None:
    """Binds a node's keys to its target's signature without calling it.

    Raises:
        ConfigError: A key that the target does not take, or one that it lacks.
    """
    parameters = get_signature(node, key).parameters
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


def to_plain(cfg: DictConfig, keys: set[str]) -> dict[str, Any]:
    """Turns a composed config into plain values.

    Args:
        cfg: The composed config.
        keys: The top-level keys that the program has; Hydra lets `+typo=1` pass.

    Raises:
        ConfigError: A value is missing, an interpolation fails, or a key is unknown.
    """
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "a key")
        reason = first_line(error)
        raise ConfigError.at(key, f"must be given ({reason})", remedy=f"Add {key}=... to the command.") from error
    assert isinstance(config, dict)
    unknown = sorted({str(key) for key in config} - keys)
    if unknown:
        raise ConfigError(f"{unknown[0]} is no key of this program. Its keys: {', '.join(sorted(keys))}.")
    return {str(key): value for key, value in config.items()}


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The plain values of a training config, without the groups that the chosen head does not use.

    Also without `sweep`, which is of the command and not of the run, and `epochs`, which trainer.max_epochs holds.

    Raises:
        ConfigError: As `plain`.
    """
    config = to_plain(cfg, known_keys())
    used = get_signature(config["head"], "head").parameters
    unused = {"sweep", "epochs", *(key for key in HEAD_GROUPS if key not in used)}
    return {key: value for key, value in config.items() if key not in unused}


def known_keys(name: str = "train") -> set[str]:
    """The top-level keys of a primary config: its own and those of its groups."""
    primary = OmegaConf.to_container(OmegaConf.load(Path(conf_dir()) / f"{name}.yaml"))
    assert isinstance(primary, dict)
    entries = [str(key) for entry in primary["defaults"] if isinstance(entry, dict) for key in entry]
    groups = {key for key in entries if not key.startswith("override ")}
    return (groups | {str(key) for key in primary}) - {"defaults", "hydra", "density", "experiment"}


def read_config(file: Path) -> dict[str, Any]:
    """Reads a run's config.yaml as plain values, with the current names of keys and targets.

    Raises:
        ConfigError: It is no config.
    """
    try:
        found = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({first_line(error)}).") from error
    if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
        raise ConfigError.at(str(file), "must be the config of a run, with its seed")
    return update_config({str(key): value for key, value in found.items()}, current_targets())


@cache
def current_targets() -> dict[str, str]:
    """Returns short name -> import path of this package's targets in conf/, where only one target has that name.

    A class that moved is found by these without an entry in `config_history.OLD_TARGETS`.
    """
    paths: dict[str, set[str]] = {}
    for file in sorted(Path(conf_dir()).rglob("*.yaml")):
        for target in TARGET.findall(file.read_text(encoding="utf-8")):
            paths.setdefault(shorten_target(target), set()).add(target)
    return {short: next(iter(targets)) for short, targets in paths.items() if len(targets) == 1}
