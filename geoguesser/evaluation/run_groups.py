"""Groups of runs that differ only in seed or fold, and the config keys whose values differ between groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.data.sources.base import source_from_config
from geoguesser.runs.config_history import ADDED_KEYS, normalise_config, shorten_target
from geoguesser.runs.config_keys import KEYS_WITHOUT_EFFECT, flatten_config
from geoguesser.runs.run_folder import Run, UnusedRun

IGNORED_KEYS = frozenset(
    f"{group}.{key}".lstrip(".") for group, keys in KEYS_WITHOUT_EFFECT.items() for key in keys
)

# Config groups that a head needs or not.
HEAD_DEPENDENT_GROUPS = ("grid", "loss", "decoder")

# Parts of a data fingerprint that identify the data: all but the split, the size and versions.
DATA_PARTS = ("ids", "coordinates", "masks", "views")

ABSENT = "–"
Choices = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class RunGroup:
    """Runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one run; no two have the same seed and fold.
        uuid: (N,) ids of the test places of all folds.
        true_deg: (N, 2) true points.
        predicted_deg: (N, 2) points predicted by the first seed.
        errors: (S, N) errors in km, one row per seed.
    """

    runs: tuple[Run, ...]
    uuid: pd.Index[str]
    true_deg: FloatArray
    predicted_deg: FloatArray
    errors: FloatArray

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def folds(self) -> list[int]:
        return sorted({run.fold for run in self.runs if run.fold is not None})

    @property
    def error_km(self) -> FloatArray:
        """(N,) mean error of each place over the seeds."""
        return self.errors.mean(axis=0)


def group_runs(runs: Sequence[Run]) -> tuple[list[RunGroup], list[UnusedRun]]:
    """Groups runs that differ only in seed or fold, in the order of the groups' first runs.

    Also returns the runs that repeat the seed and fold of another run of their group, because a repeat is not an
    independent observation.
    """
    members: dict[str, dict[tuple[int, int | None], Run]] = {}
    repeats: list[UnusedRun] = []
    for run in runs:
        group = members.setdefault(_make_identity(run), {})
        first = group.setdefault((run.seed, run.fold), run)
        if first is not run:
            reason = f"the same configuration, data and seed as {first.name}"
            repeats.append(UnusedRun(run.name, "repeat", reason))
    return [_make_group(tuple(group.values())) for group in members.values()], repeats


def _flatten(run: Run) -> dict[str, Any]:
    """Returns a run's normalised config by dotted keys, without keys that do not affect results."""
    return flatten_config(normalise_config(run.config), IGNORED_KEYS.__contains__)


def _make_identity(run: Run) -> str:
    """Returns a text that runs share if they differ only in seed and fold, whatever versions wrote them."""
    ignored = {"seed", "split.fold", *_list_folder_keys(run.config)}
    config = {key: value for key, value in _flatten(run).items() if key not in ignored}
    data = {part: run.result["data"].get(part) for part in DATA_PARTS}
    return json.dumps([config, data], sort_keys=True, default=str)


def _make_group(runs: tuple[Run, ...]) -> RunGroup:
    # Test places of the folds of a seed are joined. Of several seeds, only places that all of them tested count.
    tables = []
    for seed in sorted({run.seed for run in runs}):
        table = pd.concat([run.predictions for run in runs if run.seed == seed])
        tables.append(table.drop_duplicates("uuid").set_index("uuid"))

    shared = tables[0].index
    for table in tables[1:]:
        shared = shared.intersection(table.index, sort=False)
    tables = [table.loc[shared] for table in tables]

    return RunGroup(
        runs,
        shared,
        tables[0][["true_latitude", "true_longitude"]].to_numpy(dtype=np.float64),
        tables[0][["latitude", "longitude"]].to_numpy(dtype=np.float64),
        np.stack([table["error_km"].to_numpy(dtype=np.float64) for table in tables]),
    )


def find_differences(groups: Sequence[RunGroup], choices: Choices) -> dict[str, list[str]]:
    """Lists the keys whose values differ between groups, with the value of each group.

    Names, loggers, folders, seeds and folds are left out, and keys that exist only because of another choice, such
    as the grid of a head with cells.

    `choices` are (config group, `_target_`) -> the word that chooses it; other targets are shown by class name.

    Returns:
        Key -> value of each group (at least one), in the order of the config; `–` if a group has no such key.
    """
    first = [group.runs[0] for group in groups]
    configs = [_flatten(run) for run in first]
    words = {(group, shorten_target(target)): word for (group, target), word in choices.items()}
    ignored = {"seed", "split.fold"}.union(*(_list_folder_keys(run.config) for run in first))

    differences: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        restored = [_with_default(key, config, configs) for config in configs]
        if key in ignored or not _differs(key, restored):
            continue
        values = [_format_value(key, config, words) for config in restored]

        # `callbacks.ema: null` and `callbacks.ema._target_` are values of one key.
        name = key.removesuffix("._target_")
        before = differences.get(name, [ABSENT] * len(configs))
        differences[name] = [new if new != ABSENT else old for old, new in zip(before, values, strict=True)]

    # Data that differ for no reason in the config get a number.
    data = [json.dumps([run.result["data"].get(part) for part in DATA_PARTS]) for run in first]
    if len(set(data)) > 1 and not any(key.startswith(("data", "image")) for key in differences):
        numbers = {
            fingerprint: f"data {number}" for number, fingerprint in enumerate(dict.fromkeys(data), start=1)
        }
        differences["data"] = [numbers[fingerprint] for fingerprint in data]
    return differences


def _list_folder_keys(config: Mapping[str, Any]) -> set[str]:
    """Returns the keys of folders with data, because data are compared by their fingerprint."""
    return {f"data.{key}" for key in source_from_config(config).folder_keys}


def _differs(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    values = {json.dumps(config[key], sort_keys=True, default=str) for config in configs if key in config}
    if len(values) > 1:
        return True

    lacking = [config for config in configs if key not in config]
    if not lacking or key.split(".", maxsplit=1)[0] in HEAD_DEPENDENT_GROUPS:
        return False
    return key.endswith("._target_") or any(_has_same_target(key, config, configs) for config in lacking)


def _has_same_target(key: str, config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether a config without a key makes the same choice as a config with it."""
    target = f"{key.rpartition('.')[0]}._target_"
    return config.get(target) in {other.get(target) for other in configs if key in other}


def _with_default(key: str, config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Restores a key that `normalise_config` removed because its value is that of older versions."""
    if key in ADDED_KEYS and key not in config and _has_same_target(key, config, configs):
        return {**config, key: ADDED_KEYS[key]}
    return config


def _format_value(key: str, config: Mapping[str, Any], words: Choices) -> str:
    if key not in config:
        return ABSENT

    value = config[key]
    if key.endswith("_target_"):
        word = words.get((key.removesuffix("._target_"), str(value)))
        parts = str(value).split(".")
        return word or (parts[-2] if parts[-1] == "fit" and len(parts) > 1 else parts[-1])
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and ("/" in value or "\\" in value):
        # A file of the user's machine is shown without its folder.
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return f"{value:g}" if isinstance(value, float) else str(value)
