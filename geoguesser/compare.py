"""python -m geoguesser.compare RUN_OR_SWEEP...: what differs between runs, and what of it is signal."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch

TAKE_A_WORD = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
}


def compare(cfg: DictConfig, folder: Path) -> Any:
    """Compares; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.compare import run_compare

    run_compare(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-compare."""
    sys.argv = expand_runs(sys.argv)
    launch("compare", compare)


def expand_runs(argv: list[str]) -> list[str]:
    """Turns words that name runs into one `runs=[...]`; keys and options stay as they are.

    Args:
        argv: The command line. A word names a run if it is a folder, or if it is neither an option nor holds `=`.

    Returns:
        The command line that Hydra sees.
    """
    runs: list[str] = []
    others: list[str] = []
    for before, word in itertools.pairwise(argv):
        is_other = word.startswith("-") or "=" in word or before in TAKE_A_WORD
        (others if is_other and not Path(word).expanduser().is_dir() else runs).append(word)
    if not runs:
        return [argv[0], *others]
    quoted = ("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'" for word in runs)
    return [argv[0], *others, f"runs=[{','.join(quoted)}]"]


if __name__ == "__main__":
    main()
