"""Logger for `logger=wandb`: runs in Weights & Biases, offline by default.

Code, git state, host name and command line are not sent to W&B. The config is sent without paths and secrets. A
server that fails does not end the run: waits are bounded, and W&B's files in the run folder can be uploaded later.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import Logger, WandbLogger

from geoguesser.errors import GeoguesserError, check_bool, check_choice, check_number, first_line
from geoguesser.system.secret_values import redact
from geoguesser.tracking.loggers import Outcome, RunLogger
from geoguesser.tracking.wandb_columns import (
    choose_summary_statistic,
    make_config_columns,
    make_run_name,
    make_summary,
    make_tags,
)
from geoguesser.tracking.wandb_login import log_in, prepare_wandb

log = logging.getLogger(__name__)

# dryrun is W&B's old name for offline.
MODES = ("offline", "online", "disabled", "shared", "dryrun")
OFFLINE_REMEDY = "Or use WANDB_MODE=offline or logger=csv."

# 255 is W&B's own exit code after Ctrl-C.
EXIT_CODES: dict[Outcome, int] = {"done": 0, "failed": 1, "interrupted": 255}

# Size of the header in a file of W&B.
MAX_EMPTY_BYTES = 7

# Metrics that are plotted over epochs, and whose best value is in the summary.
CURVES = (
    "train/loss",
    "val/loss",
    *(f"{stage}/{name}" for stage in ("val", "test") for name in
      ("error_km_mean", "error_km_median", "error_km_p90", "score_mean")),
)  # fmt: skip


class WandbRunLogger(RunLogger):
    """Records a run in Weights & Biases. W&B's files are kept in the run folder.

    Args:
        folder: The run folder.
        config: Resolved config; private values are removed here.
        name: Name of the run if neither config nor overrides give one.
        group: Name of the sweep, or None.
        choices: Choice of each config group.
        overrides: Hydra overrides of the command line.
        project, entity, mode, tags: As for W&B.
        capture_code: Whether to record code, git state and host name.
        patience_s: Maximum wait for the server in seconds: for its first response, at the start, and at the end.
        job_type: Kind of the run; `report` for the pictures of a run that has ended.
    """

    def __init__(
        self,
        *,
        folder: str,
        config: dict[str, Any],
        name: str,
        group: str | None,
        choices: Mapping[str, str],
        overrides: list[str],
        project: str = "geoguesser",
        entity: str | None = None,
        mode: str = "offline",
        tags: list[str] | str | None = None,
        capture_code: bool = False,
        patience_s: float = 60.0,
        job_type: str = "train",
    ) -> None:
        check_choice("logger.mode", mode, MODES)
        check_bool("logger.capture_code", capture_code)
        self.patience_s = check_number("logger.patience_s", patience_s, low=0, open_low=True)
        self.mode = "offline" if mode == "dryrun" else mode
        self.folder, self.capture_code = folder, capture_code
        self.has_failed = False

        more_tags = [tags] if isinstance(tags, str) else list(tags or [])
        self.init_options = {
            "name": redact(str(config.get("name") or make_run_name(overrides, choices, name))),
            "project": project,
            "entity": entity,
            # WANDB_SWEEP_ID is set by the agent of W&B's own sweeps.
            "group": group or os.environ.get("WANDB_SWEEP_ID"),
            "job_type": job_type,
            "tags": [*make_tags(config, choices), *map(str, more_tags)],
            "config": make_config_columns(config, choices),
            "dir": folder,
        }

        # A wrong key is found now, before any long work.
        prepare_wandb()
        if self._is_online:
            try:
                log_in(self.patience_s, remedy=OFFLINE_REMEDY)
            except ConnectionError as error:
                self._go_offline(error)

    @property
    def _is_online(self) -> bool:
        return self.mode in ("online", "shared")

    def _go_offline(self, error: Exception) -> None:
        self.mode = "offline"
        message = "W&B does not answer (%s): this run is recorded offline. To upload it later: wandb sync '%s'"
        log.warning(message, first_line(error), Path(self.folder) / "wandb" / "offline-run-*")

    def start(self) -> None:
        """Opens the run; raises `GeoguesserError` if the entity is unknown or may not write to the project."""
        import wandb

        remove_empty_records(Path(self.folder))
        try:
            self.run = self._open_run()
        except Exception as error:
            # "Timed out" or "timed out": W&B has no exception class for it.
            if not self._is_online or "imed out" not in str(error):
                wandb.teardown(exit_code=1)
                raise GeoguesserError(
                    f"W&B cannot start this run ({first_line(error)}). "
                    f"Check logger.entity and logger.project. {OFFLINE_REMEDY}"
                ) from error
            self._go_offline(error)
            self.run = self._open_run()

        # Logging a table needs W&B's API object. It is made now, while the server responds, and W&B keeps it.
        if self._is_online:
            self.run._public_api()
        self.logger = _TolerantLogger(self)
        self._define_metrics()

        # `wandb sync` marks each uploaded run as finished. A run that was killed keeps this value.
        self.run.summary.update({"outcome": "unfinished"})

    def _open_run(self) -> Any:
        import wandb

        # x_disable_meta alone still records the name of the host and the path of the program.
        settings = wandb.Settings(
            disable_git=not self.capture_code,
            disable_code=not self.capture_code,
            x_disable_meta=not self.capture_code,
            x_disable_machine_info=not self.capture_code,
            x_disable_stats=not self.capture_code,
            x_save_requirements=self.capture_code,
            host=None if self.capture_code else "-",
            program=None if self.capture_code else f"geoguesser.{self.init_options['job_type']}",
            console="off",
            silent=True,
            init_timeout=self.patience_s,
            finish_timeout=self.patience_s,
            finish_timeout_raises=True,
        )
        return wandb.init(mode=self.mode, settings=settings, **self.init_options)  # type: ignore[arg-type]

    def _define_metrics(self) -> None:
        """Plots metrics over epochs and learning rates over steps. The summary gets each metric's best value."""
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.run.define_metric("epoch")
        for stage in ("train", "val", "test"):
            self.run.define_metric(f"{stage}/*", step_metric="epoch")
        for metric in CURVES:
            self.run.define_metric(metric, step_metric="epoch", summary=choose_summary_statistic(metric))

    def make_lightning_logger(self) -> Logger | bool:
        return self.logger

    def log_pictures(self, files: list[Path]) -> None:
        """Logs each picture under the key `pictures/NAME`."""
        import wandb

        images = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in files}
        self.attempt(lambda: self.run.log(images))

    def log_results(self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame) -> None:
        import wandb

        self.log_pictures(pictures)
        self.attempt(lambda: self.run.log({"test/predictions": wandb.Table(dataframe=predictions)}))

        # Last: W&B has written summary values such as {"min": 1.2}, which its tables show in other columns. Plain
        # numbers replace them.
        self.attempt(lambda: self.run.summary.update(make_summary(result)))

    def attempt(self, action: Callable[[], object]) -> None:
        """Calls a function of W&B; the first error is logged as a warning, later ones are ignored."""
        try:
            action()
        except Exception as error:
            if not self.has_failed:
                log.warning("W&B could not record all of this run (%s). The run goes on.", first_line(error))
            self.has_failed = True

    def finish(self, outcome: Outcome) -> str | None:
        import wandb

        folder = Path(self.run.dir).parent
        self.attempt(lambda: self.run.summary.update({"outcome": outcome}))
        try:
            wandb.finish(exit_code=EXIT_CODES[outcome])
        except Exception as error:
            # W&B's processes may have ended; the next run starts new ones.
            with suppress(Exception):
                wandb.teardown(exit_code=EXIT_CODES[outcome])
            reason, command = first_line(error), f"wandb sync --include-online {folder}"
            message = (
                "W&B did not receive the complete run within %g s (%s). Nothing is lost; to upload it later: %s"
            )
            log.warning(message, self.patience_s, reason, command)
            return None

        if self.mode == "offline":
            return f"W&B was offline; to upload this run: wandb sync {folder}"
        return f"W&B: {self.run.url}" if self.mode != "disabled" else None


class _TolerantLogger(WandbLogger):
    """Lightning's logger, but errors of W&B are logged and not raised."""

    def __init__(self, run_logger: WandbRunLogger) -> None:
        super().__init__(experiment=run_logger.run)
        self.run_logger = run_logger

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run_logger.attempt(lambda: WandbLogger.log_metrics(self, metrics, step))


def remove_empty_records(folder: Path) -> None:
    """Removes W&B's records without content, which earlier attempts left in a run folder.

    A run killed in its first 15 s leaves a file with a header only, with which `wandb sync` uploads no run.
    """
    for file in folder.glob("wandb/*run-*/*.wandb"):
        if file.stat().st_size <= MAX_EMPTY_BYTES and not file.parent.is_symlink():
            shutil.rmtree(file.parent)
