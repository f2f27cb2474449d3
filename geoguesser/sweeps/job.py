"""Jobs of a sweep: each is trained once, resumed if it was stopped, and fails without ending the sweep."""

from __future__ import annotations

import logging
import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.train import run_training
from geoguesser.errors import CheckpointError, ConfigError, GeoguesserError, check_bool, check_mapping, first_line
from geoguesser.sweeps.folder import SweepFolder, clear_folder, get_group, hold_folder, read_state
from geoguesser.system.cpu import CORES_VARIABLE, count_system_cores
from geoguesser.system.files import write_text
from geoguesser.system.memo import Memo
from geoguesser.system.received_files import read_json

log = logging.getLogger(__name__)

# Jobs of a sweep that run in one process mostly read the same data.
SWEEP_MEMO = Memo()
# States of an unfinished job. A job is still "running" if its process was killed.
RESUMABLE_STATES = ("interrupted", "running")


def run_train(cfg: DictConfig) -> float | None:
    """Runs `python -m geoguesser.train`: one run, or with --multirun one job of a sweep.

    Returns the mean validation error in km, for a sweeper that searches the lowest; None if there is none.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [word for word in hydra.overrides.task if not word.startswith("resume=")]
    choices = dict(hydra.runtime.choices)

    if hydra.mode is not RunMode.MULTIRUN:
        run_training(cfg, folder, overrides=overrides, choices=choices)
        return read_validation_error(folder)

    processes, number = count_processes(hydra.launcher), int(hydra.job.num)
    return run_job(cfg, folder, number=number, overrides=overrides, processes=processes, choices=choices)


def count_processes(launcher: Mapping[str, Any]) -> int:
    """Returns the number of jobs that run in parallel on this machine, joblib's `n_jobs`; -1: one per core."""
    if "joblib" not in str(launcher.get("_target_")):
        return 1

    jobs = int(launcher.get("n_jobs") or 1)
    return jobs if jobs > 0 else max(1, count_system_cores() + 1 + jobs)


def run_job(
    cfg: DictConfig, folder: Path, *, number: int, overrides: list[str], processes: int = 1, **facts: Any
) -> float | None:
    """Runs a job in its existing folder, unless it is done, and returns the same as `run_train`.

    A job is skipped if it equals another job of the same command, or if it is done and `sweep.resume` is true. One
    that was stopped continues from its last checkpoint; one that failed begins again. `processes` jobs run in
    parallel on this machine and share its cores; `facts` are further arguments of `commands.train.run_training`.
    """
    sweep = SweepFolder(folder.parent)
    record: dict[str, Any] = {"number": number, "overrides": overrides}

    with hold_folder(folder) as is_free:
        twin = sweep.find_outcome(folder.name)
        if not is_free or (twin is not None and twin["number"] != number):
            sweep.record(folder.name, "duplicate", **record)
            same = f"#{twin['number']}" if twin else "one that another process runs"
            log.info("#%d is the same as %s: %s", number, same, folder)
            return read_validation_error(folder)

        if read_state(folder) == "done" and check_bool("sweep.resume", cfg.sweep.resume):
            sweep.record(folder.name, "kept", **record)
            log.info("#%d is done already: %s", number, folder)
            return read_validation_error(folder)

        # Recorded as interrupted unless the job itself ends: an exit or Ctrl-C is no Exception.
        sweep.record(folder.name, "running", **record)
        outcome, message = "interrupted", None
        try:
            with quiet_console():
                share_cores(processes)
                _train_or_resume(cfg, folder, overrides=overrides, **facts)
            outcome = "done"
        except Exception as error:
            outcome, message = "failed", f"{type(error).__name__}: {first_line(error)}"
            lines = "".join(traceback.format_exception(error))
            write_text(folder / "error.log", lines)
            kind = "" if isinstance(error, GeoguesserError) else f"{type(error).__name__}: "
            log.error("error: %s%s (%s)", kind, error, folder / "error.log")
        finally:
            sweep.record(folder.name, outcome, **record, error=message)

        error_km = read_validation_error(folder)
        if outcome == "done":
            text = "counted" if error_km is None else f"validation {error_km:.1f} km"
            log.info("#%d %s: %s", number, text, folder)
        return error_km


def _train_or_resume(cfg: DictConfig, folder: Path, *, overrides: list[str], **facts: Any) -> None:
    """Trains, from the last checkpoint of a job that was stopped if that can be resumed."""
    check_mapping("sweep", OmegaConf.to_container(cfg.sweep), ("name", "resume"))
    if cfg.resume:
        raise ConfigError.at("resume", "must be null in a sweep", found=cfg.resume)

    group = get_group(folder.parent, str(cfg.sweep.name))
    arguments: dict[str, Any] = {"group": group, "overrides": overrides, "memo": SWEEP_MEMO, **facts}
    if read_state(folder) in RESUMABLE_STATES and (folder / "checkpoints" / "last.ckpt").is_file():
        log.info("continues from its last checkpoint: %s", folder)
        try:
            resumed = OmegaConf.merge(cfg, {"resume": str(folder)})
            run_training(resumed, folder, **arguments)  # type: ignore[arg-type]
            return
        except CheckpointError as error:
            log.warning("%s The job begins again.", error)

    clear_folder(folder)
    run_training(cfg, folder, **arguments)


def read_validation_error(folder: Path) -> float | None:
    """Returns the mean validation error in km of a finished run, or None."""
    try:
        value = read_json(folder / "result.json")["val"]["error_km_mean"]
    except (FileNotFoundError, KeyError):
        return None
    return float(value) if math.isfinite(value) else None


@contextmanager
def quiet_console() -> Iterator[None]:
    """Shows only warnings on the terminal; the lines of a job go to its own log."""
    streams = (sys.stdout, sys.stderr)
    levels = {item: item.level for item in logging.root.handlers if getattr(item, "stream", None) in streams}
    for handler in levels:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)


def share_cores(processes: int) -> None:
    """Limits this process to its share of the cores, so that parallel jobs do not compete for them."""
    if processes > 1:
        share = max(1, count_system_cores() // processes)
        os.environ[CORES_VARIABLE] = str(share)
        torch.set_num_threads(share)
