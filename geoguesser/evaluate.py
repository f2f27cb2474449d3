"""python -m geoguesser.evaluate: all figures of a run on any labelled places, or of any program's predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def evaluate(cfg: DictConfig, folder: Path) -> Any:
    """Runs the evaluation; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.evaluate import run_evaluate
    from geoguesser.system.allocator import keep_freed_memory

    keep_freed_memory()
    run_evaluate(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-evaluate."""
    launch("evaluate", evaluate)


if __name__ == "__main__":
    main()
