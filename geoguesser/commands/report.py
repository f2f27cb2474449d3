"""Command `report`: writes an HTML page and pictures that explain a run, and records them in W&B."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from geoguesser.commands.configs import list_known_keys, to_plain
from geoguesser.commands.recorded_config import read_config
from geoguesser.errors import ConfigError, MissingFileError, StoreError, check_bool, check_int
from geoguesser.inference.predictor import Predictor, choose_device
from geoguesser.reporting.explanation.gallery import Gallery
from geoguesser.reporting.explanation.report import write_report
from geoguesser.reporting.explanation.subject import Subject, load_subject
from geoguesser.runs.run_folder import Run, read_run
from geoguesser.system.files import refuse_links
from geoguesser.tracking.wandb_columns import make_summary
from geoguesser.tracking.wandb_run import WandbRunLogger

log = logging.getLogger(__name__)

# Class name in the target of logger=wandb.
WANDB_CLASS = "WandbRunLogger"


def run_report(cfg: DictConfig) -> tuple[Subject, Gallery]:
    """Explains a run: writes its page and pictures, and records them in W&B if the run was recorded there.

    Args:
        cfg: Config of conf/report.yaml.

    Returns:
        Run and test places that the report explains, and its pictures.

    Raises:
        GeoguesserError: The config, the run or its data are wrong, or the page cannot be written.
    """
    config = to_plain(cfg, list_known_keys("report"))
    max_places = check_int("max_places", config["max_places"], low=1, high=20_000)
    examples = check_int("examples", config["examples"], low=0, high=30)
    thumbnails = check_int("thumbnails", config["thumbnails"], low=0, high=1000)
    neighbours = check_bool("neighbours", config["neighbours"])
    places = _parse_places(config["places"])

    run = read_run(str(config["run"]), read_config)
    refuse_links(run.folder)
    out = _parse_out(config["out"], run)
    predictor = Predictor.load(run.folder, device=choose_device(str(config["device"])))
    logger = _make_logger(config, run)

    subject = load_subject(run, predictor, max_places=max_places, examples=examples, places=places)
    try:
        gallery = write_report(subject, out, thumbnails=thumbnails, neighbours=neighbours)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error

    for name, reason in gallery.missing.items():
        log.warning("missing: %s. %s", name, reason)
    log.info("%d pictures in %s", len(gallery.pictures), run.folder / "pictures")
    log.info("page: %s (%.1f MB)", out, out.stat().st_size / 1e6)
    if logger is not None:
        _record(logger, run, gallery)
    return subject, gallery


def _parse_places(value: Any) -> list[str] | None:
    if value is None:
        return None
    places = [value] if isinstance(value, str) else value
    if not isinstance(places, list) or not places or not all(isinstance(place, str | int) for place in places):
        raise ConfigError.at(
            "places", "must be null or a list of ids of test places", found=value, remedy="places=[ID,ID]"
        )
    return [str(place) for place in places]


def _parse_out(value: Any, run: Run) -> Path:
    out = run.folder / "report.html" if value is None else Path(str(value)).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise ConfigError.at("out", "must be the name of an .html file", found=str(value))
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={value}", "must lie in a folder that exists", found=str(out.parent))
    return out


def _make_logger(config: Mapping[str, Any], run: Run) -> WandbRunLogger | None:
    """Makes the W&B logger of the report; None to record nothing in W&B.

    Project, entity and mode are those of this command, because somebody else may have written the run's config.
    The report gets a W&B run of its own, because an offline run that has ended cannot be extended.

    Raises:
        ConfigError: `wandb` has another value than auto, true and false, or W&B rejects the login.
    """
    value = config["wandb"]
    if value not in (True, False, "auto"):
        raise ConfigError.at("wandb", "must be auto, true or false", found=value)
    logger_config: Any = run.config.get("logger") or {}
    run_used_wandb = (
        str(logger_config.get("_target_", "")).endswith(WANDB_CLASS) and logger_config.get("mode") != "disabled"
    )
    if value is False or (value == "auto" and not run_used_wandb):
        return None

    for key in ("project", "entity"):
        if (recorded := logger_config.get(key)) not in (None, config[key]):
            log.info("the run was recorded with logger.%s=%r; %s=... chooses another", key, recorded, key)

    # W&B's file of a run is named run-ID.wandb.
    files = sorted(run.folder.glob("wandb/*run-*/run-*.wandb"))
    wandb_run_id = files[0].stem.removeprefix("run-") if files else run.name
    name = f"report of {run.config.get('name') or run.name}"
    # The parent of a job's run folder is the folder of its sweep, which contains .commands. Its name is
    # the W&B group of the jobs.
    sweep = run.folder.parent
    return WandbRunLogger(
        mode=config["mode"],
        project=config["project"],
        entity=config["entity"],
        tags=["report"],
        folder=str(run.folder),
        config={**run.config, "name": name, "report_of": wandb_run_id},
        name=run.name,
        group=sweep.name if (sweep / ".commands").is_dir() else None,
        choices={},
        overrides=[],
        job_type="report",
    )


def _record(logger: WandbRunLogger, run: Run, gallery: Gallery) -> None:
    """Records pictures and results. Only errors at the start of the W&B run stop the command."""
    logger.start()
    outcome: Any = "failed"
    try:
        logger.log_pictures([picture.file for picture in gallery.pictures])
        logger.attempt(lambda: logger.run.summary.update(make_summary(run.result)))
        outcome = "done"
    finally:
        message = logger.finish(outcome)
    if message:
        log.info("%s", message)
