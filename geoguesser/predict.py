"""python -m geoguesser.predict: coordinates for a folder of place folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def predict(cfg: DictConfig, folder: Path) -> Any:
    """Runs the prediction; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.predict import run_predict
    from geoguesser.system.allocator import keep_freed_memory

    keep_freed_memory()
    run_predict(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-predict."""
    launch("predict", predict)


if __name__ == "__main__":
    main()
