"""Runs, read back from their folders: what `python -m geoguesser.compare` and `.report` are given."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geoguesser.errors import DataError, GeoguesserError, MissingFileError, first_line

STATUS, CONFIG = "status.json", "config.yaml"
REQUIRED_COLUMNS = ("uuid", "latitude", "longitude", "true_latitude", "true_longitude", "error_km")
DATE_OR_TIME = re.compile(r"[\d-]+$")
ReadConfig = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run that is done.

    Attributes:
        name: Short, without the folders of the user's machine: `run1`, `sweep/3`.
        folder: Where it lies.
        config: The resolved config.
        result: What result.json holds.
        history: metrics.csv.
        predictions: predictions_test.csv, a row per test place; each uuid once.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame

    @property
    def seed(self) -> int:
        """What drew weights, order and augmentation."""
        return int(self.config["seed"])

    @property
    def fold(self) -> int | None:
        """The fold that was tested; None for a split without folds."""
        fold = (self.config.get("split") or {}).get("fold")
        return None if fold is None else int(fold)

    @property
    def folds(self) -> int | None:
        """How many folds there are."""
        folds = (self.config.get("split") or {}).get("folds")
        return None if self.fold is None or folds is None else int(folds)


@dataclass(frozen=True)
class UnusedRun:
    """A run that is not compared.

    Attributes:
        name: As in `Run`.
        state: failed, running, interrupted, unreadable, or repeat.
        reason: More about it; may be empty.
    """

    name: str
    state: str
    reason: str = ""


def read_runs(words: Sequence[str], read_config: ReadConfig) -> tuple[list[Run], list[UnusedRun]]:
    """Reads run folders, and all runs in sweep folders.

    Args:
        words: Folders: a run's, or one whose sub-folders are runs.
        read_config: Turns a config.yaml into plain values; it may raise ValueError or OSError.

    Returns:
        The runs that are done, in the order of the words and of their names; and those that are not.

    Raises:
        MissingFileError: A word is no folder, or holds no run.
        DataError: No run is left.
    """
    named = _named(words)
    runs: list[Run] = []
    unused: list[UnusedRun] = []
    for name, folder in named:
        try:
            state = _state(folder)
            if state is not None:
                unused.append(UnusedRun(name, *state))
                continue
            runs.append(_read(name, folder, read_config))
        except (OSError, ValueError, KeyError) as error:
            reason = str(error) if isinstance(error, GeoguesserError) else first_line(error)
            unused.append(UnusedRun(name, "unreadable", reason.replace(str(folder), name)))
    if not runs:
        listed = "; ".join(f"{one.name} is {one.state} ({one.reason})".replace(" ()", "") for one in unused)
        raise DataError.at("The runs to compare", f"must hold one that is done, but {listed}")
    return runs, unused


def read_run(word: str, read_config: ReadConfig) -> Run:
    """Reads one run's folder.

    Args:
        word: The folder.
        read_config: As in `read_runs`.

    Raises:
        MissingFileError: It is no run's folder.
        DataError: The run is not done, or what it left cannot be read.
    """
    folder = Path(word).expanduser()
    if not folder.is_dir() or not is_run(folder):
        raise MissingFileError.at(f"run={word}", "must be a run folder", remedy="Runs lie in outputs/DATE/TIME.")
    try:
        state = _state(folder)
        if state is None:
            ((name, own),) = _named([word])
            return _read(name, own, read_config)
    except GeoguesserError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise DataError.at(f"run={word}", f"must be whole ({first_line(error)})") from error
    raise DataError.at(f"run={word}", "must be a run that is done", found=": ".join(filter(None, state)))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it says what state it is in, or has its config."""
    return (folder / STATUS).is_file() or (folder / CONFIG).is_file()


def _named(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Each run folder once, with a short name of its own."""
    found: dict[Path, str] = {}
    for word in words:
        folder = Path(word).expanduser()
        if not folder.is_dir():
            raise MissingFileError.at(
                word, "must be a run folder, or a sweep's", remedy="Runs lie in outputs/DATE/TIME."
            )
        own = folder.resolve()
        if is_run(folder):
            parent = own.parent.name
            dated = DATE_OR_TIME.fullmatch(own.name) and DATE_OR_TIME.fullmatch(parent)
            found.setdefault(own, f"{parent}/{own.name}" if dated else own.name)
            continue
        jobs = sorted((path for path in own.iterdir() if path.is_dir() and is_run(path)), key=_by_number)
        if not jobs:
            raise MissingFileError.at(
                word,
                f"must be a run folder with {STATUS}, or hold such folders",
                remedy="Runs lie in outputs/DATE/TIME, sweeps in multirun/NAME.",
            )
        for job in jobs:
            found.setdefault(job, f"{own.name}/{job.name}")
    return list(zip(_distinct(list(found), list(found.values())), found, strict=True))


def _by_number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdecimal() else (-1, path.name)


def _distinct(folders: list[Path], names: list[str]) -> list[str]:
    """Names that are shared get one more of their folders in front, until none is shared."""
    names = list(names)
    while len(set(names)) < len(names):
        before = list(names)
        for at, name in enumerate(before):
            parts = folders[at].parts[1:]
            longer = name.count("/") + 2
            if before.count(name) > 1 and longer <= len(parts):
                names[at] = "/".join(parts[-longer:])
        if names == before:
            break
    return names


def _state(folder: Path) -> tuple[str, str] | None:
    """State and reason of a run that is not done; None for one that is."""
    file = folder / STATUS
    if not file.is_file():
        return "unreadable", f"it has no {STATUS}"
    status = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(status, dict) or "state" not in status:
        return "unreadable", f"its {STATUS} says no state"
    state = str(status["state"])
    return None if state == "done" else (state, str(status.get("error", "")))


def _read(name: str, folder: Path, read_config: ReadConfig) -> Run:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if not isinstance(result, dict) or result.get("format") != 1:
        raise DataError.at(f"{name}/result.json", "must be of format 1", found=dict(result).get("format"))
    for part in ("test", "val", "times", "data"):
        if part not in result:
            raise DataError.at(f"{name}/result.json", f"must have the part {part}")
    file = folder / "predictions_test.csv"
    predictions = pd.read_csv(file, dtype={"uuid": str}, keep_default_na=False)
    missing = [column for column in REQUIRED_COLUMNS if column not in predictions]
    if missing:
        raise DataError.at(f"{name}/{file.name}", f"must have the column {missing[0]}")
    if predictions["uuid"].duplicated().any():
        twice = predictions["uuid"][predictions["uuid"].duplicated()].iloc[0]
        raise DataError.at(f"{name}/{file.name}", "must name each place once", found=twice)
    history = pd.read_csv(folder / "metrics.csv")
    return Run(name, folder, read_config(folder / CONFIG), result, history, predictions)
