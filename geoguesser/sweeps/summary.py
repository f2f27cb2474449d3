"""What a sweep came to: summary.csv and summary.png over all jobs of its folder, and a table in the terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from geoguesser.commands.configs import HEAD_GROUPS
from geoguesser.reporting.run.sweep_plot import draw_sweep, shorten_label
from geoguesser.runs.config_history import update_override
from geoguesser.sweeps.folder import SweepFolder, is_running, read_state
from geoguesser.system.files import write_csv

RESULT_COLUMNS = {  # column -> where result.json has it
    "val_error_km_mean": ("val", "error_km_mean"),
    "test_error_km_mean": ("test", "error_km_mean"),
    "test_error_km_median": ("test", "error_km_median"),
    "test_error_km_p90": ("test", "error_km_p90"),
    "test_score_mean": ("test", "score_mean"),
    "epochs": ("epochs",),
    "seconds": ("times", "total_s"),
}
GROUP_ALIASES = {"density": "grid"}  # a group whose choices speak of another one
MAX_ROWS = 40
UNFINISHED_OUTCOMES = ("failed", "interrupted")


@dataclass(frozen=True)
class Summary:
    """All jobs of a sweep.

    Attributes:
        sweep: Its folder.
        table: One row per job, by validation error: job, state, a column for each key that varies, the figures,
            and what went wrong.
        varied: The keys that vary, in the order of the command line.
        outcomes: What the command that ends here came to, by job number.
    """

    sweep: SweepFolder
    table: pd.DataFrame
    varied: list[str]
    outcomes: list[dict[str, Any]]

    @classmethod
    def of(cls, sweep: SweepFolder) -> Summary:
        """Reads the folders of all jobs, of this command and earlier ones."""
        jobs = [_job(folder) for folder in sweep.jobs()]
        keys = list(dict.fromkeys(key for job in jobs for key in job["asked"]))
        varied = [
            key
            for key in keys
            if len({job["asked"].get(key, "") for job in jobs if _counts(key, job["used"])}) > 1
        ]
        rows = [
            {
                "job": job["job"],
                "state": job["state"],
                **{key: job["asked"].get(key, "") for key in varied},
                **{name: _at(job["result"], path) for name, path in RESULT_COLUMNS.items()},
                "error": job["error"],
            }
            for job in jobs
        ]
        table = pd.DataFrame(rows, columns=["job", "state", *varied, *RESULT_COLUMNS, "error"])
        table["epochs"] = table["epochs"].astype("Int64")
        table = table.sort_values(["val_error_km_mean", "job"], ignore_index=True)  # what has none comes last
        return cls(sweep, table, varied, sweep.outcomes())

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The command's jobs that came to nothing."""
        return [one for one in self.outcomes if one["outcome"] in UNFINISHED_OUTCOMES]

    def write(self) -> None:
        """Writes summary.csv, and summary.png where a job has a figure.

        Raises:
            OSError: The disk is full, or the like.
        """
        write_csv(self.sweep.path / "summary.csv", self.table)
        done = self.table[self.table["val_error_km_mean"].notna()]
        if len(done):
            left_out = len(self.table) - len(done)
            draw_sweep(
                self.sweep.path / "summary.png",
                table=done,
                varied=self.varied,
                left_out=left_out,
                title=f"Sweep {self.sweep.path.name}",
            )

    def show(self) -> None:
        """Prints the table, then what was the same, and what failed."""
        console = _console(stderr=False)
        if len(self.table):
            console.print(_terminal_table(self.table, self.varied))
        more = len(self.table) - MAX_ROWS
        if more > 0:
            console.print(f"and {more} more in summary.csv", markup=False)
        console.print(f"Sweep folder: {self.sweep.path}: {_counted(self.outcomes)}", markup=False)
        first = {one["job"]: one for one in self.outcomes if one["outcome"] != "duplicate"}
        for one in self.outcomes:
            if one["outcome"] == "duplicate":
                twin = first.get(one["job"])
                same = f"#{twin['number']}" if twin else "a job that another process runs"
                console.print(f"  #{one['number']} ({self._words(one)}) is the same as {same}", markup=False)
        errors = _console(stderr=True)
        if self.missing:
            errors.print(f"{len(self.missing)} of the jobs failed or did not end:", markup=False)
        for one in self.missing:
            said = one.get("error") or one["outcome"]
            errors.print(f"  #{one['number']} {one['job']} ({self._words(one)}): {said}", markup=False)

    def _words(self, one: dict[str, Any]) -> str:
        """What tells a job from the others."""
        words = [word for word in one["overrides"] if _key(word) in self.varied]
        return " ".join(words or one["overrides"]) or "no overrides"


def _console(*, stderr: bool) -> Console:
    """The terminal; a file or a pipe takes lines as wide as the table."""
    found = Console(stderr=stderr, soft_wrap=True, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, soft_wrap=True, highlight=False, width=160)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _job(folder: Path) -> dict[str, Any]:
    """What a job's folder says of it."""
    state = read_state(folder)
    if state == "running" and not is_running(folder):
        state = "interrupted"
    config = OmegaConf.load(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
    used = None if config is None else {update_override(str(key)) for key in config}
    result = json.loads((folder / "result.json").read_text(encoding="utf-8")) if state == "done" else {}
    status = json.loads((folder / "status.json").read_text(encoding="utf-8")) if state == "failed" else {}
    return {
        "job": folder.name,
        "state": state,
        "asked": _asked(folder, used),
        "used": used,
        "result": result,
        "error": " ".join(str(status.get("error", "")).split()),
    }


def _asked(folder: Path, used: set[str] | None) -> dict[str, str]:
    """What the job was asked for by, key by key, without what its head does not use."""
    path = folder / ".hydra" / "overrides.yaml"
    words = [update_override(str(word)) for word in OmegaConf.load(path)] if path.is_file() else []
    asked = {_key(word): word.partition("=")[2] for word in words}
    return {key: value for key, value in asked.items() if _counts(key, used) and not key.startswith("sweep")}


def _counts(key: str, used: set[str] | None) -> bool:
    """Whether a job's head uses what a key says; of a job that has no config, nobody knows that it does not."""
    top = key.split(".", maxsplit=1)[0]
    group = GROUP_ALIASES.get(top, top)
    return used is None or group not in HEAD_GROUPS or group in used


def _at(result: dict[str, Any], path: tuple[str, ...]) -> float | None:
    found: Any = result
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return None if found is None else float(found)


def _terminal_table(table: pd.DataFrame, varied: list[str]) -> Table:
    shown = Table(title="Jobs by validation error", title_justify="left")
    for key in varied:
        shown.add_column(key, no_wrap=True)
    for column in ("validation km", "test km", "median", "seconds"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("job", no_wrap=True)
    for row in table.head(MAX_ROWS).to_dict("records"):
        figures = (row[name] for name in ("val_error_km_mean", "test_error_km_mean", "test_error_km_median"))
        words = ["" if pd.isna(value) else f"{value:.1f}" for value in figures]
        seconds = "" if pd.isna(row["seconds"]) else f"{row['seconds']:.0f}"
        job = str(row["job"]) + ("" if row["state"] == "done" else f" {row['state']}")
        shown.add_row(*(shorten_label(row[key]) for key in varied), *words, seconds, job)
    return shown


def _counted(outcomes: list[dict[str, Any]]) -> str:
    names = {"done": "done", "kept": "done before", "duplicate": "duplicates", "failed": "failed"}
    names |= {"interrupted": "interrupted", "running": "running"}
    counts = {word: sum(one["outcome"] == name for one in outcomes) for name, word in names.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no job began"
