"""One command that sweeps: what begins before its first job and what is said after its last.

Hydra tells of the beginning by a callback. It does not tell of the end where a job's process was killed, or
Ctrl-C was pressed: so the entry point asks for it, whatever happened.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from geoguesser.errors import ConfigError, first_line
from geoguesser.sweeps.folder import COMMAND_VARIABLE, SweepFolder, get_group

log = logging.getLogger(__name__)

_begun: list[tuple[SweepFolder, str]] = []  # at most one: the sweep of this process, and its name


class SweepStart(Callback):
    """Hydra's callback at the start of a multirun."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begins the command in the sweep's folder; a search takes up its earlier trials.

        An error ends the program here, for Hydra makes a warning of what a callback raises.
        """
        try:
            name = check_sweep_name(config.sweep.name)
            folder = Path(str(config.hydra.sweep.dir)).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            _begun[:] = [(SweepFolder.begin(folder), name)]
            if config.hydra.sweeper.get("storage"):
                resume_optuna_study(config.hydra.sweeper)
        except (ConfigError, OSError) as error:
            sys.exit(f"error: {error}")


def check_sweep_name(name: Any) -> str:
    """Returns `sweep.name` where it is a folder's name, or several, below multirun/.

    Raises:
        ConfigError: It is not.
    """
    text = str(name)
    parts = text.split("/")
    if name is None or any(part in ("", ".", "..") for part in parts) or "\\" in text or not text.isprintable():
        raise ConfigError.at("sweep.name", "must be a folder's name below multirun/", found=name)
    return text


def resume_optuna_study(sweeper: DictConfig) -> None:
    """Makes `n_trials` count the whole search, not only what this command adds to it.

    The sampler's seed moves on as well: with the same one it would ask again what it asked first.

    Args:
        sweeper: Hydra's node of Optuna's sweeper, with a storage.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # plugins that it has, one line for each
    known = {study.study_name: study for study in optuna.get_all_study_summaries(sweeper.storage)}
    if sweeper.study_name not in known:
        return
    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    asked = len(study.trials)
    done = sum(trial.state.is_finished() for trial in study.trials)
    with read_write(sweeper):
        wanted = int(sweeper.n_trials)
        sweeper.n_trials = max(0, wanted - done)
        if OmegaConf.select(sweeper, "sampler.seed") is not None:
            sweeper.sampler.seed += asked
    log.info("%d of %d trials are done: %d to go", done, wanted, sweeper.n_trials)


def finish_sweep() -> int:
    """Writes the summary of the sweep that this process began, and says what failed.

    Returns:
        0 where every job is done, 1 where one failed, did not end, or did not begin; 0 as well where there was
        no sweep.
    """
    if not _begun:
        return 0
    from geoguesser.sweeps.summary import Summary

    sweep, name = _begun.pop()
    os.environ.pop(COMMAND_VARIABLE, None)
    summary = Summary.of(sweep)
    try:
        summary.write()
    except OSError as error:  # a full disk must not hide what the jobs came to
        print(f"error: the summary cannot be written: {first_line(error)}", file=sys.stderr)  # noqa: T201
    summary.show()
    missing = summary.missing
    if missing:
        named = get_group(sweep.path, name) == name
        again = f"sweep.name={name}" if named else f"hydra.sweep.dir={sweep.path}"
        print(f"The same command with {again} runs what is missing.", file=sys.stderr)  # noqa: T201
    return 1 if missing else 0
