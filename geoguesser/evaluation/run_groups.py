"""Groups: runs that differ in their seed or fold alone are one; what differs between groups, by config key."""

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
from geoguesser.runs.config_keys import WITHOUT_EFFECT
from geoguesser.runs.run_folder import Run, UnusedRun

LEFT_OUT = frozenset(f"{group}.{key}".lstrip(".") for group, keys in WITHOUT_EFFECT.items() for key in keys)
HEAD_DEPENDENT_GROUPS = ("grid", "loss", "decoder")  # there or not as the head wants them
DATA_PARTS = ("ids", "coordinates", "masks", "views")  # of a fingerprint: all but the split, the size and versions
ABSENT = "–"
Choices = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class RunGroup:
    """Runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one; no two have seed and fold in common.
        uuid: (N,) the test places, of all folds together.
        true_deg: (N, 2) where they are.
        predicted_deg: (N, 2) where the first seed put them.
        errors: (S, N) in km, one row per seed.
    """

    runs: tuple[Run, ...]
    uuid: pd.Index[str]
    true_deg: FloatArray
    predicted_deg: FloatArray
    errors: FloatArray

    @property
    def config(self) -> dict[str, Any]:
        """The config that the runs share, but for seed and fold."""
        return self.runs[0].config

    @property
    def seeds(self) -> list[int]:
        """In ascending order, as the rows of `errors`."""
        return sorted({run.seed for run in self.runs})

    @property
    def folds(self) -> list[int]:
        """The folds that were tested; empty for a split without folds."""
        return sorted({run.fold for run in self.runs if run.fold is not None})

    @property
    def error_km(self) -> FloatArray:
        """(N,) mean over the seeds of each place's error."""
        means: FloatArray = self.errors.mean(axis=0)
        return means


def group_runs(runs: Sequence[Run]) -> tuple[list[RunGroup], list[UnusedRun]]:
    """Puts runs that differ in seed or fold alone together.

    Returns:
        The groups, in the order of their first runs; and the runs that repeat another one's seed and fold,
        for such a run is no second observation.
    """
    members: dict[str, dict[tuple[int, int | None], Run]] = {}
    repeats: list[UnusedRun] = []
    for run in runs:
        own = members.setdefault(_identity(run), {})
        first = own.setdefault((run.seed, run.fold), run)
        if first is not run:
            repeats.append(UnusedRun(run.name, "repeat", f"the same configuration, data and seed as {first.name}"))
    return [_group(tuple(own.values())) for own in members.values()], repeats


def flatten_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config by dotted keys, without those that change nothing; lists stay whole."""
    found: dict[str, Any] = {}

    def visit(node: Mapping[str, Any], before: str) -> None:
        for key, value in node.items():
            name = f"{before}{key}"
            if name in LEFT_OUT:
                continue
            if isinstance(value, Mapping):
                visit(value, f"{name}.")
            else:
                found[name] = value

    visit(config, "")
    return found


def _identity(run: Run) -> str:
    """Returns a text that runs share if they differ in seed and fold only, whatever versions wrote them."""
    folders = _folders(run.config)
    flat = flatten_config(normalise_config(run.config))
    config = {key: value for key, value in flat.items() if key not in folders}
    config.pop("seed", None)
    config.pop("split.fold", None)
    data = {part: run.result["data"].get(part) for part in DATA_PARTS}
    return json.dumps([config, data], sort_keys=True, default=str)


def _group(runs: tuple[Run, ...]) -> RunGroup:
    """Test places of a seed's folds one after the other; of several seeds, those that all of them tested."""
    tables = []
    for seed in sorted({run.seed for run in runs}):
        own = pd.concat([run.predictions for run in runs if run.seed == seed])
        tables.append(own.drop_duplicates("uuid").set_index("uuid"))
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
    """Lists the keys whose values differ between the groups, with the values of each group.

    Left out: names, loggers, folders, seeds and folds (which stand beside), and what is only there because
    another choice is, like the grid of a head with cells.

    Args:
        groups: At least one.
        choices: (group, `_target_`) -> the word by which a user chooses it; others go by their class.

    Returns:
        Key -> a value for each group, in the order of the config; `–` where a group has no such key.
    """
    configs = [flatten_config(normalise_config(group.config)) for group in groups]
    choices = {(group, shorten_target(target)): word for (group, target), word in choices.items()}
    beside = frozenset({"seed", "split.fold"}).union(*(_folders(group.config) for group in groups))
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key not in beside]
    shown = {
        key: [_value(key, _with_default(key, config, configs), choices) for config in configs]
        for key in keys
        if _differs(key, configs)
    }
    renamed: dict[str, list[str]] = {}
    for key, values in shown.items():  # `callbacks.ema: null` and `callbacks.ema._target_` are one key
        word = key.removesuffix("._target_")
        before = renamed.get(word, [ABSENT] * len(configs))
        renamed[word] = [new if new != ABSENT else old for old, new in zip(before, values, strict=True)]
    data = [json.dumps([group.runs[0].result["data"].get(part) for part in DATA_PARTS]) for group in groups]
    if len(set(data)) > 1 and not any(key.startswith(("data", "image")) for key in renamed):
        numbers = {one: f"data {number}" for number, one in enumerate(dict.fromkeys(data), start=1)}
        renamed["data"] = [numbers[one] for one in data]
    return renamed


def _folders(config: Mapping[str, Any]) -> frozenset[str]:
    """Returns the keys of folders with data: data are compared by their fingerprint."""
    return frozenset(f"data.{key}" for key in source_from_config(config).folder_keys)


def _differs(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    values = {json.dumps(config[key], sort_keys=True, default=str) for config in configs if key in config}
    if len(values) > 1:
        return True
    lacking = [config for config in configs if key not in config]
    if not lacking or key.split(".", maxsplit=1)[0] in HEAD_DEPENDENT_GROUPS:
        return False
    if key.endswith("._target_"):
        return True
    return any(_same_parent(key, config, configs) for config in lacking)


def _same_parent(key: str, config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a config without the key has the same choice around it, so that the key itself was left out."""
    target = f"{key.rpartition('.')[0]}._target_"
    theirs = {other.get(target) for other in configs if key in other}
    return config.get(target) in theirs


def _with_default(key: str, config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Adds a key to a config again that `normalise_config` left out because it has the value of older versions."""
    if key in ADDED_KEYS and key not in config and _same_parent(key, config, configs):
        return {**config, key: ADDED_KEYS[key]}
    return config


def _value(key: str, config: Mapping[str, Any], choices: Choices) -> str:
    if key not in config:
        return ABSENT
    value = config[key]
    if key.endswith("_target_"):
        name = choices.get((key.removesuffix("._target_"), str(value)))
        parts = str(value).split(".")
        return name or (parts[-2] if parts[-1] == "fit" and len(parts) > 1 else parts[-1])
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]  # a file of the user's machine
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
