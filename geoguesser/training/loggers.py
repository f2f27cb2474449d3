"""Loggers: where a run is recorded besides its own folder. metrics.csv and result.json are always written.

W&B is offline unless WANDB_MODE says otherwise; it gets no code, no git state, no host, no command
line, and a config without paths and secrets.
"""

from __future__ import annotations

import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from geoguesser.errors import GeoguesserError, check_choice, first_line

log = logging.getLogger(__name__)

PRIVATE_KEYS = frozenset({"roots", "path", "boundary", "weights", "init_from", "resume", "logger", "hydra"})
SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)


def public(config: Any) -> Any:
    """A config without what is private: folders and files of the user's machine, and secrets."""
    if isinstance(config, Mapping):
        return {
            key: public(value)
            for key, value in config.items()
            if key not in PRIVATE_KEYS and not SECRET.search(str(key))
        }
    if isinstance(config, list | tuple):
        return [public(value) for value in config]
    if isinstance(config, str) and (os.path.isabs(config) or config.startswith("~")):
        return "(a path)"
    return config


def without_secrets(config: dict[str, Any]) -> dict[str, Any]:
    """The resolved config for config.yaml: values under keys that look secret are not written."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "(secret)" if SECRET.search(str(key)) else clean(one) for key, one in value.items()}
        return value

    cleaned: dict[str, Any] = clean(config)
    return cleaned


def summary_of(result: dict[str, Any]) -> dict[str, float]:
    """The figures of a result that name a run in a table of runs; a baseline that is not known is left out."""
    test = result["test"]
    summary = {f"test/{key}": value for key, value in test.items() if isinstance(value, float)}
    summary |= {f"test/share_within_{radius}_km": share for radius, share in test["share_within_km"].items()}
    known = {name: entry for name, entry in result["baseline"].items() if entry is not None}
    return summary | {f"baseline/{name}_km": entry["error_km_mean"] for name, entry in known.items()}


class Record(ABC):
    """One run's record with some service."""

    @abstractmethod
    def lightning(self) -> Logger | bool:
        """What Lightning's Trainer takes as its logger."""

    def results(  # noqa: B027  # most services take nothing
        self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame
    ) -> None:
        """Takes what the run came to."""

    def finish(self, ok: bool) -> str | None:
        """Ends the record, always; returns a line for the user, or None."""
        return None


class CsvRecord(Record):
    """`logger=csv`: nothing besides the run folder's own files."""

    def lightning(self) -> Logger | bool:
        return False


class TensorBoardRecord(Record):
    """`logger=tensorboard`: event files in the run folder.

    Args:
        folder: The run folder.
    """

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def lightning(self) -> Logger | bool:
        return TensorBoardLogger(save_dir=self.folder, name="", version="tensorboard")

    def finish(self, ok: bool) -> str | None:
        return f"See the curves: tensorboard --logdir {self.folder}/tensorboard"


class WandbRecord(Record):
    """`logger=wandb`: a run of Weights & Biases, its offline files in the run folder.

    Args:
        folder: The run folder.
        config: The resolved config; private parts are left out here.
        name: The run's name.
        group: The sweep, or None.
        project: W&B's project.
        entity: W&B's user or team; None for the account's default.
        mode: offline, online, disabled or shared.
        tags: Words to filter runs by.
        capture_code: Also record code, git state and host.
    """

    def __init__(
        self,
        *,
        folder: str,
        config: dict[str, Any],
        name: str,
        group: str | None,
        project: str = "geoguesser",
        entity: str | None = None,
        mode: str = "offline",
        tags: list[str] | str | None = None,
        capture_code: bool = False,
    ) -> None:
        check_choice("logger.mode", mode, ("offline", "online", "disabled", "shared", "dryrun"))
        self.mode = "offline" if mode == "dryrun" else mode
        # Both must be set before wandb is imported: no telemetry, and no lines of its own in the terminal.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        settings = wandb.Settings(
            disable_git=not capture_code,
            disable_code=not capture_code,
            x_disable_meta=not capture_code,
            x_disable_stats=not capture_code,
            x_save_requirements=capture_code,
            host=None if capture_code else "-",  # x_disable_meta alone still records the host's name
            console="off",
            silent=True,
            init_timeout=20,
            finish_timeout=60,
        )
        self.folder = folder
        try:
            self.run = wandb.init(
                name=name,
                project=project,
                entity=entity,
                group=group,
                job_type="train",
                tags=[tags] if isinstance(tags, str) else list(tags or []),
                dir=folder,
                mode=self.mode,  # type: ignore[arg-type]  # checked above
                config=public(config),
                settings=settings,
            )
        except Exception as error:
            wandb.teardown(exit_code=1)
            reason = first_line(error)
            raise GeoguesserError(
                f"W&B cannot start this run ({reason}). "
                "Log in with `wandb login`, or use WANDB_MODE=offline or logger=csv."
            ) from error
        self.logger = WandbLogger(experiment=self.run)
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.run.define_metric("epoch")
        self.run.define_metric("val/*", step_metric="epoch")
        self.run.define_metric("train/*", step_metric="epoch")
        self.run.define_metric("val/error_km_mean", summary="min", step_metric="epoch")

    def lightning(self) -> Logger | bool:
        return self.logger

    def results(self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame) -> None:
        import wandb

        self.run.summary.update(summary_of(result))
        self.run.log({f"pictures/{path.stem}": wandb.Image(str(path)) for path in pictures})
        self.run.log({"test/predictions": wandb.Table(dataframe=predictions)})

    def finish(self, ok: bool) -> str | None:
        import wandb

        folder = Path(self.run.dir).parent
        wandb.finish(exit_code=0 if ok else 1)
        return f"W&B was offline; to upload this run: wandb sync {folder}" if self.mode == "offline" else None
