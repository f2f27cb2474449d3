"""Writes into a received folder never follow a link out of it, and nothing outside is removed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY, command
from omegaconf import OmegaConf
from support.run_folders import make_places, write_run

from geoguesser.commands.recorded_config import read_config
from geoguesser.errors import CheckpointError, DataError, StoreError
from geoguesser.runs.run_folder import read_runs
from geoguesser.sweeps.callback import rename_submitit_folder
from geoguesser.sweeps.folder import clear_folder
from geoguesser.system.files import refuse_links, replace_folder, write_text
from geoguesser.tracking.wandb_run import remove_empty_records
from geoguesser.training.callbacks import BestCheckpoint, MetricsCsv


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Folder with a file that must stay as it is."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    yield folder
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("kept.txt", "kept")]


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints", "wandb", "a/b/c", "a/wandb"])
def test_a_link_at_any_depth_is_refused_by_name(tmp_path: Path, outside: Path, name: str):
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(StoreError, match=f"{name} must not be a symbolic link"):
        refuse_links(tmp_path / "run")


def test_a_pipe_in_place_of_a_log_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "train.log")
    with pytest.raises(StoreError, match=r"train\.log must be a file or a folder"):
        refuse_links(tmp_path)


def test_a_job_that_is_a_link_to_another_folder_is_not_compared(tmp_path: Path):
    places = make_places(5)
    write_run(tmp_path / "sweep" / "a", places, np.ones(5))
    (tmp_path / "sweep" / "b").symlink_to(write_run(tmp_path / "private" / "run", places, np.ones(5)))
    runs, unused = read_runs([str(tmp_path / "sweep")], read_config)
    assert [run.name for run in runs] == ["sweep/a"]
    assert [(run.name, run.reason) for run in unused] == [("sweep/b", "it is a link to another folder")]


@pytest.mark.parametrize("content", ["epoch,seconds\nx,1\n", "epoch\n1\n", "epoch,seconds\n1," + 200_000 * "1"])
def test_damaged_metrics_of_a_resumed_run_are_named(tmp_path: Path, content: str):
    (tmp_path / "metrics.csv").write_text(content)
    trainer = SimpleNamespace(current_epoch=5)
    with pytest.raises(DataError, match=r"metrics\.csv must be the metrics of a run"):
        MetricsCsv(tmp_path / "metrics.csv").on_train_start(trainer, None)


def test_results_of_submitit_are_read_from_a_folder_of_a_random_name():
    launcher = OmegaConf.create({"submitit_folder": "sweep/.submitit/%j"})
    rename_submitit_folder(launcher)
    assert re.fullmatch(r"sweep/\.submitit/[0-9a-f]{16}/%j", launcher.submitit_folder)
    rename_submitit_folder(other := OmegaConf.create({"n_jobs": 2}))
    assert other == {"n_jobs": 2}


def test_the_links_that_wandb_makes_stay(tmp_path: Path, outside: Path):
    folder = tmp_path / "run" / "wandb"
    (folder / "run-1" / "logs").mkdir(parents=True)
    (folder / "latest-run").symlink_to("run-1")
    (folder / "run-1" / "logs" / "debug-core.log").symlink_to(outside / "kept.txt")
    refuse_links(tmp_path / "run")
    refuse_links(tmp_path / "absent")


def test_empty_records_of_wandb_are_removed_in_their_own_folder_only(tmp_path: Path, outside: Path):
    run = tmp_path / "run" / "wandb"
    run.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run-2.wandb").touch()
    (run / "offline-run-2").symlink_to(tmp_path / "elsewhere")
    remove_empty_records(tmp_path / "run")
    assert (tmp_path / "elsewhere" / "run-2.wandb").exists()


def test_a_write_replaces_a_link_and_not_the_file_that_it_names(tmp_path: Path, outside: Path):
    link = tmp_path / "report.html"
    link.symlink_to(outside / "kept.txt")
    write_text(link, "new")
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_a_folder_that_is_a_link_is_not_emptied(tmp_path: Path, outside: Path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "checkpoints").symlink_to(outside)
    clear_folder(tmp_path / "job")
    assert list((tmp_path / "job").iterdir()) == []

    link = tmp_path / "out"
    link.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link"), replace_folder(link):
        pass


@pytest.mark.parametrize("path", ["/etc/passwd", "../../outside/kept.txt"])
def test_a_checkpoint_names_no_files_outside_its_folder(tmp_path: Path, outside: Path, path: str):
    callback = BestCheckpoint(dirpath=str(tmp_path / "run" / "checkpoints"))
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        with pytest.raises(CheckpointError, match="must name checkpoints of its own folder"):
            callback.load_state_dict({key: path})
    with pytest.raises(CheckpointError, match="must name checkpoints of its own folder"):
        callback.load_state_dict({"best_k_models": {path: 1.0}})


@pytest.mark.slow
def test_a_sweep_and_a_run_with_links_are_refused_before_anything_is_written(tmp_path: Path, outside: Path):
    """A job folder's target was emptied, and `.hydra` and train.log were written through links."""
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "5fb9fe34fb").symlink_to(outside)
    ended = command("geoguesser.train", "--multirun", *TINY, "seed=1,2", f"hydra.sweep.dir={sweep}", cwd=tmp_path)
    assert ended.returncode == 1
    assert "5fb9fe34fb must not be a symbolic link" in ended.stderr
    assert [path.name for path in sweep.iterdir()] == ["5fb9fe34fb"]

    run = tmp_path / "run"
    run.mkdir()
    (run / ".hydra").symlink_to(outside)
    (run / "train.log").symlink_to(outside / "kept.txt")
    ended = command("geoguesser.train", *TINY, f"hydra.run.dir={run}", cwd=tmp_path)
    assert ended.returncode == 1
    assert "must not be a symbolic link" in ended.stderr
    assert "Traceback" not in ended.stderr
