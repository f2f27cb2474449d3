"""A sweep's folder on disk: what each command came to in it, and which jobs it holds already.

.commands/ID.json            a command: when it began, and the process that runs it
.commands/ID/HASH.json       what a job came to in it; "running" until it ends
.commands/ID/HASH.NUM.json   a job that was the same as another one of the command

Jobs write files of their own, so any number of processes, on any number of nodes, can work at once.
Imports nothing heavy, for the entry point has it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoguesser.system.files import write_json
from geoguesser.system.locks import FileLock

COMMAND_VARIABLE = (
    "GEOGUESSER_SWEEP_COMMAND"  # environment: which command a job belongs to, in whatever process it runs
)
# Files that stay when a job starts again. The recorded config stays, for the sweep recognises the job by it.
KEPT_NAMES = (".hydra", ".lock", "config.yaml", "train.log", "error.log", "wandb", "tensorboard")


class SweepFolder:
    """The folder of a sweep as one command sees it.

    Args:
        path: It may be missing.
        command: The command's id; None for that of the environment.
    """

    def __init__(self, path: Path, command: str | None = None) -> None:
        self.path = path
        self.command = command or os.environ.get(COMMAND_VARIABLE) or self._latest()

    def _latest(self) -> str:
        commands = sorted((self.path / ".commands").glob("*.json"))
        return commands[-1].stem if commands else "0"

    @classmethod
    def begin(cls, path: Path) -> SweepFolder:
        """Begins a command in a sweep; jobs of processes that start from here on belong to it."""
        command = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        os.environ[COMMAND_VARIABLE] = command
        sweep = cls(path, command)
        sweep._outcomes.mkdir(parents=True, exist_ok=True)
        began = {"began": time.time(), "process": os.getpid()}
        write_json(path / ".commands" / f"{command}.json", began, indent=1)
        return sweep

    @property
    def _outcomes(self) -> Path:
        return self.path / ".commands" / self.command

    def record(self, job: str, outcome: str, *, number: int, overrides: list[str], **more: Any) -> None:
        """Says what a job came to in this command.

        Args:
            job: The name of its folder.
            outcome: running, done, kept (it was done already), failed, interrupted or duplicate.
            number: The job's number in the command.
            overrides: What it was asked for by.
            more: Plain values.
        """
        self._outcomes.mkdir(parents=True, exist_ok=True)
        name = f"{job}.{number}" if outcome == "duplicate" else job
        said = {"job": job, "outcome": outcome, "number": number, "overrides": overrides, **more}
        write_json(self._outcomes / f"{name}.json", said, indent=1)

    def met(self, job: str) -> dict[str, Any] | None:
        """What this command recorded of a job, or None."""
        try:
            return _read(self._outcomes / f"{job}.json")
        except FileNotFoundError:
            return None

    def outcomes(self) -> list[dict[str, Any]]:
        """All that this command recorded, by the jobs' numbers; a job whose process died counts as interrupted."""
        found = [_read(path) for path in self._outcomes.glob("*.json")]
        for one in found:
            if one["outcome"] == "running" and not is_running(self.path / one["job"]):
                one["outcome"] = "interrupted"
        return sorted(found, key=lambda one: one["number"])

    def jobs(self) -> list[Path]:
        """The folders of all jobs, of whatever command."""
        return sorted(path.parent for path in self.path.glob("*/status.json"))


def get_group(sweep: Path, name: str) -> str:
    """The sweep's name, for services: `sweep.name`, or the folder's own where `hydra.sweep.dir` was given."""
    wanted = Path(name).parts
    return name if sweep.parts[-len(wanted) :] == wanted else sweep.name


@contextmanager
def hold_folder(folder: Path) -> Iterator[bool]:
    """Holds the right to work in a job's folder, until the process ends or dies.

    Args:
        folder: It is there.

    Yields:
        False where another process holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        yield lock.try_acquire()
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Whether a process works in a job's folder."""
    if not (folder / ".lock").exists():
        return False
    with hold_folder(folder) as free:
        return not free


def read_state(folder: Path) -> str:
    """What status.json says of a run folder: done, failed, interrupted or running; none where there was no run."""
    try:
        return str(_read(folder / "status.json")["state"])
    except FileNotFoundError:
        return "none"
    except (ValueError, KeyError, TypeError):  # its process was killed while it wrote
        return "interrupted"


def clear_folder(folder: Path) -> None:
    """Removes what a job left that is done again; logs and records of services stay."""
    for path in folder.iterdir():
        if path.name in KEPT_NAMES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
