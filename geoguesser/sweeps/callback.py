"""Start and end of a command that sweeps.

Hydra reports the start by a callback. It does not report the end if the process of a job was killed or Ctrl-C was
pressed, so the entry point always calls `finish_sweep`.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from geoguesser.errors import ConfigError, GeoguesserError, first_line
from geoguesser.sweeps.folder import COMMAND_VARIABLE, SweepFolder, get_group
from geoguesser.system.files import refuse_links
from geoguesser.system.secret_values import format_for_terminal

log = logging.getLogger(__name__)

# The sweep of this process and its name; at most one.
_started: list[tuple[SweepFolder, str]] = []


class SweepStart(Callback):
    """Callback of Hydra at the start of a run or multirun, before Hydra itself writes to the folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuses a run folder with links, which a resume would write through."""
        try:
            refuse_links(Path(str(config.hydra.run.dir)).absolute())
        except GeoguesserError as error:
            sys.exit(format_for_terminal(f"error: {error}"))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Starts the command in the sweep's folder, and continues the study of an earlier search."""
        try:
            name = check_sweep_name(config.sweep.name)
            folder = Path(str(config.hydra.sweep.dir)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder)
            _started[:] = [(SweepFolder.begin(folder), name)]
            rename_submitit_folder(config.hydra.launcher)
            if config.hydra.sweeper.get("storage"):
                resume_optuna_study(config.hydra.sweeper)
        except (GeoguesserError, OSError) as error:
            # Hydra turns exceptions of a callback into warnings, so that only an exit ends the command.
            sys.exit(format_for_terminal(f"error: {error}"))


def rename_submitit_folder(launcher: DictConfig) -> None:
    """Gives the files of submitit's jobs a folder with a random name, in place.

    submitit unpickles results from it. In a sweep of somebody else, results may lie under the number of a job.
    """
    folder = launcher.get("submitit_folder")
    if folder is not None:
        with read_write(launcher):
            launcher.submitit_folder = str(folder).replace("%j", f"{secrets.token_hex(8)}/%j")


def check_sweep_name(name: Any) -> str:
    """Returns `sweep.name` if it is a path of one or more folders below multirun/."""
    text = str(name)
    parts = text.split("/")
    if name is None or any(part in ("", ".", "..") for part in parts) or "\\" in text or not text.isprintable():
        raise ConfigError.at("sweep.name", "must be a folder's name below multirun/", found=name)
    return text


def resume_optuna_study(sweeper: DictConfig) -> None:
    """Makes `n_trials` count the trials of earlier commands, and moves the sampler's seed on.

    With the same seed the sampler would suggest its first values again. The node `sweeper` is changed in place.
    """
    import optuna

    # Alembic logs a line for each of its plugins.
    optuna.logging.set_verbosity(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    studies = {study.study_name for study in optuna.get_all_study_summaries(sweeper.storage)}
    if sweeper.study_name not in studies:
        return
    trials = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage).trials
    finished = sum(trial.state.is_finished() for trial in trials)

    with read_write(sweeper):
        requested = int(sweeper.n_trials)
        sweeper.n_trials = max(0, requested - finished)
        if OmegaConf.select(sweeper, "sampler.seed") is not None:
            sweeper.sampler.seed += len(trials)
    log.info("%d of %d trials are done: %d to go", finished, requested, sweeper.n_trials)


def finish_sweep() -> int:
    """Writes and prints the summary of the sweep of this process; returns 1 if a job failed or did not end."""
    if not _started:
        return 0
    from geoguesser.sweeps.summary import Summary

    sweep, name = _started.pop()
    os.environ.pop(COMMAND_VARIABLE, None)
    summary = Summary.read(sweep)
    try:
        summary.write()
    except OSError as error:
        # A full disk must not hide the outcomes.
        print(f"error: the summary cannot be written: {first_line(error)}", file=sys.stderr)  # noqa: T201
    summary.show()

    if not summary.unfinished:
        return 0
    option = f"sweep.name={name}" if get_group(sweep.path, name) == name else f"hydra.sweep.dir={sweep.path}"
    print(f"The same command with {option} runs the missing jobs.", file=sys.stderr)  # noqa: T201
    return 1
