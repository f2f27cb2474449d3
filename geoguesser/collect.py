"""python -m geoguesser.collect: plan points, ask a provider, download four views of each place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch
from geoguesser.collecting.pipeline.supervisor import tie
from geoguesser.collecting.providers.credentials import check_no_secrets
from geoguesser.errors import ConfigError


def collect(cfg: DictConfig, folder: Path) -> Any:
    """Runs the steps; what they need is imported here, so that --help need not wait for it."""
    from geoguesser.commands.collect import run_collect

    run_collect(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-collect."""
    try:
        check_no_secrets({"the command line": sys.argv[1:]})  # before Hydra repeats a word that it does not know
    except ConfigError as error:
        sys.exit(f"error: {error}")
    tie()  # before anything is imported that has threads
    launch("collect", collect)


if __name__ == "__main__":
    main()
