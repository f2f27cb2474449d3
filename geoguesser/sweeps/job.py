"""One job of a sweep: run, or left alone where the sweep folder holds it already; a failure is its own."""

from __future__ import annotations

import json
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
from geoguesser.system.memo import Memo

log = logging.getLogger(__name__)
# Jobs of a sweep that run in one process mostly read the same data.
SWEEP_MEMO = Memo()
RESUMABLE = ("interrupted", "running")  # running, though nobody holds its lock: its process was killed


def run_train(cfg: DictConfig) -> float | None:
    """Runs `python -m geoguesser.train`: one run, or with --multirun one job of a sweep.

    Args:
        cfg: The composed config.

    Returns:
        The mean validation error in km, for a sweeper that searches the lowest; None if there is none.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [word for word in hydra.overrides.task if not word.startswith("resume=")]
    choices = dict(hydra.runtime.choices)

    if hydra.mode is not RunMode.MULTIRUN:
        result = run_training(cfg, folder, overrides=overrides, choices=choices)
        error_km: float | None = result.get("val", {}).get("error_km_mean")
        return error_km

    processes = count_processes(hydra.launcher)
    number = int(hydra.job.num)
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
    """Runs one job, unless it is done.

    A job that another of the same command equals is left alone, and so is one that is done, unless
    `sweep.resume=false`. One that was killed goes on from its last checkpoint; one that failed begins again.

    Args:
        cfg: The composed config.
        folder: The job's folder in the sweep's; it is there.
        number: The job's number in the command.
        overrides: What it was asked for by.
        processes: How many jobs run on this machine at once; each gets its share of the cores.
        facts: More that `commands.train.run_training` takes.

    Returns:
        The mean validation error in km, for a sweeper that looks for the lowest; None where the job failed.
    """
    sweep = SweepFolder(folder.parent)
    said: dict[str, Any] = {"number": number, "overrides": overrides}
    with hold_folder(folder) as mine:
        twin = sweep.met(folder.name)
        if not mine or (twin is not None and twin["number"] != number):
            sweep.record(folder.name, "duplicate", **said)
            same = f"#{twin['number']}" if twin else "one that another process runs"
            log.info("#%d is the same as %s: %s", number, same, folder)
            return read_validation_error(folder)
        if read_state(folder) == "done" and check_bool("sweep.resume", cfg.sweep.resume):
            sweep.record(folder.name, "kept", **said)
            log.info("#%d is done already: %s", number, folder)
            return read_validation_error(folder)
        sweep.record(folder.name, "running", **said)
        outcome, error = "interrupted", None
        try:
            with quiet_console():
                share_cores(processes)
                _run(cfg, folder, overrides=overrides, **facts)
            outcome = "done"
        except Exception as failure:
            outcome, error = "failed", f"{type(failure).__name__}: {first_line(failure)}"
            log_failure(failure, folder)
        finally:
            sweep.record(folder.name, outcome, **said, error=error)
        found = read_validation_error(folder)
        if outcome == "done":
            shown = "counted" if found is None else f"validation {found:.1f} km"
            log.info("#%d %s: %s", number, shown, folder)
        return found


def _run(cfg: DictConfig, folder: Path, *, overrides: list[str], **facts: Any) -> None:
    """As `commands.train.run_training`; goes on where a killed job stopped, if its last checkpoint allows it."""
    check_mapping("sweep", OmegaConf.to_container(cfg.sweep), ("name", "resume"))
    if cfg.resume:
        raise ConfigError.at("resume", "must be null in a sweep", found=cfg.resume)
    group = get_group(folder.parent, str(cfg.sweep.name))
    given: dict[str, Any] = {"group": group, "overrides": overrides, "memo": SWEEP_MEMO, **facts}
    if read_state(folder) in RESUMABLE and (folder / "checkpoints" / "last.ckpt").is_file():
        log.info("goes on where it was stopped: %s", folder)
        try:
            run_training(OmegaConf.merge(cfg, {"resume": str(folder)}), folder, **given)  # type: ignore[arg-type]
            return
        except CheckpointError as error:
            log.warning("%s The job begins again.", error)
    clear_folder(folder)
    run_training(cfg, folder, **given)


def read_validation_error(folder: Path) -> float | None:
    """The mean validation error in km of a finished run, or None."""
    try:
        value = json.loads((folder / "result.json").read_text(encoding="utf-8"))["val"]["error_km_mean"]
    except (FileNotFoundError, KeyError):
        return None
    return float(value) if math.isfinite(value) else None


def log_failure(error: Exception, folder: Path) -> None:
    """A failed job's traceback goes to its error.log, its message also to the terminal."""
    lines = "".join(traceback.format_exception(error))
    (folder / "error.log").write_text(lines, encoding="utf-8")
    kind = "" if isinstance(error, GeoguesserError) else f"{type(error).__name__}: "
    log.error("error: %s%s (%s)", kind, error, folder / "error.log")


@contextmanager
def quiet_console() -> Iterator[None]:
    """A job's lines go to its own log; the terminal of a sweep has warnings alone."""
    console = [one for one in logging.root.handlers if getattr(one, "stream", None) in (sys.stdout, sys.stderr)]
    levels = [one.level for one in console]
    for one in console:
        one.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one, level in zip(console, levels, strict=True):
            one.setLevel(level)


def share_cores(processes: int) -> None:
    """Gives this process its share of the cores, so that jobs side by side do not fight for them.

    Args:
        processes: How many jobs run at once.
    """
    if processes > 1:
        share = max(1, count_system_cores() // processes)
        os.environ[CORES_VARIABLE] = str(share)
        torch.set_num_threads(share)
