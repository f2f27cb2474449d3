"""python -m geoguesser.train: train and test one model, or a sweep of them with --multirun."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geoguesser.cli import launch
from geoguesser.commands.configs import format_override
from geoguesser.errors import MissingFileError
from geoguesser.sweeps.callback import finish_sweep


def train(cfg: DictConfig, folder: Path) -> Any:
    """Runs one job; torch is imported here, so that --help need not wait for it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.log_filters import filter_logs

    filter_logs()
    keep_freed_memory()
    hydra = HydraConfig.get()
    overrides = [word for word in hydra.overrides.task if not word.startswith("resume=")]
    choices = dict(hydra.runtime.choices)
    if hydra.mode is RunMode.MULTIRUN:
        from geoguesser.sweeps.job import run_job

        return run_job(
            cfg,
            folder,
            number=int(hydra.job.num),
            overrides=overrides,
            processes=count_processes(hydra.launcher),
            choices=choices,
        )
    from geoguesser.commands.train import run

    return run(cfg, folder, overrides=overrides, choices=choices).get("val", {}).get("error_km_mean")


def count_processes(launcher: Mapping[str, Any]) -> int:
    """How many jobs of a sweep run on this machine at once: joblib's `n_jobs`, where -1 means one per core."""
    if "joblib" not in str(launcher.get("_target_")):
        return 1
    from geoguesser.data.checks.inspection import system_cores

    asked = int(launcher.get("n_jobs") or 1)
    return asked if asked > 0 else max(1, system_cores() + 1 + asked)


def main() -> None:
    """The entry point; also the console script geoguesser-train."""
    try:
        sys.argv = expand_resume(sys.argv)
    except MissingFileError as error:
        sys.exit(f"error: {error}")
    code: Any = 1
    try:
        launch("train", train)
        code = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = "interrupted"
    finally:
        sweep = finish_sweep()
    sys.exit(code or sweep)


def expand_resume(argv: list[str]) -> list[str]:
    """Expands `resume=RUN_FOLDER`: that run's own overrides come first, and its folder is gone on with.

    Args:
        argv: The command line.

    Returns:
        The command line that Hydra sees.

    Raises:
        MissingFileError: The folder holds no run.
    """
    given = [word.partition("=")[2].strip("'\"") for word in argv[1:] if word.startswith("resume=")]
    if not given or given[-1] in ("", "null"):
        return argv
    folder = Path(given[-1]).expanduser()
    recorded = folder / "overrides.yaml"
    if not recorded.is_file() or not (folder / "checkpoints" / "last.ckpt").is_file():
        raise MissingFileError.at(
            f"resume={folder}",
            "must be a run folder with overrides.yaml and checkpoints/last.ckpt",
            remedy="Runs lie in outputs/DATE/TIME.",
        )
    old = [str(word) for word in OmegaConf.load(recorded)]
    asked = [format_override("resume", folder) if word.startswith("resume=") else word for word in argv[1:]]
    return [argv[0], *old, *asked, format_override("hydra.run.dir", folder)]


if __name__ == "__main__":
    main()
