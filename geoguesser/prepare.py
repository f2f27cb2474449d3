"""python -m geoguesser.prepare: check, merge, split and pack a dataset, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def prepare(cfg: DictConfig, folder: Path) -> Any:
    """Prepares; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.prepare import run_prepare

    run_prepare(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-prepare."""
    launch("prepare", prepare)


if __name__ == "__main__":
    main()
