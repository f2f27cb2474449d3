"""Summary of a sweep: summary.csv, summary.png and a table in the terminal, over all jobs of its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from geoguesser.commands.configs import HEAD_GROUPS
from geoguesser.errors import DataError
from geoguesser.reporting.run.sweep_plot import draw_sweep, shorten_label
from geoguesser.reporting.terminal import TextConsole
from geoguesser.runs.config_history import update_override
from geoguesser.sweeps.folder import SweepFolder, is_running, read_state
from geoguesser.system.files import write_csv
from geoguesser.system.received_files import read_json, read_yaml

# Column -> path of the value in result.json.
RESULT_COLUMNS = {
    "val_error_km_mean": ("val", "error_km_mean"),
    "test_error_km_mean": ("test", "error_km_mean"),
    "test_error_km_median": ("test", "error_km_median"),
    "test_error_km_p90": ("test", "error_km_p90"),
    "test_score_mean": ("test", "score_mean"),
    "epochs": ("epochs",),
    "seconds": ("times", "total_s"),
}
# Columns of the table besides those of varied keys.
COLUMNS = ("job", "state", *RESULT_COLUMNS, "error")
# Group -> the group whose keys its choices set.
GROUP_ALIASES = {"density": "grid"}
MAX_ROWS = 40
UNFINISHED_OUTCOMES = ("failed", "interrupted")


@dataclass(frozen=True)
class Summary:
    """Jobs of a sweep.

    Attributes:
        table: Row per job, by validation error: job, state, a column per varied key, results, error message.
        varied: Keys that differ between jobs, in the order of the command line.
        outcomes: Records of the jobs of the command that ends here, by job number.
    """

    sweep: SweepFolder
    table: pd.DataFrame
    varied: list[str]
    outcomes: list[dict[str, Any]]

    @classmethod
    def read(cls, sweep: SweepFolder) -> Summary:
        """Reads the folders of all jobs, of this command and earlier ones."""
        jobs = [_read_job(folder) for folder in sweep.jobs()]
        keys = dict.fromkeys(key for job in jobs for key in job["overrides"])
        varied = []
        for key in keys:
            values = {job["overrides"].get(key, "") for job in jobs if _is_used(key, job["used"])}
            if len(values) > 1:
                varied.append(key)

        rows = [
            {
                **job,
                **{key: job["overrides"].get(key, "") for key in varied},
                **{name: _get_number(job["result"], path) for name, path in RESULT_COLUMNS.items()},
            }
            for job in jobs
        ]
        table = pd.DataFrame(rows, columns=["job", "state", *varied, *RESULT_COLUMNS, "error"])
        table["epochs"] = table["epochs"].astype("Int64")
        # Jobs without a result come last.
        table = table.sort_values(["val_error_km_mean", "job"], ignore_index=True)
        return cls(sweep, table, varied, sweep.outcomes())

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """Records of the command's jobs that failed or did not end."""
        return [record for record in self.outcomes if record["outcome"] in UNFINISHED_OUTCOMES]

    def write(self) -> None:
        """Writes summary.csv, and summary.png if a job has a result."""
        write_csv(self.sweep.path / "summary.csv", self.table, for_people=True)
        finished = self.table[self.table["val_error_km_mean"].notna()]
        if len(finished):
            path, title = self.sweep.path / "summary.png", f"Sweep {self.sweep.path.name}"
            left_out = len(self.table) - len(finished)
            draw_sweep(path, table=finished, varied=self.varied, left_out=left_out, title=title)

    def show(self) -> None:
        """Prints the table, then duplicates and, to stderr, the jobs that failed."""
        console = _make_console(stderr=False)
        if len(self.table):
            console.print(_make_terminal_table(self.table, self.varied))
        if len(self.table) > MAX_ROWS:
            console.print(f"and {len(self.table) - MAX_ROWS} more in summary.csv", markup=False)
        console.print(f"Sweep folder: {self.sweep.path}: {_format_counts(self.outcomes)}", markup=False)

        twins = {record["job"]: record for record in self.outcomes if record["outcome"] != "duplicate"}
        for record in self.outcomes:
            if record["outcome"] == "duplicate":
                twin = twins.get(record["job"])
                same = f"#{twin['number']}" if twin else "a job that another process runs"
                words = self._format_overrides(record)
                console.print(f"  #{record['number']} ({words}) is the same as {same}", markup=False)

        errors = _make_console(stderr=True)
        if self.unfinished:
            errors.print(f"{len(self.unfinished)} of the jobs failed or did not end:", markup=False)
        for record in self.unfinished:
            reason = record.get("error") or record["outcome"]
            words = self._format_overrides(record)
            errors.print(f"  #{record['number']} {record['job']} ({words}): {reason}", markup=False)

    def _format_overrides(self, record: dict[str, Any]) -> str:
        """Returns the overrides that distinguish a job from the others."""
        words = [word for word in record["overrides"] if _get_key(word) in self.varied]
        return " ".join(words or record["overrides"]) or "no overrides"


def _make_console(*, stderr: bool) -> Console:
    """Makes a console that breaks no lines; files and pipes get lines as wide as the table."""
    width = None if Console(stderr=stderr).is_terminal else 160
    return TextConsole(stderr=stderr, width=width)


def _get_key(override: str) -> str:
    """Returns the key of an override, which is also its column; a key such as epochs is no result of that name."""
    key = override.partition("=")[0].lstrip("+~")
    return f"{key} (override)" if key in COLUMNS else key


def _read_job(folder: Path) -> dict[str, Any]:
    """Reads state, overrides, used groups, result and error message of a job from its folder.

    Files that are absent or cannot be read count as empty.
    """
    state = read_state(folder)
    if state == "running" and not is_running(folder):
        state = "interrupted"

    config = _read(read_yaml, folder / "config.yaml", dict)
    used = {update_override(str(key)) for key in config} or None
    words = _read(read_yaml, folder / ".hydra" / "overrides.yaml", list)
    pairs = (update_override(str(word)).partition("=") for word in words)
    overrides = {_get_key(key): value for key, _, value in pairs if not _get_key(key).startswith("sweep")}

    status = _read(read_json, folder / "status.json", dict) if state == "failed" else {}
    return {
        "job": folder.name,
        "state": state,
        "overrides": {key: value for key, value in overrides.items() if _is_used(key, used)},
        "used": used,
        "result": _read(read_json, folder / "result.json", dict) if state == "done" else {},
        "error": " ".join(str(status.get("error", "")).split()),
    }


def _read(read: Callable[[Path], Any], file: Path, kind: type[Any]) -> Any:
    """Returns the content of a file, or an empty `kind` if the file is absent, damaged or of another kind."""
    try:
        content = read(file)
    except (OSError, DataError):
        return kind()
    return content if isinstance(content, kind) else kind()


def _is_used(key: str, used: set[str] | None) -> bool:
    """Returns False if a key belongs to a group that the job's head does not use; None: unknown, so it may."""
    top = key.partition(".")[0]
    group = GROUP_ALIASES.get(top, top)
    return used is None or group not in HEAD_GROUPS or group in used


def _get_number(result: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = result
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _make_terminal_table(table: pd.DataFrame, varied: list[str]) -> Table:
    terminal_table = Table(title="Jobs by validation error", title_justify="left")
    numbers = ("validation km", "test km", "median", "seconds")
    for column in (*varied, *numbers, "job"):
        terminal_table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)

    for row in table.head(MAX_ROWS).to_dict("records"):
        errors_km = (row[name] for name in ("val_error_km_mean", "test_error_km_mean", "test_error_km_median"))
        errors = ["" if pd.isna(error_km) else f"{error_km:.1f}" for error_km in errors_km]
        seconds = "" if pd.isna(row["seconds"]) else f"{row['seconds']:.0f}"
        job = str(row["job"]) + ("" if row["state"] == "done" else f" {row['state']}")
        terminal_table.add_row(*(shorten_label(row[key]) for key in varied), *errors, seconds, job)
    return terminal_table


def _format_counts(outcomes: list[dict[str, Any]]) -> str:
    """Returns the number of jobs by outcome, as in `4 done, 6 done before, 2 failed`."""
    words = {"kept": "done before", "duplicate": "duplicates"}
    names = [record["outcome"] for record in outcomes]
    order = ("done", "kept", "duplicate", "failed", "interrupted", "running")
    counts = [f"{names.count(name)} {words.get(name, name)}" for name in order if name in names]
    return ", ".join(counts) or "no job began"
