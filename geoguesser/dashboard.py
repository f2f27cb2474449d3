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
    """Runs the command; also the console script geoguesser-dashboard."""
    for position, word in enumerate(sys.argv):
        key, equals, value = word.partition("=")
        if equals and key in ("sweep", "of"):
            sys.stderr.write(f"The key {key} is now called sweep_dir.\n")
            sys.argv[position] = f"sweep_dir={value}"
    launch("dashboard", dashboard)


if __name__ == "__main__":
    main()
