"""Entry point of every command: runs its function under Hydra, and prints expected errors without a traceback.

Heavy packages are imported later, so that `--help` is fast.
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.arguments import check_group_choices, update_arguments
from geoguesser.commands.configs import conf_dir
from geoguesser.commands.help import format_help
from geoguesser.errors import GeoguesserError, first_line
from geoguesser.sweeps.callback import finish_sweep
from geoguesser.sweeps.hydra_files import redact_hydra_files
from geoguesser.sweeps.job_name import register_resolver
from geoguesser.system.files import write_text
from geoguesser.system.received_files import read_json
from geoguesser.system.secret_values import format_for_terminal

log = logging.getLogger(__name__)

# Names the folders of jobs in conf/. Every process that a Hydra launcher starts needs the resolver.
register_resolver()


def command(
    name: str, *, rewrite: Callable[[list[str]], list[str]] | None = None, module: str | None = None
) -> Callable[[], None]:
    """Returns the function that a command's console script calls. It runs `run_NAME(cfg)` of the module.

    The module is imported once the config is composed, so that `--help` and mistakes in the command line need not
    wait for torch.

    Args:
        name: Name of the command and of its file in conf/.
        rewrite: Changes the command-line arguments before Hydra parses them.
        module: Module of the function, if it is not geoguesser.commands.NAME.
    """
    module = module or f"geoguesser.commands.{name}"

    def main() -> None:
        arguments = sys.argv[1:]
        _restrict_import_path(name, arguments)
        if {"--help", "-h"} & set(arguments):
            print(format_help(name))
            return

        try:
            arguments = update_arguments(name, rewrite(arguments) if rewrite else arguments)
            check_group_choices(arguments)
        except GeoguesserError as error:
            sys.exit(format_for_terminal(f"error: {error}"))
        sys.argv = [sys.argv[0], *arguments]

        code: Any = 0
        try:
            _launch(name, module)
        except SystemExit as end:
            code = end.code
        except KeyboardInterrupt:
            # Only in a sweep: `sys.exit` prints this text and exits with status 1.
            code = "interrupted"
        finally:
            # Hydra does not call `on_multirun_end` after Ctrl-C, or if the process of a job was killed.
            sweep_code = finish_sweep()
        sys.exit(code or sweep_code)

    return main


def _restrict_import_path(name: str, arguments: list[str]) -> None:
    """Keeps modules that lie in the current directory from replacing installed ones.

    `python -m` puts the current directory first, which may be a folder that a stranger made. It moves to the end
    for commands that build classes of the user, and for `extensions`. Other commands do without it.
    """
    if sys.flags.safe_path or not sys.path or Path(sys.path[0]).resolve() != Path.cwd():
        return
    # In a checkout it holds this package, which child processes import again.
    if Path(__file__).resolve().parents[1] == Path.cwd():
        return
    current = sys.path.pop(0)
    if name in ("train", "prepare", "collect") or any(word.startswith("extensions=") for word in arguments):
        sys.path.append(current)


def _launch(name: str, module: str) -> None:
    """Composes the config and runs the command; exits with 1 if it, or a job of a sweep, failed."""
    failed: list[str] = []

    @hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)
    def app(cfg: DictConfig) -> Any:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        try:
            if settings.output_subdir is not None:
                redact_hydra_files(folder, in_sweep=settings.mode is RunMode.MULTIRUN)

            return _run(name, module, cfg)
        except KeyboardInterrupt:
            if settings.mode is not RunMode.RUN:
                raise
            # Shells report a process that SIGINT ended as 128 + 2.
            sys.exit(130)
        except Exception as error:
            if settings.mode is RunMode.RUN and not isinstance(error, GeoguesserError):
                raise
            _report_error(error, folder)
            if settings.mode is RunMode.RUN:
                sys.exit(1)
            # The other jobs of a sweep go on.
            overrides = " ".join(settings.overrides.task)
            failed.append(f"{folder.name} ({overrides}): {type(error).__name__}: {first_line(error)}")
            return None

    app()
    if failed:
        print(f"{len(failed)} of the jobs failed:", *map(format_for_terminal, failed), sep="\n  ", file=sys.stderr)
        sys.exit(1)


def _run(name: str, module: str, cfg: DictConfig) -> Any:
    """Sets up logging, memory allocation and extensions, then imports and calls the command's function."""
    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.extensions import load_extensions
    from geoguesser.system.log_filters import filter_logs

    filter_logs()
    keep_freed_memory()
    load_extensions(OmegaConf.to_container(cfg.extensions) if cfg.get("extensions") is not None else None)
    return getattr(importlib.import_module(module), f"run_{name}")(cfg)


def _report_error(error: Exception, folder: Path) -> None:
    """Prints the message. If the command failed during a run, writes the traceback to error.log in its folder."""
    print(format_for_terminal(f"error: {error}"), file=sys.stderr)
    # A finished run gets no error.log: the error is not one of the run.
    status = folder / "status.json"
    if status.is_file() and read_json(status)["state"] != "done":
        write_text(folder / "error.log", "".join(traceback.format_exception(error)))
