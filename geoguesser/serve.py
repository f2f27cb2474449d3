"""python -m geoguesser.serve: a web page and an API for trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def serve(cfg: DictConfig, folder: Path) -> Any:
    """Serves until it is stopped; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.serve import run_serve
    from geoguesser.system.allocator import keep_freed_memory

    keep_freed_memory()
    run_serve(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-serve."""
    launch("serve", serve)


if __name__ == "__main__":
    main()
