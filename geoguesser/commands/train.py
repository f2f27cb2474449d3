"""One run: from a resolved config to a tested model and its folder. Below here nobody knows Hydra.

Order: claim the folder, read and check the data, fit grid and head, train, test the best checkpoint, report.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.configs import build, format_override, resolve
from geoguesser.commands.run_parts import RunParts, RunRequest
from geoguesser.errors import (
    CheckpointError,
    DataError,
    GeoguesserError,
    MissingFileError,
)
from geoguesser.geo.region import Region
from geoguesser.inference import checkpoint as locator
from geoguesser.model.backbone import Backbone
from geoguesser.reporting.run import result as results
from geoguesser.reporting.run.report import RunReport
from geoguesser.runs.redaction import redact_config, remove_secrets
from geoguesser.system.cpu import limit_threads
from geoguesser.system.files import write_csv, write_json
from geoguesser.system.memo import Memo
from geoguesser.tracking.loggers import Outcome, RunLogger
from geoguesser.training.ema import refuse_lost_averages
from geoguesser.training.lr_finder import RateSearch, find_rate
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.outputs import scale_head
from geoguesser.training.trainer_checks import (
    as_config_errors,
    check_early_stopping,
)
from geoguesser.training.transfer import check_same_data, is_stopped_early, resume_network

log = logging.getLogger(__name__)


def run_training(
    cfg: DictConfig,
    folder: Path,
    *,
    group: str | None = None,
    overrides: list[str] | None = None,
    memo: Memo | None = None,
    choices: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Trains, tests and reports one run.

    Args:
        cfg: The composed config.
        folder: The run folder; it is made.
        group: The sweep's name, for loggers; its jobs print no table of results.
        overrides: What the command line asked for; recorded when training starts, for `resume=`.
        memo: Data read by earlier runs of this process, for later runs.
        choices: What was chosen of each config group, for loggers.

    Returns:
        What result.json holds; after a dry run only the counts.

    Raises:
        GeoguesserError: What the user can mend.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main = os.environ.get("LOCAL_RANK", "0") == "0"  # not a process that Lightning started for trainer=ddp
    earlier = _claim(folder, resuming=bool(cfg.get("resume"))) if main else None
    status: dict[str, Any] = {"state": "interrupted"}  # by Ctrl-C, or a signal that asks the process to end
    job: TrainingRun | None = None
    try:
        job = TrainingRun(
            RunRequest(resolve(cfg), folder, group, main, overrides or [], choices or {}), memo or Memo()
        )
        found = job.go()
        status = {"state": "done"}
        return found
    except Exception as error:
        status = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        begun = job is not None and (job.begun or (status["state"] == "done" and not cfg.get("dry_run")))
        if earlier is not None and not begun:  # a resume that was refused leaves the run as it was
            (folder / "status.json").write_text(earlier, encoding="utf-8")
        elif main and status["state"] == "done" and cfg.get("dry_run"):
            (folder / "status.json").unlink()
        elif main:
            write_json(folder / "status.json", status)


def _claim(folder: Path, *, resuming: bool) -> str | None:
    """Two runs must not share a folder: the second is refused, unless the first never came to train.

    Returns:
        Of a run that is resumed, what its status.json said.
    """
    status = folder / "status.json"
    if resuming:
        earlier = status.read_text(encoding="utf-8") if status.is_file() else None
        write_json(status, {"state": "running"})
        return earlier
    try:
        with status.open("x") as file:
            file.write('{"state": "running"}\n')
        return None
    except FileExistsError:
        ended = json.loads(status.read_text(encoding="utf-8"))["state"] in ("failed", "interrupted")
        if ended and not (folder / "checkpoints").exists():
            write_json(status, {"state": "running"})
            return None
        raise GeoguesserError(
            f"{folder} holds a run already. Name another folder with hydra.run.dir=FOLDER, "
            f"or go on with it: {shlex.quote(format_override('resume', folder))}"
        ) from None


class TrainingRun:
    """One run: the order in which its parts are put together, trained, tested and reported.

    Args:
        order: What is asked of it.
        memo: Cache shared by the runs of this process.
    """

    def __init__(self, order: RunRequest, memo: Memo) -> None:
        self.config, self.folder, self.group, self.main, self.overrides, _ = order
        self.memo = memo
        self.started = time.perf_counter()
        self.times: dict[str, float] = {}
        self.search: RateSearch | None = None
        self.served: dict[str, Any] | None = None  # features instead of pixels
        self.begun = False  # training; until then a resume may be refused, and must leave the run as it was
        self.parts = RunParts(order)

    def go(self) -> dict[str, Any]:
        """Does the run."""
        parts = self.parts
        node = self.config["region"]
        self.region: Region = self.memo.get_or_make("region", node, lambda: build(node, "region"))
        self.data = parts.data(self.region, self.memo)
        self._read(self.data.read_table)
        log.info("%s", results.describe_data(self.data))
        pl.seed_everything(parts.seed, workers=True, verbose=False)
        backbone = parts.backbone()
        if not self.config["dry_run"]:  # before anything is learnt: broken images may take places out
            self._read(self.data.read_views)
            self.memo.put("data", parts.reading(), self.data.anew(parts.augment, parts.seed))
        self.data.hold_out(parts.calibration["fraction"], parts.calibration["min_places"])
        for warning in self.data.audit()["warnings"]:
            log.warning("%s", warning)
        self.network, self.head_is_trained = parts.network(backbone, self.region, self.data)
        if not self.config["dry_run"]:
            self._normalise(backbone)  # last, for init_from brings a mean and std of its own
        if self.network.head.grid is not None:
            asked = parts.asked(self.region)
            grid = results.summarise_grid(self.network.head.grid, asked, self.data.train_coords_deg)
            assert grid is not None
            log.info(
                "grid: %s touch land, %s hold training places, %.1f km wide",
                grid["touch_land"],
                grid["hold_training_places"],
                grid["side_km"],
            )
        if self.config["dry_run"]:
            from geoguesser.reporting.run.dry_run import print_estimate

            return print_estimate(self.network, self.data, parts.finetuning, self.config["trainer"])
        if self.main and not self.config["resume"]:
            self._write_config()
            self._write_findings()
        self.times["data_s"] = self._lap()
        parts.record.start()
        outcome: Outcome = "failed"
        try:
            found = self._train(parts.record)
            outcome = "done"
        except (KeyboardInterrupt, SystemExit):  # Lightning's way to end at Ctrl-C
            outcome = "interrupted"
            raise
        finally:
            line = parts.record.finish(outcome)
        if line and self.main:
            log.info("%s", line)
        return found

    def _read(self, step: Callable[[], None]) -> None:
        """A step of reading the data; where it fails, what was found until then stays in the folder."""
        try:
            step()
        except DataError:
            if self.main and not self.config["resume"]:
                self._write_findings()
            raise

    def _lap(self) -> float:
        return round(time.perf_counter() - self.started - sum(self.times.values()), 3)

    def _normalise(self, backbone: Backbone) -> None:
        """With image.normalise=dataset the network takes mean and std from the training views."""
        if self.parts.image.normalise == "dataset":
            mean, std = self.data.pixel_stats()
            backbone.normalise_by(mean, std)
            shown = " ".join(f"{value:.3f}" for value in (*mean, *std))
            log.info("normalised by the training views: mean and std of red, green, blue %s", shown)

    def _write_config(self) -> None:
        text = OmegaConf.to_yaml(OmegaConf.create(remove_secrets(self.config)))
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        recorded = OmegaConf.to_yaml(OmegaConf.create(self.overrides))
        (self.folder / "overrides.yaml").write_text(recorded, encoding="utf-8")

    def _write_findings(self) -> None:
        findings = self.data.findings
        if findings.skipped:
            log.warning("left out: %s (see findings.csv)", findings.left_out())
        if findings.fatal or findings.skipped or findings.kept:
            write_csv(self.folder / "findings.csv", findings.table())

    def _module(self) -> GeoLightningModule:
        self.fingerprint = self.memo.get_or_make("fingerprint", self.parts.reading(), self.data.fingerprint)
        record = locator.make_record(self.network, self.region, self.parts.image)
        record |= {"config": redact_config(self.config), "data": self.fingerprint}
        return GeoLightningModule(
            self.network,
            targets=self.network.head.targets(self.data.coords_deg),
            optimizer=self.parts.optimizer,
            schedule=self.parts.schedule,
            finetuning=self.parts.finetuning,
            diagonal_km=self.region.diagonal_km,
            record=record,
            compile_network=self.config["compile"],
            results_file=str(self.folder / ".test_results.pt"),
            seed=self.parts.seed,
        )

    def _train(self, record: RunLogger) -> dict[str, Any]:
        module = self._module()
        callbacks = self.parts.callbacks()
        check_early_stopping(callbacks, self.network.head.hit_names)
        trainer = self.parts.trainer(logger=record.lightning(), callbacks=callbacks)
        resume = self._resume_file()
        if resume is not None:  # the whole network comes from there, and embeddings must be its own
            checkpoint = locator.read_checkpoint(Path(resume))
            check_same_data(checkpoint, self.fingerprint, resume)
            refuse_lost_averages(checkpoint, callbacks)
            resume_network(self.network, checkpoint, resume)
            if is_stopped_early(checkpoint, callbacks):
                trainer.fit_loop.max_epochs = int(checkpoint["epoch"]) + 1
        if self.parts.finetuning.embeds_once(self.parts.augment):
            device = trainer.strategy.root_device
            if self.config["compile"]:
                log.warning("compile=true is of no use here: every view is embedded once, before training")
            self.served = self.parts.features.serve(
                self.network, self.data, self.fingerprint, device, self.folder, memo=self.memo
            )
            self.data.condense_features(self.network.fusion.condense)
        if resume is None and not self.head_is_trained:
            scale_head(self.network, self.data, trainer.strategy.root_device)
        self.times["features_s"] = self._lap()
        if self.config["lr_find"] and resume is None:
            self._find_rate(module, trainer.strategy.root_device)
        self.network.train()
        module.on_accepted = self._begin
        with limit_threads(self._step_size()), as_config_errors():
            trainer.fit(module, datamodule=self.data, ckpt_path=resume, weights_only=True)
        self.times["fit_s"] = self._lap()
        best = self.folder / "checkpoints" / "best.ckpt"
        if not best.is_file():
            raise CheckpointError(
                f"{best} was not written: no validation gave an error. "
                "Check trainer.max_steps, trainer.max_time and trainer.limit_train_batches."
            )
        trainer.test(module, datamodule=self.data, ckpt_path=str(best), weights_only=True, verbose=False)
        self.times["test_s"] = self._lap()
        return self._report(module, trainer, record) if self.main else {}

    def _step_size(self) -> int:
        """Multiplications of the largest product in a step; beyond all bounds where a backbone runs in it."""
        if self.data.features is None:
            return sys.maxsize
        head = self.network.head
        return self.data.feature_batch_size * head.in_features * head.output_size

    def _begin(self) -> None:
        """Training begins, so a resume was accepted: what the folder says of the run is now this command's."""
        self.begun = True
        if self.main and self.config["resume"]:
            self._write_config()
            self._write_findings()
        if self.main:  # an older one no longer speaks of this run's checkpoints
            (self.folder / "result.json").unlink(missing_ok=True)

    def _resume_file(self) -> str | None:
        given = self.config["resume"]
        if not given:
            return None
        last = Path(given).expanduser() / "checkpoints" / "last.ckpt"
        if not last.is_file():
            raise MissingFileError.at(f"resume={given}", "must be a run folder with checkpoints/last.ckpt")
        return str(last)

    def _find_rate(self, module: GeoLightningModule, device: torch.device) -> None:
        self.search = find_rate(module, self.data.loader("train", shuffle=True), device)
        scale = self.search.chosen / module.base_rates[0]
        module.base_rates = [rate * scale for rate in module.base_rates]
        pairs = zip(module.groups, module.base_rates, strict=True)
        shown = ", ".join(f"{group.name} {rate:.3g}" for group, rate in pairs if rate)
        log.info("lr_find: base rates are now %s (the others keep their ratio to the head's)", shown)

    def _report(self, module: GeoLightningModule, trainer: pl.Trainer, record: RunLogger) -> dict[str, Any]:
        file = self.folder / ".test_results.pt"
        tested = torch.load(file, weights_only=True)
        file.unlink()
        best = self.folder / "checkpoints" / "best.ckpt"
        if trainer.world_size > 1:  # a test in processes of its own leaves this one with other weights
            self.network.load_state_dict(locator.get_network_state(locator.read_checkpoint(best)))
        report = RunReport(self.folder, self.data, self.region, self.network, self.parts.calibration)
        known = self._baselines(report, tested["index"].numpy())
        result, history, predictions = report.tables(tested, asked=self.parts.asked(self.region), baselines=known)
        if report.calibration is not None:  # whoever predicts with this checkpoint can say how sure it is
            checkpoint = locator.read_checkpoint(best)
            checkpoint["geoguesser"]["calibration"] = report.calibration.state()
            locator.write_checkpoint(best, checkpoint)

        # Regression heads have no decoder.
        decoder = getattr(self.network.head, "decoder", None)
        result |= {
            "steps": int(trainer.global_step),
            "seed": self.parts.seed,
            "decoder": None if decoder is None else decoder.state(),
            "lr_found": module.base_rates[0] if self.config["lr_find"] else None,
            "device": str(trainer.strategy.root_device),
            "audit": self.data.audit(),
            "data": self.fingerprint,
            "features": self.served,
            "versions": results.collect_versions(),
        }
        parts = (self.region.name, self.data.label, self.parts.name)
        title = ", ".join(part for part in parts if part)
        pictures: list[Path] = []
        if self.config["pictures"]:
            pictures = report.pictures(result, history, predictions, title=title, search=self.search)
        self.times["report_s"] = self._lap()
        result["times"] = self.times | {"total_s": round(time.perf_counter() - self.started, 3)}
        write_json(self.folder / "result.json", result)
        record.results(result, pictures, predictions)
        if self.group is None:
            results.print_result(result, self.folder)
        return result

    def _baselines(self, report: RunReport, rows: Any) -> dict[str, Any]:
        """What needs no training; it follows from data and features, which jobs of a sweep mostly share."""
        features = self.served["key"] if self.served else None
        if features is None and self.data.features is not None:
            return report.baselines(rows)
        key = [self.parts.reading(), self.parts.calibration, features, len(rows)]
        return self.memo.get_or_make("baselines", key, lambda: report.baselines(rows))
