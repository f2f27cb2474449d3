"""Sweeps as users start, stop and repeat them, in subprocesses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, TINY, command, read_back
from omegaconf import OmegaConf
from support.background import read_until, start_command
from support.waiting import wait_until

FAULT = """
import os
import signal

from pytorch_lightning import Callback


class Fault(Callback):
    def __init__(self, at, size):
        self.breaks = at == size
        self.dies = os.environ.get("DIES_AT") == str(size)

    def on_train_epoch_end(self, trainer, pl_module):
        if self.breaks:
            raise RuntimeError("a fault of the test's")
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
"""
WANDB = [word for word in TINY if word != "logger=csv"]


def read_states(folder: Path) -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["state"] for path in folder.glob("*/status.json")}


@pytest.mark.slow
def test_a_killed_sweep_with_failing_jobs_is_repeated(tmp_path: Path):
    """Of twelve jobs one raises, one is refused and one is killed; ten have results at the end."""
    (tmp_path / "fault.py").write_text(FAULT)
    sizes = "grid.size=8,9,10,11,12,-1,13,14,15,16,17,18"
    fault = ["+callbacks.fault={_target_:fault.Fault,at:11,size:${grid.size}}"]
    words = ["--multirun", sizes, *fault, *WANDB, "sweep.name=faults"]
    folder = tmp_path / "multirun/faults"

    # Ends in the middle of the ninth job.
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    died = command("geoguesser.train", *words, cwd=tmp_path, env=environment | {"DIES_AT": "15"})
    assert died.returncode == -signal.SIGKILL
    before = read_states(folder)
    assert sorted(before.values()) == [*["done"] * 6, "failed", "failed", "running"]
    (killed,) = (name for name, state in before.items() if state == "running")
    written = {
        name: (folder / name / "result.json").stat().st_mtime_ns for name in before if before[name] == "done"
    }

    done = command("geoguesser.train", *words, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "4 done, 6 done before, 2 failed" in done.stdout
    assert "2 of the jobs failed or did not end:" in done.stderr
    assert "(grid.size=-1): ConfigError: grid.size must be a positive integer, got -1." in done.stderr
    assert "(grid.size=11): RuntimeError: a fault of the test's" in done.stderr
    assert done.stderr.count("Traceback") == 0
    after = read_states(folder)
    assert sorted(after.values()) == [*["done"] * 10, "failed", "failed"]
    assert all((folder / name / "result.json").stat().st_mtime_ns == at for name, at in written.items())

    table = pd.read_csv(folder / "summary.csv").set_index("grid.size")
    assert table["state"].tolist() == [*["done"] * 10, "failed", "failed"]
    assert set(table.index) == {*range(8, 19), -1}
    for size, row in table.head(10).iterrows():
        result = json.loads((folder / row["job"] / "result.json").read_text())
        assert row["test_error_km_mean"] == pytest.approx(result["test"]["error_km_mean"], abs=1e-6)
        assert OmegaConf.load(folder / row["job"] / "config.yaml").grid.size == size
    broken = table["job"][11]
    assert "on_train_epoch_end" in (folder / broken / "error.log").read_text()

    # Refused jobs leave no record, and that of W&B starts a little later than the job.
    recorded = set()
    for run in folder.glob("*/wandb/offline-run-*"):
        groups = [record["run"]["run_group"] for record in read_back(run) if record["type"] == "run"]
        assert groups == ["faults"] or (groups == [] and run.parents[1].name == killed)
        recorded.add(run.parents[1].name)
    assert recorded == {broken, *(name for name, state in after.items() if state == "done")}


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_with_instructions(tmp_path: Path):
    words = ["--multirun", "seed=0,1,2", *TINY, "sweep.name=stopped"]
    words += ["trainer.max_epochs=5000", "callbacks.early_stopping=null"]
    log = tmp_path / "multirun/stopped"
    with start_command("geoguesser.train", *words, cwd=tmp_path) as process:
        read_until(process, "#0 : seed=0")
        wait_until(
            lambda: any("epoch    3/" in path.read_text() for path in log.glob("*/train.log")), timeout_s=120
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "#0" in output
    assert "interrupted" in output
    assert "The same command with sweep.name=stopped runs the missing jobs." in output
    assert list(read_states(log).values()) == ["interrupted"]
    assert (log / "summary.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", ["joblib hydra.launcher.n_jobs=2", "submitit_local hydra.launcher.timeout_min=5"]
)
def test_parallel_launchers_share_the_sweep_folder(launcher: str, tmp_path: Path):
    """Two jobs, a duplicate and a refused job in several processes; the summary has all of them."""
    words = ["--multirun", "head=classification,regression", "grid.size=10,-1", *TINY, "sweep.name=many"]
    words += f"hydra/launcher={launcher}".split()
    done = command("geoguesser.train", *words, cwd=tmp_path, traced=False)
    folder = tmp_path / "multirun/many"
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 done, 1 duplicates, 1 failed" in done.stdout
    assert "ConfigError: grid.size must be a positive integer, got -1." in done.stderr
    assert sorted(read_states(folder).values()) == ["done", "done", "failed"]
    assert pd.read_csv(folder / "summary.csv")["state"].tolist() == ["done", "done", "failed"]
    repeated = command("geoguesser.train", *words, "trainer=cpu", cwd=tmp_path, traced=False)
    assert "2 done before, 1 duplicates, 1 failed" in repeated.stdout


@pytest.mark.slow
def test_a_search_continues_until_its_trials_are_done(tmp_path: Path):
    words = ["sweep=optuna", *TINY, "sweep.name=search", "grid.size=range(8,12)"]
    first = command("geoguesser.train", *words, "hydra.sweeper.n_trials=2", cwd=tmp_path, traced=False)
    assert first.returncode == 0, first.stdout + first.stderr
    folder = tmp_path / "multirun/search"
    first_rates = set(pd.read_csv(folder / "summary.csv")["optimizer.lr"])
    assert len(first_rates) == 2
    second = command("geoguesser.train", *words, "hydra.sweeper.n_trials=3", cwd=tmp_path, traced=False)
    assert "2 of 3 trials are done: 1 to go" in second.stdout
    table = pd.read_csv(folder / "summary.csv")
    # The second command does not repeat the suggestions of the first.
    assert len(set(table["optimizer.lr"]) - first_rates) == 1
    assert table["grid.size"].between(8, 12).all()
    assert table["loss.tau"].between(0.1, 1.0).all()
    best = OmegaConf.load(folder / "optimization_results.yaml")
    assert best.best_value == pytest.approx(table["val_error_km_mean"].min())
    third = command("geoguesser.train", *words, "hydra.sweeper.n_trials=3", cwd=tmp_path, traced=False)
    assert "3 of 3 trials are done: 0 to go" in third.stdout
    assert len(pd.read_csv(folder / "summary.csv")) == 3


def test_a_sweep_stays_below_multirun(tmp_path: Path):
    done = command("geoguesser.train", "--multirun", "seed=0,1", *TINY, "sweep.name=../elsewhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: sweep.name must be a folder's name below multirun/" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("status.json"))
