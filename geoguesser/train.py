"""python -m geoguesser.train: train and test one model, or a sweep of them with --multirun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geoguesser.cli import launch
from geoguesser.errors import MissingFileError


def train(cfg: DictConfig, folder: Path) -> Any:
    """Runs one job; torch is imported here, so that --help need not wait for it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from geoguesser.allocator import keep_freed_memory
    from geoguesser.experiment import run
    from geoguesser.quiet import quiet

    quiet()
    keep_freed_memory()
    multirun = HydraConfig.get().mode is RunMode.MULTIRUN
    overrides = [word for word in HydraConfig.get().overrides.task if not word.startswith("resume=")]
    result = run(cfg, folder, group=folder.parent.name if multirun else None, overrides=overrides)
    return result.get("val", {}).get("error_km_mean")


def main() -> None:
    """The entry point; also the console script geoguesser-train."""
    try:
        sys.argv = with_resume(sys.argv)
    except MissingFileError as error:
        sys.exit(f"error: {error}")
    launch("train", train)


def with_resume(argv: list[str]) -> list[str]:
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
    return [argv[0], *old, *argv[1:], f"hydra.run.dir='{folder}'"]


if __name__ == "__main__":
    main()
