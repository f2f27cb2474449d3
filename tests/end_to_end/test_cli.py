"""Commands as users type them, in subprocesses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY, command, read_back
from support.background import read_until, start_command

WORDS = [word for word in TINY if word != "logger=csv"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Run from the command line, with W&B offline, and its finished process."""
    cwd = tmp_path_factory.mktemp("cli")
    done = command("geoguesser.train", *WORDS, "name=trial", "pictures=true", cwd=cwd, env={"A_TOKEN": "hunter2"})
    assert done.returncode == 0, done.stderr
    (folder,) = (cwd / "outputs").glob("*/*")
    return folder, done


def test_train_ends_with_a_table_and_the_folder(trained):
    folder, done = trained
    assert "this model" in done.stdout
    assert "best constant" in done.stdout
    assert f"Run folder: {folder}" in done.stdout
    assert "cells requested" in done.stdout
    assert re.search(r"^epoch 2/2: loss .* km \(best ", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
    log = (folder / "train.log").read_text()
    assert "epoch 2/2" in log
    assert not [path for path in folder.parents[2].iterdir() if path.name != "outputs"]


def test_offline_wandb_run_reads_back(trained):
    """The record is complete, and no file holds secrets."""
    folder, done = trained
    (run,) = folder.glob("wandb/offline-run-*")
    assert f"wandb sync {run}" in done.stdout
    records = read_back(run)
    (start,) = (record["run"] for record in records if record["type"] == "run")
    assert (start["host"], start["job_type"], start["display_name"]) == ("-", "train", "trial")
    assert "git" not in start
    assert "code_path" not in json.dumps(records)
    (end,) = (record["exit"] for record in records if record["type"] == "exit")
    assert end.get("exit_code", 0) == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "requirements.txt" not in {path.name for path in files}
    for path in files:
        assert b"hunter2" not in path.read_bytes(), path


def test_predict_writes_the_predictions_of_the_test(trained, demo_root: Path, tmp_path: Path):
    folder, _ = trained
    truth = pd.read_csv(folder / "predictions_test.csv").set_index("uuid")
    for uuid in truth.index:
        shutil.copytree(demo_root / "images" / uuid, tmp_path / "images" / uuid)
    done = command(
        "geoguesser.predict", f"run={folder}", f"images={tmp_path / 'images'}", f"out={tmp_path / 'p.csv'}"
    )
    assert done.returncode == 0, done.stderr
    predictions = pd.read_csv(tmp_path / "p.csv")
    assert list(predictions)[:8] == [
        "uuid", "latitude", "longitude", "expected_error_km", "radius_50_km", "radius_90_km", "in_region", "views"
    ]  # fmt: skip
    assert list(predictions.uuid) == sorted(truth.index)
    columns = ["latitude", "longitude"]
    np.testing.assert_allclose(predictions[columns], truth.loc[predictions.uuid, columns], atol=2e-4)
    assert f"{len(truth)} places written" in done.stdout
    # The journal is removed.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "p.csv"]


def test_config_can_be_shown_and_completed():
    shown = command("geoguesser.train", "--cfg", "job", "head=regression")
    assert "RegressionHead" in shown.stdout
    script = Path(sys.executable).parent / "geoguesser-train"
    env = os.environ | {"COMP_LINE": "geoguesser-train head=", "COMP_POINT": "22"}
    done = subprocess.run([script, "-sc", "query=bash"], env=env, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"head=classification", "head=hybrid", "head=regression"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["grid.size=abc"], "error: grid.size must be a positive integer, got 'abc'.", marks=pytest.mark.slow
        ),
        (["grid.sise=60"], "Key 'sise' is not in struct"),
        (["image=56"], "error: image must be one of px112, px224, px448, px56, got 56."),
    ],
)
def test_bad_input_is_one_message_without_a_traceback(words: list[str], message: str, tmp_path: Path):
    done = command("geoguesser.train", *words, "logger=csv", cwd=tmp_path, traced=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 20
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.slow
def test_other_commands_name_their_failed_jobs(tmp_path: Path):
    done = command("geoguesser.predict", "--multirun", "run=a,b", "images=x", cwd=tmp_path)
    assert done.returncode == 1
    assert "2 of the jobs failed:" in done.stderr
    assert "(run=b images=x): MissingFileError: images=x must be there." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_wheel_contains_its_configs(tmp_path: Path):
    """The wheel is built, installed beside the environment's packages and run from another folder."""
    built = command("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    uv, install = Path(sys.executable).parent / "uv", ["pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([uv, *install, site, wheel], check=True)
    code = "import geoguesser, geoguesser.commands.configs as c; print(geoguesser.__file__, c.conf_dir())"
    env = {"PYTHONPATH": str(site)}
    words = [sys.executable, "-c", code]
    where = subprocess.run(words, cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, check=True)
    assert where.stdout.split() == [str(site / "geoguesser/__init__.py"), str(site / "geoguesser/conf")]
    done = command("geoguesser.train", *TINY, "trainer.max_epochs=1", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ddp_on_two_processes_counts_every_place_once(tmp_path: Path):
    # Lightning chooses ddp automatically.
    words = [*TINY, "trainer.devices=2", "trainer.max_epochs=2"]
    done = command("geoguesser.train", *words, f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "two/result.json").read_text())
    table = pd.read_csv(tmp_path / "two/predictions_test.csv")
    assert len(table) == table.uuid.nunique() == result["counts"]["test"]
    # Each process has half of the training places.
    assert result["steps"] == -(-result["counts"]["train"] // 2 // 32) * 2
    repeated = command(
        "geoguesser.train", *words, "grid.size=7", f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path
    )
    assert repeated.returncode == 1
    assert "contains a run already" in repeated.stderr
    assert json.loads((tmp_path / "two/status.json").read_text())["state"] == "done"
    assert "grid.size=7" not in (tmp_path / "two/overrides.yaml").read_text()


@pytest.mark.slow
def test_ctrl_c_ends_a_run_cleanly(tmp_path: Path):
    words = [*WORDS[:-1], "trainer.max_epochs=2000", "callbacks.early_stopping=null"]
    with start_command("geoguesser.train", *words, f"hydra.run.dir={tmp_path / 'run'}") as process:
        read_until(process, "epoch    3/")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (tmp_path / "run/result.json").exists()
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    (folder,) = (tmp_path / "run").glob("wandb/offline-run-*")
    (end,) = (record["exit"] for record in read_back(folder) if record["type"] == "exit")
    assert end["exit_code"] == 255
