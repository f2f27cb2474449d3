"""Explanation: one `python -m geoguesser.report`, from its config to a page, pictures, and their record in W&B."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geoguesser.commands.configs import build, conf_dir, list_known_keys, read_config, to_plain
from geoguesser.errors import ConfigError, MissingFileError, StoreError, check_bool, check_int
from geoguesser.inference.predictor import Predictor, choose_device
from geoguesser.reporting.explanation.gallery import Gallery
from geoguesser.reporting.explanation.report import write_report
from geoguesser.reporting.explanation.subject import Subject, load_subject
from geoguesser.runs.run_folder import Run, read_run
from geoguesser.tracking.wandb_columns import make_summary
from geoguesser.tracking.wandb_run import WandbRunLogger

log = logging.getLogger(__name__)

WANDB = "WandbRunLogger"  # the last word of the target of logger=wandb


def run_report(cfg: DictConfig) -> tuple[Subject, Gallery]:
    """Explains a run: writes its page and pictures, and records them where the run has a record.

    Args:
        cfg: The config of conf/report.yaml.

    Returns:
        What was explained, and what was drawn.

    Raises:
        GeoguesserError: What the user can mend; the page is then not written.
    """
    config = to_plain(cfg, list_known_keys("report"))
    max_places = check_int("max_places", config["max_places"], low=1, high=20_000)
    examples = check_int("examples", config["examples"], low=0, high=30)
    thumbnails = check_int("thumbnails", config["thumbnails"], low=0, high=1000)
    neighbours = check_bool("neighbours", config["neighbours"])
    places = _places(config["places"])
    run = read_run(str(config["run"]), read_config)
    out = _out(config["out"], run)
    locator = Predictor.load(run.folder, device=choose_device(str(config["device"])))
    record = _record(config["wandb"], run)
    subject = load_subject(run, locator, most=max_places, examples=examples, places=places)
    try:
        gallery = write_report(subject, out, thumbnails=thumbnails, neighbours=neighbours)
    except OSError as error:
        raise StoreError.at(f"out={out}", f"cannot be written ({error.strerror or error})") from error
    for what, why in gallery.missing.items():
        log.warning("missing: %s. %s", what, why)
    log.info("%d pictures in %s", len(gallery.drawn), run.folder / "pictures")
    log.info("page: %s (%.1f MB)", out, out.stat().st_size / 1e6)
    if record is not None:
        _put(record, run, gallery)
    return subject, gallery


def _places(given: Any) -> list[str] | None:
    if given is None:
        return None
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list) or not words or not all(isinstance(one, str | int) for one in words):
        raise ConfigError.at("places", "must be null, or name test places", found=given, remedy="places=[ID,ID]")
    return [str(one) for one in words]


def _out(given: Any, run: Run) -> Path:
    out = run.folder / "report.html" if given is None else Path(str(given)).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise ConfigError.at("out", "must be the name of an .html file", found=str(given))
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={given}", "must lie in a folder that exists", found=str(out.parent))
    return out


def _record(asked: Any, run: Run) -> WandbRunLogger | None:
    """A record beside the run's own, of which it is no part: one that has ended offline takes no more.

    Raises:
        ConfigError: `wandb` is none of its words, or W&B refuses the user.
    """
    if asked not in (True, False, "auto"):
        raise ConfigError.at("wandb", "must be auto, true or false", found=asked)
    own = run.config.get("logger") or {}
    has = str(own.get("_target_", "")).endswith(WANDB) and own.get("mode") != "disabled"
    if asked is False or (asked == "auto" and not has):
        return None
    node: Any = (
        own
        if has
        else OmegaConf.to_container(OmegaConf.load(Path(conf_dir()) / "logger" / "wandb.yaml"), resolve=True)
    )
    node = {**node, "mode": os.environ.get("WANDB_MODE", node.get("mode", "offline")), "tags": ["report"]}
    files = sorted(run.folder.glob("wandb/*run-*/run-*.wandb"))
    of = files[0].stem.removeprefix("run-") if files else run.name
    made: WandbRunLogger = build(
        node,
        "logger",
        folder=str(run.folder),
        config={**run.config, "name": f"report of {run.config.get('name') or run.name}", "report_of": of},
        name=run.name,
        group=_group(run.folder),
        choices={},
        overrides=[],
        job_type="report",
    )
    return made


def _group(folder: Path) -> str | None:
    """The sweep that a run is a job of, which is its group; None for one alone."""
    return folder.parent.name if (folder.parent / ".commands").is_dir() else None


def _put(record: WandbRunLogger, run: Run, gallery: Gallery) -> None:
    """Pictures and figures go into the record, whatever its server does."""
    record.start()
    outcome: Any = "failed"
    try:
        record.pictures([one.file for one in gallery.drawn])
        record.attempt(lambda: record.run.summary.update(make_summary(run.result)))
        outcome = "done"
    finally:
        line = record.finish(outcome)
    if line:
        log.info("%s", line)
