"""python -m geoguesser.export: a trained run as a small folder, and as programs of torch.export and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.cli import launch


def export(cfg: DictConfig, folder: Path) -> Any:
    """Runs the export; torch is imported here, so that --help need not wait for it."""
    from geoguesser.commands.export import run_export

    run_export(cfg)


def main() -> None:
    """The entry point; also the console script geoguesser-export."""
    launch("export", export)


if __name__ == "__main__":
    main()
