"""W&B's sweep agent, which runs `python -m geoguesser.train` as examples/wandb_sweep.yaml describes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, compose
from support.wandb_stub import ENTITY, WandbStub

from geoguesser.commands.configs import resolve_run_config

FILE = ROOT / "examples" / "wandb_sweep.yaml"
CHOSEN = {"head": "hybrid", "grid.size": 30, "loss.tau": 0.25, "optimizer.lr": 0.00031}


def test_parameters_are_config_keys_and_the_metric_is_logged():
    sweep = yaml.safe_load(FILE.read_text())
    assert set(sweep["parameters"]) == set(CHOSEN)
    for key, choice in sweep["parameters"].items():
        for value in choice.get("values", [choice.get("min"), choice.get("max")]):
            resolve_run_config(compose([f"{key}={value}"]))
    monitored = resolve_run_config(compose([]))["callbacks"]["early_stopping"]
    assert sweep["metric"] == {"name": monitored["monitor"], "goal": "minimize"}


@pytest.mark.slow
def test_the_agent_runs_a_job_into_its_sweep(tmp_path: Path):
    """A server gives the real agent one job."""
    sweep = yaml.safe_load(FILE.read_text())
    tiny = [word for word in TINY if word != "logger=csv" and not word.startswith("density")]
    sweep["command"] += tiny
    with WandbStub() as server:
        server.sweep = yaml.safe_dump(sweep)
        args = {key: {"value": value} for key, value in CHOSEN.items()}
        job = {"id": "1", "type": "run", "run_id": "abcd1234", "program": sweep["program"], "args": args}
        server.jobs = [job]
        env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | server.env
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [Path(sys.executable).parent / "wandb", "agent", "--count", "1", f"{ENTITY}/geoguesser/sweep001"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr

    folder = tmp_path / "multirun/sweep001/abcd1234"
    result = json.loads((folder / "result.json").read_text())
    run = server.runs["abcd1234"]
    assert (run["sweep"], run["groupName"], run["exit"]) == ("sweep001", "sweep001", 0)
    assert run["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert [row["val/error_km_mean"] for row in run["history"] if "val/error_km_mean" in row]
    config = {key: column["value"] for key, column in run["config"].items()}
    assert {key: config[key] for key in CHOSEN} == CHOSEN
    assert config["choice"]["head"] == "hybrid"
