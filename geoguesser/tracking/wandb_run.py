"""`logger=wandb`: a run of Weights & Biases, offline unless asked otherwise.

It gets no code, no git state, no host, no command line, and a config without paths and secrets. Whatever its
server does, the run goes on: waits are bounded, and W&B's own files in the run folder can be uploaded later.
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

MODES = ("offline", "online", "disabled", "shared", "dryrun")
EXIT_CODES: dict[Outcome, int] = {"done": 0, "failed": 1, "interrupted": 255}  # 255 is what W&B has for Ctrl-C
MAX_EMPTY_BYTES = 7  # the head of W&B's file
REMEDY = ", or use WANDB_MODE=offline or logger=csv"
CURVES = ("train/loss", "val/loss", *(f"{stage}/error_km_{kind}" for stage in ("val", "test") for kind in
          ("mean", "median", "p90")), "val/score_mean", "test/score_mean")  # fmt: skip


class WandbRunLogger(RunLogger):
    """One run of W&B, its own files in the run folder.

    Args:
        folder: The run folder.
        config: The resolved config; private parts are left out here.
        name: The run's name where its config has none and it asked for nothing.
        group: The sweep, or None.
        choices: What was chosen of each config group.
        overrides: What the command line asked for.
        project: W&B's project.
        entity: W&B's user or team; None for the account's default.
        mode: offline, online, disabled or shared.
        tags: More words to filter runs by.
        capture_code: Also record code, git state and host.
        patience_s: How long to wait for the server at most: for its first answer, to start, and at the end.
        job_type: What the run does; `report` for the pictures of one that has ended.
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
        more = [tags] if isinstance(tags, str) else list(tags or [])
        self.facts = {
            "name": str(config.get("name") or make_run_name(overrides, choices, name)),
            "project": project,
            "entity": entity,
            "group": group or os.environ.get("WANDB_SWEEP_ID"),  # which W&B's own agent sets
            "job_type": job_type,
            "tags": [*make_tags(config, choices), *map(str, more)],
            "config": make_config_columns(config, choices),
            "dir": folder,
        }
        self.trouble = False
        prepare_wandb()
        if self.mode in ("online", "shared"):
            self._ask_server()

    def _ask_server(self) -> None:
        """A wrong key is found now, before any long work; without an answer the run is recorded offline.

        Raises:
            ConfigError: There is no key, or the server refuses it.
        """
        try:
            log_in(self.patience_s, remedy=REMEDY)
        except ConnectionError as error:
            self._go_offline(error)

    def _go_offline(self, error: Exception) -> None:
        self.mode = "offline"
        log.warning(
            "W&B does not answer (%s): this run is recorded offline. To upload it later: wandb sync '%s'",
            first_line(error),
            Path(self.folder) / "wandb" / "offline-run-*",
        )

    def start(self) -> None:
        """Opens the run.

        Raises:
            GeoguesserError: The server refuses the run: no such entity, no right to the project.
        """
        import wandb

        remove_empty_records(Path(self.folder))
        try:
            self.run = self._open()
        except Exception as error:
            if self.mode not in ("online", "shared") or "imed out" not in str(error):
                wandb.teardown(exit_code=1)
                raise GeoguesserError(
                    f"W&B cannot start this run ({first_line(error)}). "
                    "Check logger.entity and logger.project, or use WANDB_MODE=offline or logger=csv."
                ) from error
            self._go_offline(error)
            self.run = self._open()
        if self.mode in ("online", "shared"):
            self.run._public_api()  # made and kept while the server answers: a table cannot be logged without it
        self.logger = _PatientLogger(self)
        self._define()
        self.run.summary.update({"outcome": "unfinished"})  # what a killed run stays; an upload calls it finished

    def _open(self) -> Any:
        import wandb

        settings = wandb.Settings(
            disable_git=not self.capture_code,
            disable_code=not self.capture_code,
            x_disable_meta=not self.capture_code,
            x_disable_machine_info=not self.capture_code,
            x_disable_stats=not self.capture_code,
            x_save_requirements=self.capture_code,
            host=None if self.capture_code else "-",  # x_disable_meta alone still records the host's name
            program=None
            if self.capture_code
            else f"geoguesser.{self.facts['job_type']}",  # and the path of the program
            console="off",
            silent=True,
            init_timeout=self.patience_s,
            finish_timeout=self.patience_s,
            finish_timeout_raises=True,
        )
        return wandb.init(mode=self.mode, settings=settings, **self.facts)  # type: ignore[arg-type]  # checked

    def _define(self) -> None:
        """Curves over epochs, rates over steps; and the best of each measure in the summary."""
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.run.define_metric("epoch")
        for stage in ("train", "val", "test"):
            self.run.define_metric(f"{stage}/*", step_metric="epoch")
        for measure in CURVES:
            self.run.define_metric(measure, step_metric="epoch", summary=choose_summary_statistic(measure))

    def make_lightning_logger(self) -> Logger | bool:
        return self.logger

    def log_pictures(self, files: list[Path]) -> None:
        """Records pictures under their names."""
        import wandb

        shown = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in files}
        self.attempt(lambda: self.run.log(shown))

    def log_results(self, result: dict[str, Any], pictures: list[Path], predictions: pd.DataFrame) -> None:
        import wandb

        self.log_pictures(pictures)
        self.attempt(lambda: self.run.log({"test/predictions": wandb.Table(dataframe=predictions)}))
        # Last: plain numbers, in place of {"min": ...}, which would be columns of another name.
        self.attempt(lambda: self.run.summary.update(make_summary(result)))

    def attempt(self, action: Callable[[], object]) -> None:
        """Does what W&B's own processes may be too broken for; says so once, and the run goes on."""
        try:
            action()
        except Exception as error:
            if not self.trouble:
                log.warning("W&B could not record all of this run (%s). The run goes on.", first_line(error))
            self.trouble = True

    def finish(self, outcome: Outcome) -> str | None:
        import wandb

        folder = Path(self.run.dir).parent
        self.attempt(lambda: self.run.summary.update({"outcome": outcome}))
        try:
            wandb.finish(exit_code=EXIT_CODES[outcome])
        except Exception as error:
            with suppress(Exception):  # its processes may be gone; the next run starts them anew
                wandb.teardown(exit_code=EXIT_CODES[outcome])
            log.warning(
                "W&B did not take all of this run within %g s (%s). Nothing is lost; "
                "to upload it later: wandb sync --include-online %s",
                self.patience_s,
                first_line(error),
                folder,
            )
            return None
        if self.mode == "offline":
            return f"W&B was offline; to upload this run: wandb sync {folder}"
        return f"W&B: {self.run.url}" if self.mode != "disabled" else None


class _PatientLogger(WandbLogger):
    """Lightning's logger, which outlives W&B's processes."""

    def __init__(self, record: WandbRunLogger) -> None:
        super().__init__(experiment=record.run)
        self.record = record

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.record.attempt(lambda: WandbLogger.log_metrics(self, metrics, step))


def remove_empty_records(folder: Path) -> None:
    """Removes W&B's records of earlier attempts in this folder that hold nothing.

    W&B writes first after some 15 s. What a killed run leaves before is a file of its head alone, and `wandb sync`
    of many runs uploads none of them where one is such.
    """
    for file in folder.glob("wandb/*run-*/*.wandb"):
        if file.stat().st_size <= MAX_EMPTY_BYTES and not file.parent.is_symlink():
            shutil.rmtree(file.parent)
