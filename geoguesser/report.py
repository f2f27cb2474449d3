"""python -m geoguesser.report: what a run's network answers, where and why it errs, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def report(cfg: DictConfig, folder: Path) -> Any:
    """Writes the report; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.report import run_report
    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.log_filters import filter_logs

    keep_freed_memory()
    filter_logs()
    run_report(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-report."""
    launch("report", report)


if __name__ == "__main__":
    main()
