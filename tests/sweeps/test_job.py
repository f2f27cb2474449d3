"""Jobs of a sweep: trained once, resumed, restarted, or failed without ending the sweep."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY, compose

from geoguesser.commands.train import run_training
from geoguesser.sweeps import job
from geoguesser.sweeps.folder import COMMAND_VARIABLE, SweepFolder, get_group, hold_folder
from geoguesser.sweeps.job import count_processes, quiet_console, run_job, share_cores
from geoguesser.system.cpu import CORES_VARIABLE, count_cores
from geoguesser.system.log_filters import filter_logs
from geoguesser.system.memo import Memo


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch) -> SweepFolder:
    """Starts a sweep in a process without cached data."""
    filter_logs()
    monkeypatch.setenv(COMMAND_VARIABLE, "left over")
    monkeypatch.setattr(job, "SWEEP_MEMO", Memo())
    return SweepFolder.begin(tmp_path / "sweep")


def run(sweep: SweepFolder, *words: str, number: int = 0, name: str = "abc") -> float | None:
    folder = sweep.path / name
    folder.mkdir(parents=True, exist_ok=True)
    return run_job(compose([*TINY, *words]), folder, number=number, overrides=list(words))


def list_outcomes(sweep: SweepFolder) -> list[tuple[int, str]]:
    return [(record["number"], record["outcome"]) for record in sweep.outcomes()]


def test_a_job_runs_once_and_an_equal_one_is_its_duplicate(sweep, caplog):
    caplog.set_level(logging.INFO, "geoguesser.sweeps")
    first = run(sweep)
    written = (sweep.path / "abc/result.json").stat().st_mtime_ns
    assert first == json.loads((sweep.path / "abc/result.json").read_text())["val"]["error_km_mean"]
    assert run(sweep, number=1) == first
    assert list_outcomes(sweep) == [(0, "done"), (1, "duplicate")]
    assert "#1 is the same as #0" in caplog.text
    # The same command again.
    later = SweepFolder.begin(sweep.path)
    assert run(later, number=0) == first
    assert list_outcomes(later) == [(0, "kept")]
    assert (sweep.path / "abc/result.json").stat().st_mtime_ns == written
    repeated = SweepFolder.begin(sweep.path)
    assert run(repeated, "sweep.resume=false") == first
    assert list_outcomes(repeated) == [(0, "done")]
    assert (sweep.path / "abc/result.json").stat().st_mtime_ns > written


def test_a_job_that_another_process_runs_is_a_duplicate(sweep):
    (sweep.path / "abc").mkdir()
    with hold_folder(sweep.path / "abc"):
        assert run(sweep) is None
    assert list_outcomes(sweep) == [(0, "duplicate")]
    assert not (sweep.path / "abc/status.json").exists()


def test_a_failed_job_starts_again_in_the_next_command(sweep, caplog):
    assert run(sweep, "trainer.max_epochs=0") is None
    assert list_outcomes(sweep) == [(0, "failed")]
    assert "trainer.max_epochs must be a positive integer, got 0" in sweep.outcomes()[0]["error"]
    assert "Traceback" in (sweep.path / "abc/error.log").read_text()
    assert "error: trainer.max_epochs" in caplog.text
    assert json.loads((sweep.path / "abc/status.json").read_text())["state"] == "failed"
    later = SweepFolder.begin(sweep.path)
    assert run(later) is not None
    assert list_outcomes(later) == [(0, "done")]


def test_a_killed_job_is_resumed_with_the_same_results(sweep, caplog):
    """Killed between the last epoch, which early stopping chose, and the test."""
    caplog.set_level(logging.INFO, "geoguesser.sweeps")
    words = ("trainer.max_epochs=30", "callbacks.early_stopping.patience=1", "optimizer.lr=0.003")
    first = run(sweep, *words)
    folder = sweep.path / "abc"
    before = {name: (folder / name).read_text() for name in ("predictions_test.csv", "metrics.csv", "places.csv")}
    epochs = json.loads((folder / "result.json").read_text())["epochs"]
    assert 1 < epochs < 30
    for name in ("result.json", "predictions_test.csv"):
        (folder / name).unlink()
    (folder / "status.json").write_text('{"state": "running"}')
    later = SweepFolder.begin(sweep.path)
    assert run(later, *words) == first
    assert list_outcomes(later) == [(0, "done")]
    assert "continues from its last checkpoint" in caplog.text
    for name, text in before.items():
        assert (folder / name).read_text() == text
    assert json.loads((folder / "result.json").read_text())["epochs"] == epochs


def test_a_job_with_an_incomplete_checkpoint_starts_again(sweep, caplog):
    first = run(sweep)
    folder = sweep.path / "abc"
    last = folder / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    (folder / "status.json").write_text('{"state": "running"}')
    assert run(SweepFolder.begin(sweep.path)) == first
    assert "The job begins again." in caplog.text


def test_ctrl_c_is_no_failure(sweep, monkeypatch):
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run_training", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(sweep)
    assert list_outcomes(sweep) == [(0, "interrupted")]


def test_jobs_share_data_without_an_effect_on_results(sweep, tmp_path: Path, monkeypatch):
    """Also for jobs with other calibration places, augmentation or grids."""
    from geoguesser.data.sources import places as datamodule

    reads: list[int] = []
    read_places = datamodule.read_places
    monkeypatch.setattr(datamodule, "read_places", lambda *a, **k: reads.append(1) or read_places(*a, **k))
    jobs = [
        ("seed=0",),
        ("seed=1", "grid.size=12", "calibration.fraction=0.5", "calibration.min_places=1"),
        ("seed=0", "augment=light", "finetune=full", "trainer.max_epochs=1"),
        ("seed=0", "head=regression"),
    ]
    for number, words in enumerate(jobs):
        assert run(sweep, *words, number=number, name=str(number)) is not None
    assert len(reads) == 1

    for number, words in enumerate(jobs):
        single, shared = tmp_path / f"single-{number}", sweep.path / str(number)
        result = run_training(compose([*TINY, *words]), single)
        for name in ("metrics.csv", "predictions_test.csv", "places.csv"):
            tables = [pd.read_csv(folder / name) for folder in (single, shared)]
            pd.testing.assert_frame_equal(*(table.drop(columns="seconds", errors="ignore") for table in tables))
        shared_result = json.loads((shared / "result.json").read_text())
        for part in ("test", "val", "baseline", "counts", "data", "audit", "grid"):
            assert shared_result[part] == result[part]

    run(sweep, "split.seed=1", number=9, name="other")
    # Four single runs, the first job, and the job with another split.
    assert len(reads) == 5 + 1


def test_resume_and_repeated_commands_are_refused_in_a_sweep(sweep):
    run(sweep, "resume=elsewhere", name="a")
    run(sweep, "trainer.devices=2", "+trainer.strategy=ddp", name="b", number=1)
    run(sweep, "+sweep.nmae=x", name="c", number=2)
    errors = [record["error"] for record in sweep.outcomes()]
    assert "resume must be null in a sweep, got 'elsewhere'" in errors[0]
    assert "trainer.strategy must not start the command anew" in errors[1]
    assert "sweep must have the keys name, resume, and no other" in errors[2]


@pytest.mark.parametrize(
    ("folder", "name", "group"),
    [
        ("/x/multirun/a", "a", "a"),
        ("/x/multirun/2026-01-01/10-00-00", "2026-01-01/10-00-00", "2026-01-01/10-00-00"),
        ("/x/elsewhere", "2026-01-01/10-00-00", "elsewhere"),
    ],
)
def test_loggers_group_jobs_by_the_name_of_the_sweep(folder: str, name: str, group: str):
    assert get_group(Path(folder), name) == group


def test_the_terminal_of_a_sweep_shows_only_warnings(capsys):
    console, log = logging.StreamHandler(sys.stdout), logging.getLogger("geoguesser.x")
    console.setLevel(logging.INFO)
    logging.root.addHandler(console)
    log.setLevel(logging.INFO)
    try:
        with quiet_console():
            log.info("epoch 1")
            log.warning("mind")
        log.info("after")
    finally:
        logging.root.removeHandler(console)
    assert capsys.readouterr().out == "mind\nafter\n"


JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 1),
        ({"_target_": JOBLIB}, 1),
        ({"_target_": JOBLIB, "n_jobs": 3}, 3),
        ({"_target_": JOBLIB, "n_jobs": -1}, 8),
        ({"_target_": JOBLIB, "n_jobs": -2}, 7),
        ({"_target_": JOBLIB, "n_jobs": -20}, 1),
        ({"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}, 1),
    ],
)
def test_the_number_of_parallel_jobs_is_that_of_joblib(launcher: dict, processes: int, monkeypatch):
    monkeypatch.setattr("geoguesser.sweeps.job.count_system_cores", lambda: 8)
    assert count_processes(launcher) == processes


def test_parallel_jobs_share_the_cores(monkeypatch):
    monkeypatch.setenv(CORES_VARIABLE, "left over")
    monkeypatch.setattr("geoguesser.sweeps.job.count_system_cores", lambda: 8)
    before = torch.get_num_threads()
    try:
        share_cores(4)
        assert (count_cores(), torch.get_num_threads()) == (2, 2)
        # The next job of the same process.
        share_cores(4)
        assert count_cores() == 2
        share_cores(20)
        assert count_cores() == 1
        del os.environ[CORES_VARIABLE]
        share_cores(1)
        assert CORES_VARIABLE not in os.environ
    finally:
        torch.set_num_threads(before)
