"""Columns, tags and names of runs in W&B's table of runs, as pure functions.

W&B shows nested keys as columns (`grid.size`) and reads a dot inside a key as nesting. So the config stays nested
and has single values only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from geoguesser.runs.config_keys import KEYS_WITHOUT_EFFECT, has_path, is_private, redact_config

TAG_GROUPS = ("experiment", "region", "data", "backbone", "fusion", "finetune", "head", "grid", "loss", "decoder")

# Groups whose choice alone is clear in a name: `regression` for head=regression.
SELF_EXPLANATORY_GROUPS = ("experiment", "head", "backbone", "region", "image")

# Keys of overrides that do not affect results.
IGNORED_KEYS = (*KEYS_WITHOUT_EFFECT[""], "sweep", "hydra")

# W&B allows 128 and 64 characters.
MAX_NAME_LENGTH, MAX_TAG_LENGTH = 100, 64

# Starts of the metrics whose highest value is the best; of errors and losses it is the lowest.
HIGHER_IS_BETTER = ("score_mean", "share_within_", "cell_top")


def make_config_columns(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """Returns the public part of a config as single values in nested keys without targets.

    The choice of each config group, such as {"head": "classification"}, is under `choice`.
    """
    public = {key: value for key, value in redact_config(config).items() if key != "name"}
    return _to_columns(public) | {"choice": _select_choices(config, choices)}


def make_tags(config: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """Returns tags such as `head=classification` for the groups that distinguish models."""
    selected = _select_choices(config, choices)
    return [f"{group}={selected[group]}"[:MAX_TAG_LENGTH] for group in TAG_GROUPS if group in selected]


def make_run_name(overrides: Iterable[str], choices: Mapping[str, str], fallback: str) -> str:
    """Returns a readable name of a run from its overrides, such as `regression grid.size=30 seed=1`.

    A group in `SELF_EXPLANATORY_GROUPS` is named by its choice only. A run without overrides has the name
    `fallback`, which also ends a name that is too long, so that names with the same beginning differ.
    """
    words = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        value = value.strip("'\"")
        if is_private(key) or has_path(value) or key.partition(".")[0] in IGNORED_KEYS or key.startswith("hydra"):
            continue
        if key in SELF_EXPLANATORY_GROUPS and key in choices:
            words.append(value)
        else:
            words.append(f"{key}={value}" if value else key)

    name = " ".join(words) or fallback
    if len(name) <= MAX_NAME_LENGTH:
        return name
    end = f" … {fallback}"[-40:]
    return name[: MAX_NAME_LENGTH - len(end)].rpartition(" ")[0] + end


def make_summary(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the known numbers of a result.json, which identify a run in a table of runs."""
    summary = {f"test/{key}": value for key, value in result["test"].items()}
    shares = result["test"]["share_within_km"]
    summary |= {f"test/share_within_{radius}_km": share for radius, share in shares.items()}
    summary |= {f"val/{key}": value for key, value in result["val"].items()}
    summary |= {f"grid/{key}": value for key, value in (result["grid"] or {}).items()}
    for name, baseline in result["baseline"].items():
        if baseline is not None:
            summary[f"baseline/{name}_km"] = baseline["error_km_mean"]

    summary |= {f"parameters/{name}": count for name, count in result["parameters"].items()}
    summary |= {f"seconds/{name.removesuffix('_s')}": value for name, value in result["times"].items()}
    summary |= {name: result[name] for name in ("best_epoch", "epochs", "steps")}
    return {key: value for key, value in summary.items() if isinstance(value, int | float)}


def choose_summary_statistic(metric: str) -> str:
    """Returns `min` or `max`, the statistic that gives the best value of a metric such as `val/error_km_mean`."""
    return "max" if metric.partition("/")[2].startswith(HIGHER_IS_BETTER) else "min"


def _to_columns(node: Mapping[str, Any]) -> dict[str, Any]:
    columns = {key: _to_value(value) for key, value in node.items() if not str(key).startswith("_")}
    return {key: value for key, value in columns.items() if value != {}}


def _to_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _to_columns(value)
    if isinstance(value, list | tuple):
        items = (json.dumps(item) if isinstance(item, Mapping | list | tuple) else str(item) for item in value)
        return ", ".join(items)
    return value


def _select_choices(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, str]:
    """Returns the choices of the groups that the run uses; an experiment has no key in the config."""
    return {
        group: str(choice)
        for group, choice in choices.items()
        if choice and (group in config or group == "experiment") and not is_private(group)
    }
