"""Training of one run, from the composed config to a tested model and its report.

`TrainingRun.run` lists the steps in order. The objects that the config names are built in `run_parts`.
"""

from __future__ import annotations

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

from geoguesser.commands.configs import format_override, instantiate_node, resolve_run_config
from geoguesser.commands.run_parts import RunParts, RunRequest
from geoguesser.errors import CheckpointError, DataError, GeoguesserError, MissingFileError
from geoguesser.geo.region import Region
from geoguesser.inference.checkpoint import get_network_state, make_record, read_checkpoint, write_checkpoint
from geoguesser.reporting.run.report import RunReport
from geoguesser.reporting.run.result import describe_data, print_result, summarise_grid
from geoguesser.runs.config_keys import redact_config, remove_secrets
from geoguesser.system.cpu import limit_threads
from geoguesser.system.files import write_csv, write_json, write_text
from geoguesser.system.memo import Memo
from geoguesser.system.received_files import read_json
from geoguesser.system.tensor_files import load_tensors
from geoguesser.system.versions import collect_versions
from geoguesser.tracking.loggers import Outcome
from geoguesser.training.ema import refuse_lost_averages
from geoguesser.training.lr_finder import RateSearch, find_rate
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.outputs import scale_head
from geoguesser.training.trainer_checks import as_config_errors, check_early_stopping
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
        cfg: Composed config.
        folder: Run folder, created if it is missing.
        group: Name of the sweep, for loggers; jobs of a sweep print no table of results.
        overrides: Overrides of the command line, recorded when training starts, for `resume=`.
        memo: Cache of data that earlier runs of this process read.
        choices: Choice of each config group, for loggers.

    Returns:
        Contents of result.json; only the counts after a dry run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # False in the further processes that Lightning starts for trainer=ddp.
    is_main = os.environ.get("LOCAL_RANK", "0") == "0"
    previous_status = _claim_folder(folder, resuming=bool(cfg.get("resume"))) if is_main else None

    # The state after Ctrl-C, or after a signal that asks the process to end.
    status: dict[str, Any] = {"state": "interrupted"}
    run: TrainingRun | None = None
    try:
        request = RunRequest(resolve_run_config(cfg), folder, group, is_main, overrides or [], choices or {})
        run = TrainingRun(request, memo or Memo())
        result = run.run()
        status = {"state": "done"}
        return result
    except Exception as error:
        status = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        is_done, is_dry = status["state"] == "done", bool(cfg.get("dry_run"))
        has_trained = run is not None and (run.training_began or (is_done and not is_dry))
        if previous_status is not None and not has_trained:
            # A resume that was refused leaves the run as it was.
            write_text(folder / "status.json", previous_status)
        elif is_main and is_done and is_dry:
            (folder / "status.json").unlink()
        elif is_main:
            write_json(folder / "status.json", status)


def _claim_folder(folder: Path, *, resuming: bool) -> str | None:
    """Marks the folder as used by a running run; returns the earlier status.json if the run is resumed."""
    status = folder / "status.json"
    if resuming:
        previous = status.read_text(encoding="utf-8") if status.is_file() else None
        write_json(status, {"state": "running"})
        return previous

    try:
        # Fails if the file exists, so that only one of two processes can claim a folder.
        with status.open("x") as file:
            file.write('{"state": "running"}\n')
    except FileExistsError:
        ended = read_json(status)["state"] in ("failed", "interrupted")
        if not ended or (folder / "checkpoints").exists():
            raise GeoguesserError(
                f"{folder} contains a run already. Choose another folder with hydra.run.dir=FOLDER, "
                f"or continue it with {shlex.quote(format_override('resume', folder))}"
            ) from None
        write_json(status, {"state": "running"})
    return None


class TrainingRun:
    """A run from the reading of its data to its report.

    Attributes:
        training_began: True once training started; until then a resume may be refused, and must leave the run
            folder as it was.
    """

    def __init__(self, request: RunRequest, memo: Memo) -> None:
        self.training_began = False
        self._config, self._folder = request.config, request.folder
        self._request, self._memo = request, memo
        self._started_s = time.perf_counter()
        self._times_s: dict[str, float] = {}
        self._rate_search: RateSearch | None = None
        # Key of the cached features and whether they were found; None if training reads pixels.
        self._features: dict[str, Any] | None = None
        self._parts = RunParts(request)

    def run(self) -> dict[str, Any]:
        """Executes all steps and returns the contents of result.json; only the counts after a dry run."""
        is_dry = self._config["dry_run"]
        writes_folder = self._request.is_main and not self._config["resume"]

        # Places and network. Nothing is learnt from a place before its views are checked, because broken views may
        # remove it. The backbone comes first, because its weights may be missing and reading views takes long.
        self._read_table()
        pl.seed_everything(self._parts.seed, workers=True, verbose=False)
        backbone = self._parts.make_backbone()
        if not is_dry:
            self._read_views()
        self.data.hold_out(**self._parts.calibration)
        for warning in self.data.audit()["warnings"]:
            log.warning("%s", warning)
        self.network, self._head_is_trained = self._parts.make_network(backbone, self.region, self.data)

        # The network of init_from has a mean and standard deviation of its own, which this replaces.
        if not is_dry and self._parts.image.normalise == "dataset":
            mean, std = self.data.pixel_stats()
            backbone.set_normalisation(mean, std)
            values = " ".join(f"{value:.3f}" for value in (*mean, *std))
            log.info("normalised by the training views: mean and std of red, green, blue %s", values)
        self._log_grid()

        if is_dry:
            from geoguesser.reporting.run.dry_run import print_dry_run

            return print_dry_run(self.network, self.data, self._parts.finetuning, self._config["trainer"])

        if writes_folder:
            self._write_config()
            self._write_findings()
        self._end_phase("data_s")

        # Training, test and report, between start and end of the run's record.
        logger = self._parts.run_logger
        logger.start()
        outcome: Outcome = "failed"
        try:
            module, trainer = self._train()
            self._test(module, trainer)
            result = self._report(module, trainer) if self._request.is_main else {}
            outcome = "done"
        except (KeyboardInterrupt, SystemExit):
            # Lightning ends the process with SystemExit after Ctrl-C.
            outcome = "interrupted"
            raise
        finally:
            closing_line = logger.finish(outcome)
        if closing_line and self._request.is_main:
            log.info("%s", closing_line)
        return result

    def _read_table(self) -> None:
        node = self._config["region"]
        self.region: Region = self._memo.get_or_make("region", node, lambda: instantiate_node(node, "region"))
        self.data = self._parts.get_data(self.region, self._memo)
        self._read_data(self.data.read_table)
        log.info("%s", describe_data(self.data))

    def _read_views(self) -> None:
        self._read_data(self.data.read_views)
        # For the next run of this process.
        self._memo.put("data", self._parts.data_key(), self.data.for_run(self._parts.augment, self._parts.seed))

    def _read_data(self, step: Callable[[], None]) -> None:
        """Calls a reading step; if it fails, the findings up to then are written to the folder."""
        try:
            step()
        except DataError:
            if self._request.is_main and not self._config["resume"]:
                self._write_findings()
            raise

    def _log_grid(self) -> None:
        requested = self._parts.requested_cells(self.region)
        summary = summarise_grid(self.network.head.grid, requested, self.data.train_coords_deg)
        if summary is not None:
            log.info(
                "grid: %s touch land, %s hold training places, %.1f km wide",
                summary["touch_land"],
                summary["hold_training_places"],
                summary["side_km"],
            )

    def _end_phase(self, name: str) -> None:
        elapsed_s = time.perf_counter() - self._started_s
        self._times_s[name] = round(elapsed_s - sum(self._times_s.values()), 3)

    def _write_config(self) -> None:
        recorded = {"config.yaml": self._config, "overrides.yaml": self._request.overrides}
        for name, value in recorded.items():
            write_text(self._folder / name, OmegaConf.to_yaml(OmegaConf.create(remove_secrets(value))))

    def _write_findings(self) -> None:
        findings = self.data.findings
        if findings.skipped:
            log.warning("left out: %s (see findings.csv)", findings.format_skipped())
        if findings.fatal or findings.skipped or findings.kept:
            write_csv(self._folder / "findings.csv", findings.to_table(), for_people=True)

    def _train(self) -> tuple[GeoLightningModule, pl.Trainer]:
        module = self._make_module()
        callbacks = self._parts.make_callbacks()
        check_early_stopping(callbacks, self.network.head.hit_names)
        logger = self._parts.run_logger.make_lightning_logger()
        trainer = self._parts.make_trainer(logger=logger, callbacks=callbacks)
        device = trainer.strategy.root_device

        # Before features are computed, because these must come from the resumed network.
        resume_file = self._restore(trainer, callbacks)
        if self._parts.finetuning.embeds_once(self._parts.augment):
            if self._config["compile"]:
                log.warning("compile=true has no effect here: each view is embedded once, before training")
            self._features = self._parts.features.attach_features(
                self.network, self.data, self._fingerprint, device, self._folder, memo=self._memo
            )
            self.data.condense_features(self.network.fusion.condense)

        # A trained head has the scale of its input, and a resumed run has its learning rates.
        if resume_file is None and not self._head_is_trained:
            scale_head(self.network, self.data, device)
        self._end_phase("features_s")
        if self._config["lr_find"] and resume_file is None:
            self._find_rate(module, device)

        self.network.train()
        module.on_started = self._on_training_start
        with limit_threads(self._count_multiplications()), as_config_errors():
            trainer.fit(module, datamodule=self.data, ckpt_path=resume_file, weights_only=True)
        self._end_phase("fit_s")
        return module, trainer

    def _make_module(self) -> GeoLightningModule:
        self._fingerprint: dict[str, Any] = self._memo.get_or_make(
            "fingerprint", self._parts.data_key(), self.data.fingerprint
        )
        record = make_record(self.network, self.region, self._parts.image)
        record |= {"config": redact_config(self._config), "data": self._fingerprint}
        return GeoLightningModule(
            self.network,
            targets=self.network.head.targets(self.data.coords_deg),
            optimizer=self._parts.optimizer,
            schedule=self._parts.schedule,
            finetuning=self._parts.finetuning,
            diagonal_km=self.region.diagonal_km,
            record=record,
            compile_network=self._config["compile"],
            results_file=str(self._folder / ".test_results.pt"),
            seed=self._parts.seed,
        )

    def _restore(self, trainer: pl.Trainer, callbacks: list[Any]) -> str | None:
        """Loads the network of a resumed run, if it has the same data, and returns its checkpoint file."""
        folder = self._config["resume"]
        if not folder:
            return None

        last = Path(folder).expanduser() / "checkpoints" / "last.ckpt"
        if not last.is_file():
            raise MissingFileError.at(f"resume={folder}", "must be a run folder with checkpoints/last.ckpt")
        file = str(last)
        checkpoint = read_checkpoint(last)
        check_same_data(checkpoint, self._fingerprint, file)
        refuse_lost_averages(checkpoint, callbacks)
        resume_network(self.network, checkpoint, file)

        # Lightning would train a run on that early stopping had ended.
        if is_stopped_early(checkpoint, callbacks):
            trainer.fit_loop.max_epochs = int(checkpoint["epoch"]) + 1
        return file

    def _find_rate(self, module: GeoLightningModule, device: torch.device) -> None:
        """Searches the head's learning rate; the other rates keep their ratio to it."""
        self._rate_search = find_rate(module, self.data.loader("train", shuffle=True), device)
        scale = self._rate_search.chosen / module.base_rates[0]
        module.base_rates = [rate * scale for rate in module.base_rates]
        pairs = zip(module.groups, module.base_rates, strict=True)
        rates = ", ".join(f"{group.name} {rate:.3g}" for group, rate in pairs if rate)
        log.info("lr_find: base rates are now %s (the others keep their ratio to the head's)", rates)

    def _on_training_start(self) -> None:
        """Replaces the records of the run folder once Lightning has accepted the checkpoint of a resume."""
        self.training_began = True
        if not self._request.is_main:
            return
        if self._config["resume"]:
            self._write_config()
            self._write_findings()
        # The result of an earlier training does not describe the new checkpoints.
        (self._folder / "result.json").unlink(missing_ok=True)

    def _count_multiplications(self) -> int:
        """Returns the multiplications of the largest product in a training step; unbounded with a backbone."""
        if self.data.features is None:
            return sys.maxsize
        head = self.network.head
        return self.data.feature_batch_size * head.in_features * head.output_size

    def _test(self, module: GeoLightningModule, trainer: pl.Trainer) -> None:
        best = self._folder / "checkpoints" / "best.ckpt"
        if not best.is_file():
            raise CheckpointError(
                f"{best} was not written: no validation gave an error. "
                "Check trainer.max_steps, trainer.max_time and trainer.limit_train_batches."
            )
        trainer.test(module, datamodule=self.data, ckpt_path=str(best), weights_only=True, verbose=False)
        self._end_phase("test_s")

    def _report(self, module: GeoLightningModule, trainer: pl.Trainer) -> dict[str, Any]:
        """Writes tables, pictures and result.json, and adds the calibration to the best checkpoint."""
        results_file = self._folder / ".test_results.pt"
        tested = load_tensors(results_file)
        results_file.unlink()
        best = self._folder / "checkpoints" / "best.ckpt"
        if trainer.world_size > 1:
            # Lightning loads the tested weights only in the processes that it starts.
            self.network.load_state_dict(get_network_state(read_checkpoint(best)))

        # Tables, with baselines and calibration.
        report = RunReport(self._folder, self.data, self.region, self.network, self._parts.calibration)
        baselines = self._compute_baselines(report, tested["index"].numpy())
        requested = self._parts.requested_cells(self.region)
        result, history, predictions = report.write_tables(tested, requested_cells=requested, baselines=baselines)
        if report.calibration is not None:
            checkpoint = read_checkpoint(best)
            checkpoint["geoguesser"]["calibration"] = report.calibration.state()
            write_checkpoint(best, checkpoint)

        # Regression heads have no decoder.
        decoder = getattr(self.network.head, "decoder", None)
        result |= {
            "steps": int(trainer.global_step),
            "seed": self._parts.seed,
            "decoder": None if decoder is None else decoder.state(),
            "lr_found": module.base_rates[0] if self._config["lr_find"] else None,
            "device": str(trainer.strategy.root_device),
            "audit": self.data.audit(),
            "data": self._fingerprint,
            "features": self._features,
            "versions": collect_versions(),
        }

        pictures: list[Path] = []
        if self._config["pictures"]:
            names = (self.region.name, self.data.label, self._parts.name)
            title = ", ".join(name for name in names if name)
            pictures = report.draw_pictures(result, history, predictions, title=title, search=self._rate_search)
        self._end_phase("report_s")

        # The run's loggers get the result as it is written.
        total_s = round(time.perf_counter() - self._started_s, 3)
        result["times"] = self._times_s | {"total_s": total_s}
        write_json(self._folder / "result.json", result)
        self._parts.run_logger.log_results(result, pictures, predictions)
        if self._request.group is None:
            print_result(result, self._folder)
        return result

    def _compute_baselines(self, report: RunReport, rows: Any) -> dict[str, Any]:
        """Computes the baselines, or takes those of an earlier job with the same data and features."""
        key = self._features["key"] if self._features else None
        if key is None and self.data.features is not None:
            # Features without a key are not in the cache, so that other jobs may have different ones.
            return report.compute_baselines(rows)
        dependencies = [self._parts.data_key(), self._parts.calibration, key, len(rows)]
        return self._memo.get_or_make("baselines", dependencies, lambda: report.compute_baselines(rows))
