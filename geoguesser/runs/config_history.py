"""History of config keys and targets, so that what earlier versions recorded still means the same.

Run folders and sweep folders hold configs and overrides of the version that wrote them. `update_config` and
`update_override` translate these to the current names. `normalise_config` gives two configs that mean the same the
same values, whatever versions wrote them.

Pure Python: entry points import this module before anything heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PACKAGE = "geoguesser."
_ABSENT: Any = object()

# Import path in an earlier version -> current import path. The name of a renamed class is taken from here as well.
OLD_TARGETS: dict[str, str] = {
    "geoguesser.data.datamodule.demo_data": "geoguesser.data.sources.demo.DemoDataModule",
    "geoguesser.model.backbone.Backbone": "geoguesser.model.backbone.TimmBackbone",
    "geoguesser.model.losses.Smoothed": "geoguesser.model.losses.SmoothedCrossEntropy",
    "geoguesser.training.features.Features": "geoguesser.training.feature_cache.FeatureCache",
    "geoguesser.training.loggers.CsvRecord": "geoguesser.tracking.loggers.CsvRunLogger",
    "geoguesser.training.loggers.TensorBoardRecord": "geoguesser.tracking.loggers.TensorBoardRunLogger",
    "geoguesser.training.optimizer.Adam": "geoguesser.training.optimizer.OptimizerSpec",
    "geoguesser.training.optimizer.AdamW": "geoguesser.training.optimizer.OptimizerSpec",
    "geoguesser.training.optimizer.SGD": "geoguesser.training.optimizer.OptimizerSpec",
    "geoguesser.training.wandb_record.WandbRecord": "geoguesser.tracking.wandb_run.WandbRunLogger",
}

# Class of an earlier version that the current one replaces by a key -> that key and its value.
KEYS_OF_OLD_TARGETS: dict[str, dict[str, Any]] = {name: {"name": name} for name in ("Adam", "AdamW", "SGD")}

# Dotted key of an earlier version -> current dotted key. A group's name stands for all keys below it.
RENAMED_KEYS: dict[str, str] = {
    "schedule.final": "schedule.final_factor",
    "schedule.rise": "schedule.pct_start",
    "uncertainty.calibration": "calibration.fraction",
    "uncertainty.fewest": "calibration.min_places",
    "loss.balance": "loss.class_balance",
}

# Dotted key that only some versions have -> the value that the versions without it behave as.
ADDED_KEYS: dict[str, Any] = {"extensions": []}


def shorten_target(target: str) -> str:
    """Returns the part of a target of any version that survives a move: `Class`, `Class.method` or `function`.

    Targets outside this package stay as they are, so that a user's own class is never taken for one of ours.
    """
    target = OLD_TARGETS.get(target, target)
    if not target.startswith(PACKAGE):
        return target

    short = _last_parts(target)
    renamed = {_last_parts(old): _last_parts(new) for old, new in OLD_TARGETS.items()}
    return renamed.get(short, short)


def update_config(config: Mapping[str, Any], current: Mapping[str, str]) -> dict[str, Any]:
    """Returns a recorded config with the current keys and import paths.

    Args:
        config: Plain values, as any version recorded them.
        current: Short name -> import path, for targets of this package that `OLD_TARGETS` does not list.
    """

    def visit(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: rename(value) if key == "_target_" else visit(value) for key, value in node.items()}
        return [visit(item) for item in node] if isinstance(node, list | tuple) else node

    def rename(target: Any) -> Any:
        if not isinstance(target, str):
            return target
        target = OLD_TARGETS.get(target, target)
        is_current = not target.startswith(PACKAGE) or target in current.values()
        return target if is_current else current.get(shorten_target(target), target)

    updated: dict[str, Any] = visit(_rename_keys(config))
    return updated


def update_override(word: str, renamed: Mapping[str, str] | None = None) -> str:
    """Returns an override such as `+key=value` with the current name of its group or key.

    `renamed` maps old dotted keys to current ones; it is `RENAMED_KEYS` by default.
    """
    name, equals, value = word.partition("=")
    bare = name.lstrip("+~")
    if bare.endswith("_target_"):
        value = OLD_TARGETS.get(value, value)
    prefix = name[: len(name) - len(bare)]
    return f"{prefix}{_rename(bare, RENAMED_KEYS if renamed is None else renamed)}{equals}{value}"


def take_old_keys(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Moves the values of old keys in a composed config to the current keys, in place; returns both names of each.

    A composed config has an old key only if a YAML file of the user sets it, so its value comes before the default
    under the current key.
    """
    moved = []
    for old, new in RENAMED_KEYS.items():
        node = _find(config, new.split(".")[:-1])
        if node is None or (value := _pop(config, old)) is _ABSENT:
            continue
        node[new.rpartition(".")[2]] = value
        moved.append((old, new))
    return moved


def normalise_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config in the form that is the same for all versions.

    Keys have their current names, targets are short, integral floats are integers, and a key of `ADDED_KEYS` is
    left out if its value is that of the versions without it.
    """
    renamed = _rename_keys(config)
    for key, value in ADDED_KEYS.items():
        node = _find(renamed, key.split(".")[:-1])
        last = key.rpartition(".")[2]
        if node is not None and last in node and _normalise(node[last]) == _normalise(value):
            del node[last]

    normalised: dict[str, Any] = _normalise(renamed)
    return normalised


def _last_parts(target: str) -> str:
    # Classes are recognised by their capital letter.
    parts = target.split(".")
    is_method = len(parts) > 1 and parts[-2][:1].isupper()
    return ".".join(parts[-2:] if is_method else parts[-1:])


def _normalise(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): shorten_target(item) if key == "_target_" and isinstance(item, str) else _normalise(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_normalise(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _rename(key: str, renamed: Mapping[str, str]) -> str:
    """Returns the current name of a dotted key, by the longest renamed key that it is or lies below."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        start = ".".join(parts[:length])
        if start in renamed:
            return ".".join([renamed[start], *parts[length:]])
    return key


def _rename_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy with the current keys; a value under the current name comes before one under the old name."""
    renamed: dict[str, Any] = _copy(config)

    # Keys below a renamed group may have new names of their own: the deepest come first.
    for old in sorted(RENAMED_KEYS, key=lambda key: -key.count(".")):
        new = RENAMED_KEYS[old].split(".")
        if _accepts(renamed, new[:-1]) and (value := _pop(renamed, old)) is not _ABSENT:
            _add(renamed, new, value)
    return renamed


def _accepts(config: dict[str, Any], parents: list[str]) -> bool:
    """Returns False if a group of the path is switched off, as by `callbacks.ema: null`."""
    node: Any = config
    for parent in parents:
        node = node.get(parent, {})
        if not isinstance(node, dict):
            return False
    return True


def _add(config: dict[str, Any], path: list[str], value: Any) -> None:
    """Adds a value at a path of keys, in place; values that are present stay, also inside nested mappings."""
    node = config
    for parent in path[:-1]:
        node = node.setdefault(parent, {})

    present = node.setdefault(path[-1], value)
    if present is not value and isinstance(present, dict) and isinstance(value, dict):
        for name, item in value.items():
            _add(present, [name], item)


def _pop(config: dict[str, Any], key: str) -> Any:
    """Removes a dotted key, and its parent if that is then empty, and returns its value, or `_ABSENT`."""
    *parents, last = key.split(".")
    node = _find(config, parents)
    if node is None or last not in node:
        return _ABSENT

    value = node.pop(last)
    if parents and not node:
        _pop(config, ".".join(parents))
    return value


def _find(config: dict[str, Any], parents: list[str]) -> dict[str, Any] | None:
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _copy(value: Any) -> Any:
    """Returns a deep copy; a node of an old class gets the key that now stands for that class."""
    if isinstance(value, Mapping):
        target = str(value.get("_target_", ""))
        added = KEYS_OF_OLD_TARGETS.get(_last_parts(target), {}) if target.startswith(PACKAGE) else {}
        return added | {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
