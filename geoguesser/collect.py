"""python -m geoguesser.collect: plan points, ask a provider, download four views of each place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def collect(cfg: DictConfig, folder: Path) -> Any:
    """Runs the steps; what they need is imported here, so that --help need not wait for it."""
    from geoguesser.collection import collect_places

    collect_places(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-collect."""
    launch("collect", collect)


if __name__ == "__main__":
    main()
