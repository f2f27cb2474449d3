"""Folder of a sweep: its jobs, and the outcome of each job in each command.

.commands/ID.json            a command: its start time, and the process that runs it
.commands/ID/HASH.json       outcome of a job in that command; "running" until it ends
.commands/ID/HASH.NUM.json   a job that equals another job of the command

Each job writes files of its own, so that any number of processes on any number of nodes can work at once. Entry
points import this module, so it imports nothing heavy.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoguesser.runs.config_keys import remove_secrets
from geoguesser.system.files import write_json
from geoguesser.system.locks import FileLock
from geoguesser.system.received_files import is_plain_name, read_json

# Environment variable: id of the command that a job belongs to, in all of its processes.
COMMAND_VARIABLE = "GEOGUESSER_SWEEP_COMMAND"
# Files that stay if a job starts again. The sweep recognises a job by its recorded config.
KEPT_NAMES = (".hydra", ".lock", "config.yaml", "train.log", "error.log", "wandb", "tensorboard")


class SweepFolder:
    """Folder of a sweep, which may be missing, as used by the environment's command, or else by the latest one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        commands = sorted(file.stem for file in (path / ".commands").glob("*.json"))
        self.command = os.environ.get(COMMAND_VARIABLE) or (commands[-1] if commands else "0")

    @classmethod
    def begin(cls, path: Path) -> SweepFolder:
        """Starts a command in a sweep, to which the jobs of this process and its children then belong."""
        command = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        os.environ[COMMAND_VARIABLE] = command
        sweep = cls(path)
        sweep._outcome_folder.mkdir(parents=True, exist_ok=True)
        start = {"began": time.time(), "process": os.getpid()}
        write_json(path / ".commands" / f"{command}.json", start, indent=1)
        return sweep

    @property
    def _outcome_folder(self) -> Path:
        return self.path / ".commands" / self.command

    def record(self, job: str, outcome: str, *, number: int, overrides: list[str], **more: Any) -> None:
        """Records the outcome of a job in this command, with further plain values.

        `job` is the name of its folder. Outcomes are running, done, kept (done before this command), failed,
        interrupted and duplicate.
        """
        self._outcome_folder.mkdir(parents=True, exist_ok=True)
        name = f"{job}.{number}" if outcome == "duplicate" else job
        record = {"job": job, "outcome": outcome, "number": number, "overrides": remove_secrets(overrides), **more}
        write_json(self._outcome_folder / f"{name}.json", record, indent=1)

    def find_outcome(self, job: str) -> dict[str, Any] | None:
        """Returns the record of a job in this command, or None."""
        try:
            return read_json(self._outcome_folder / f"{job}.json")
        except FileNotFoundError:
            return None

    def outcomes(self) -> list[dict[str, Any]]:
        """Returns all records of this command by job number; a job whose process died is interrupted."""
        records = [read_json(path) for path in self._outcome_folder.glob("*.json")]
        records = [record for record in records if is_plain_name(record["job"])]
        for record in records:
            if record["outcome"] == "running" and not is_running(self.path / record["job"]):
                record["outcome"] = "interrupted"
        return sorted(records, key=lambda record: record["number"])

    def jobs(self) -> list[Path]:
        """Returns the folders of the jobs of all commands."""
        return sorted(path.parent for path in self.path.glob("*/status.json"))


def get_group(sweep: Path, name: str) -> str:
    """Returns the name of a sweep for loggers: `sweep.name`, or the folder's name with `hydra.sweep.dir`."""
    parts = Path(name).parts
    return name if sweep.parts[-len(parts) :] == parts else sweep.name


@contextmanager
def hold_folder(folder: Path) -> Iterator[bool]:
    """Holds the lock of a job's folder until the process ends; yields False if another process holds it."""
    lock = FileLock(folder / ".lock")
    try:
        yield lock.try_acquire()
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Returns True if a process works in a job's folder."""
    if not (folder / ".lock").exists():
        return False
    with hold_folder(folder) as is_free:
        return not is_free


def read_state(folder: Path) -> str:
    """Returns the state of a run folder: done, failed, interrupted, running, or none if there is no run."""
    try:
        return str(read_json(folder / "status.json")["state"])
    except FileNotFoundError:
        return "none"
    except (ValueError, KeyError, TypeError):
        # The process was killed while it wrote the file.
        return "interrupted"


def clear_folder(folder: Path) -> None:
    """Removes the results of a job that starts again; logs and records of trackers stay."""
    for path in folder.iterdir():
        if path.name in KEPT_NAMES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
