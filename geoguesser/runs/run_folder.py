"""Reader of run folders: finished runs with their config, results, history and predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geoguesser.errors import DataError, GeoguesserError, MissingFileError, first_line
from geoguesser.system.received_files import read_json, refuse_link
from geoguesser.system.tables import read_csv

STATUS, CONFIG = "status.json", "config.yaml"
RESULT_PARTS = ("test", "val", "times", "data")
REQUIRED_COLUMNS = ("uuid", "latitude", "longitude", "true_latitude", "true_longitude", "error_km")
DATE_OR_TIME = re.compile(r"[\d-]+$")
ReadConfig = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """Finished run.

    Attributes:
        name: Short name without the folders of the user's machine, for example `run1` or `sweep/3`.
        config: Resolved config.
        result: Content of result.json.
        history: Content of metrics.csv.
        predictions: Content of predictions_test.csv: a row per test place, with unique uuids.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def fold(self) -> int | None:
        """Fold that was tested; None for a split without folds."""
        fold = (self.config.get("split") or {}).get("fold")
        return None if fold is None else int(fold)

    @property
    def folds(self) -> int | None:
        """Number of folds; None for a split without folds."""
        folds = (self.config.get("split") or {}).get("folds")
        return None if self.fold is None or folds is None else int(folds)


@dataclass(frozen=True)
class UnusedRun:
    """Run that is not compared; its state is failed, running, interrupted, unreadable, or repeat."""

    name: str
    state: str
    reason: str = ""


def read_runs(paths: Sequence[str], read_config: ReadConfig) -> tuple[list[Run], list[UnusedRun]]:
    """Reads run folders, and all runs in sweep folders.

    Args:
        paths: Run folders, and folders that contain run folders.
        read_config: Reader of a config.yaml, which may raise ValueError or OSError.

    Returns:
        The finished runs, in the order of the paths and of their names; and the other runs.

    Raises:
        MissingFileError: An argument is not a folder, or contains no run.
        DataError: No run is finished.
    """
    runs: list[Run] = []
    unused: list[UnusedRun] = []
    for name, folder in _name_folders(paths):
        try:
            state = _read_state(folder)
            if state is None:
                runs.append(_read_run(name, folder, read_config))
            else:
                unused.append(UnusedRun(name, *state))
        except (OSError, ValueError, KeyError) as error:
            reason = str(error) if isinstance(error, GeoguesserError) else first_line(error)
            unused.append(UnusedRun(name, "unreadable", reason.replace(str(folder), name)))

    if not runs:
        states = "; ".join(f"{run.name} is {run.state} ({run.reason})".replace(" ()", "") for run in unused)
        raise DataError.at("The runs to compare", f"must hold one that is done, but {states}")
    return runs, unused


def read_run(path: str, read_config: ReadConfig) -> Run:
    """Reads one run folder, with a `read_config` as in `read_runs`.

    Raises:
        MissingFileError: The folder is not a run folder.
        DataError: The run is not finished, or its files cannot be read.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir() or not is_run(folder):
        raise MissingFileError.at(f"run={path}", "must be a run folder", remedy="Runs are in outputs/DATE/TIME.")

    try:
        state = _read_state(folder)
        if state is None:
            ((name, resolved),) = _name_folders([path])
            return _read_run(name, resolved, read_config)
    except GeoguesserError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise DataError.at(f"run={path}", f"must be readable ({first_line(error)})") from error
    raise DataError.at(f"run={path}", "must be a run that is done", found=": ".join(filter(None, state)))


def is_run(folder: Path) -> bool:
    """Returns whether a folder has the state or the config of a run."""
    return (folder / STATUS).is_file() or (folder / CONFIG).is_file()


def _name_folders(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """Returns each run folder once, with a unique short name."""
    names: dict[Path, str] = {}
    for path in paths:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            remedy = "Runs are in outputs/DATE/TIME."
            raise MissingFileError.at(path, "must be a run folder, or a sweep's", remedy=remedy)

        resolved = folder.resolve()
        if is_run(folder):
            # A time is a name only together with its date.
            parent = resolved.parent.name
            is_dated = DATE_OR_TIME.fullmatch(resolved.name) and DATE_OR_TIME.fullmatch(parent)
            names.setdefault(resolved, f"{parent}/{resolved.name}" if is_dated else resolved.name)
            continue

        jobs = sorted((job for job in resolved.iterdir() if job.is_dir() and is_run(job)), key=_sort_by_number)
        if not jobs:
            rule = f"must be a run folder with {STATUS}, or hold such folders"
            remedy = "Runs are in outputs/DATE/TIME, sweeps in multirun/NAME."
            raise MissingFileError.at(path, rule, remedy=remedy)
        for job in jobs:
            names.setdefault(job, f"{resolved.name}/{job.name}")
    return list(zip(_make_unique(list(names), list(names.values())), names, strict=True))


def _sort_by_number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdecimal() else (-1, path.name)


def _make_unique(folders: list[Path], names: list[str]) -> list[str]:
    """Adds parent folders to names that are shared, one at a time, until all names are unique."""
    while len(set(names)) < len(names):
        longer = []
        for folder, name in zip(folders, names, strict=True):
            parts, length = folder.parts[1:], name.count("/") + 2
            can_grow = names.count(name) > 1 and length <= len(parts)
            longer.append("/".join(parts[-length:]) if can_grow else name)
        if longer == names:
            break
        names = longer
    return names


def _read_state(folder: Path) -> tuple[str, str] | None:
    """Returns state and reason of a run that is not finished; None for a finished run."""
    if folder.is_symlink():
        return "unreadable", "it is a link to another folder"
    file = folder / STATUS
    if not file.is_file():
        return "unreadable", f"it has no {STATUS}"

    status = read_json(file)
    if not isinstance(status, dict) or "state" not in status:
        return "unreadable", f"its {STATUS} has no state"
    state = str(status["state"])
    return None if state == "done" else (state, str(status.get("error", "")))


def _read_run(name: str, folder: Path, read_config: ReadConfig) -> Run:
    result = read_json(folder / "result.json")
    if not isinstance(result, dict) or result.get("format") != 1:
        raise DataError.at(f"{name}/result.json", "must be of format 1", found=dict(result).get("format"))
    for part in RESULT_PARTS:
        if part not in result:
            raise DataError.at(f"{name}/result.json", f"must have the part {part}")

    # Ids such as `007` and `NA` stay as they are.
    file = refuse_link(folder / "predictions_test.csv")
    predictions = read_csv(file, dtype={"uuid": str}, keep_default_na=False)
    where = f"{name}/predictions_test.csv"
    missing = [column for column in REQUIRED_COLUMNS if column not in predictions]
    if missing:
        raise DataError.at(where, f"must have the column {missing[0]}")
    repeated = predictions["uuid"][predictions["uuid"].duplicated()]
    if len(repeated):
        raise DataError.at(where, "must name each place once", found=repeated.iloc[0])

    history = read_csv(refuse_link(folder / "metrics.csv"))
    return Run(name, folder, read_config(folder / CONFIG), result, history, predictions)
