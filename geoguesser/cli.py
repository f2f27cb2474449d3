"""What all entry points share: Hydra around a task, and errors that the user can read. Imports only Hydra."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from geoguesser.commands.configs import conf_dir
from geoguesser.errors import ConfigError, GeoguesserError, first_line
from geoguesser.sweeps.job_name import register_resolver

log = logging.getLogger(__name__)
register_resolver()  # wherever a job's task is, so is the name of its folder


def launch(config_name: str, task: Callable[[DictConfig, Path], Any]) -> None:
    """Composes the config and runs the task; ends the process with 1 where it (or any job) failed.

    A `GeoguesserError` is printed without a traceback. In a multirun a failing job is logged in its own
    folder, with its traceback, and the rest run on.

    Args:
        config_name: The primary config in conf/.
        task: Takes the config and the run folder.
    """
    failed: list[str] = []

    @hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)
    def app(cfg: DictConfig) -> Any:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        try:
            return task(cfg, folder)
        except KeyboardInterrupt:
            if settings.mode is not RunMode.RUN:
                raise
            sys.exit(130)  # as shells have it: 128 and the number of SIGINT
        except Exception as error:
            known = isinstance(error, GeoguesserError)
            if settings.mode is RunMode.RUN and not known:
                raise
            _explain(error, folder)
            if settings.mode is RunMode.RUN:
                sys.exit(1)
            overrides = " ".join(settings.overrides.task)
            failed.append(f"{folder.name} ({overrides}): {type(error).__name__}: {first_line(error)}")
            return None

    try:
        check_choices(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    app()
    if failed:
        print(f"{len(failed)} of the jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)


def check_choices(words: list[str]) -> None:
    """Refuses a number as a group's choice (`image=56` for `image=px56`): Hydra ends with a traceback there.

    Raises:
        ConfigError: With the group's choices.
    """
    for word in words:
        group, _, choice = word.partition("=")
        folder = Path(conf_dir()) / group
        numbers = [one for one in choice.split(",") if one.strip().isdecimal()]
        if numbers and group.isidentifier() and folder.is_dir():
            choices = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise ConfigError.at(group, f"must be one of {choices}", found=int(numbers[0]))


def _explain(error: Exception, folder: Path) -> None:
    """Prints the message; the traceback goes to error.log, if there is a run folder that this run had begun."""
    print(f"error: {error}", file=sys.stderr)
    status = folder / "status.json"
    if status.is_file() and json.loads(status.read_text(encoding="utf-8"))["state"] != "done":
        lines = traceback.format_exception(error)
        (folder / "error.log").write_text("".join(lines), encoding="utf-8")
