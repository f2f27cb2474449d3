"""python -m geoguesser.dashboard: a page in W&B that compares the runs of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def dashboard(cfg: DictConfig, folder: Path) -> Any:
    """Makes the page; W&B is imported here, so that --help need not wait for it."""
    from geoguesser.commands.dashboard import run_dashboard

    run_dashboard(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-dashboard."""
    sys.argv = [f"of={word[6:]}" if word.startswith("sweep=") else word for word in sys.argv]
    launch("dashboard", dashboard)


if __name__ == "__main__":
    main()
