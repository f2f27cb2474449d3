"""What W&B shows of a run in its table: name, tags, columns of the config and of the summary. Pure functions.

W&B takes nested keys for columns (`grid.size`), and reads a dot inside a key as nesting; so the config stays
nested and holds single values alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from geoguesser.runs.config_keys import WITHOUT_EFFECT
from geoguesser.runs.redaction import has_path, is_private, redact_config

TAG_GROUPS = ("experiment", "region", "data", "backbone", "fusion", "finetune", "head", "grid", "loss", "decoder")
SELF_EXPLANATORY_GROUPS = (
    "experiment",
    "head",
    "backbone",
    "region",
    "image",
)  # whose choices say by themselves what they are
IGNORED_KEYS = (*WITHOUT_EFFECT[""], "sweep", "hydra")  # overrides that change no result
MAX_NAME_LENGTH, MAX_TAG_LENGTH = 100, 64  # W&B's own limits are 128 and 64

# Measures that are best at their highest; all others, errors and losses, are best at their lowest.
HIGHER_IS_BETTER = ("score_mean", "share_within_", "cell_top")


def make_config_columns(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The config as columns: single values in nested keys, without targets, and each group's choice in `choice`.

    Args:
        config: The resolved config; what is private is left out here.
        choices: What was chosen of each group: {"head": "classification"}.
    """
    columns: dict[str, Any] = _columns(
        {key: value for key, value in redact_config(config).items() if key != "name"}
    )
    return columns | {"choice": _chosen(config, choices)}


def _columns(node: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if str(key).startswith("_") or value == {}:
            continue
        if isinstance(value, Mapping):
            kept[key] = _columns(value)
        else:
            kept[key] = _text(value) if isinstance(value, list | tuple) else value
    return {key: value for key, value in kept.items() if value != {}}


def _text(values: Iterable[Any]) -> str:
    return ", ".join(json.dumps(one) if isinstance(one, Mapping | list | tuple) else str(one) for one in values)


def _chosen(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, str]:
    """The choices of groups that the run uses; an experiment is no key of the config, but a choice too."""
    used = {group: choice for group, choice in choices.items() if group in config or group == "experiment"}
    return {group: str(choice) for group, choice in used.items() if choice and not is_private(group)}


def make_tags(config: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """`head=classification` and its like, of the groups that tell one model from another."""
    chosen = _chosen(config, choices)
    return [f"{group}={chosen[group]}"[:MAX_TAG_LENGTH] for group in TAG_GROUPS if group in chosen]


def make_run_name(overrides: Iterable[str], choices: Mapping[str, str], fallback: str) -> str:
    """A run's name for people: what its command line asked for, such as `regression grid.size=30 seed=1`.

    Args:
        overrides: The words of the command line.
        choices: Each group's choice; the word of a group that explains itself is its choice alone.
        fallback: The name of a run that asked for nothing; and the end of one whose words are too many, so that
            names that begin the same stay apart.
    """
    words = []
    for word in overrides:
        key, _, value = word.lstrip("+~").partition("=")
        value = value.strip("'\"")
        if is_private(key) or has_path(value) or key.partition(".")[0] in IGNORED_KEYS or key.startswith("hydra"):
            continue
        words.append(
            value if key in SELF_EXPLANATORY_GROUPS and key in choices else f"{key}={value}" if value else key
        )
    name = " ".join(words) or fallback
    if len(name) <= MAX_NAME_LENGTH:
        return name
    end = f" … {fallback}"[-40:]
    return name[: MAX_NAME_LENGTH - len(end)].rpartition(" ")[0] + end


def make_summary(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a result that name a run in a table of runs; what is not known is left out."""
    test, grid = result["test"], result["grid"] or {}
    summary = {f"test/{key}": value for key, value in test.items()}
    summary |= {f"test/share_within_{radius}_km": share for radius, share in test["share_within_km"].items()}
    summary |= {f"val/{key}": value for key, value in result["val"].items()}
    summary |= {f"grid/{key}": value for key, value in grid.items()}
    known = {name: entry for name, entry in result["baseline"].items() if entry is not None}
    summary |= {f"baseline/{name}_km": entry["error_km_mean"] for name, entry in known.items()}
    summary |= {f"parameters/{name}": count for name, count in result["parameters"].items()}
    summary |= {f"seconds/{name.removesuffix('_s')}": value for name, value in result["times"].items()}
    summary |= {name: result[name] for name in ("best_epoch", "epochs", "steps")}
    return {key: value for key, value in summary.items() if isinstance(value, int | float)}


def choose_summary_statistic(measure: str) -> str:
    """Which value of `val/error_km_mean` and its like is the best: `min` or `max`."""
    return "max" if measure.partition("/")[2].startswith(HIGHER_IS_BETTER) else "min"
