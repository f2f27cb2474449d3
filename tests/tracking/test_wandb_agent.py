"""W&B's own sweep agent drives `python -m geoguesser.train` by examples/wandb_sweep.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, compose
from wandb_stub import ENTITY, WandbStub

from geoguesser.commands.configs import resolve

FILE = ROOT / "examples" / "wandb_sweep.yaml"
CHOSEN = {"head": "hybrid", "grid.size": 30, "loss.tau": 0.25, "optimizer.lr": 0.00031}


def command_line() -> list[str]:
    """The command as W&B's agent expands it, by its own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(FILE.read_text())
    args = create_sweep_command_args({"args": {key: {"value": value} for key, value in CHOSEN.items()}})
    args |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words: list[str] = []
    for word in create_sweep_command(sweep["command"]):
        words += args[word[2:-1]] if word.startswith("${") and word.endswith("}") else [word]
    return words


def test_the_command_line_is_one_that_train_takes():
    words = command_line()
    assert words[:4] == ["/usr/bin/env", "python", "-m", "geoguesser.train"]
    config = resolve(compose([word for word in words[4:] if not word.startswith("hydra.")]))
    assert config["head"]["_target_"].endswith("HybridHead.fit")
    assert (config["grid"]["size"], config["loss"]["tau"], config["optimizer"]["lr"]) == (30, 0.25, 0.00031)
    assert config["logger"]["mode"] == "online"


def test_every_parameter_is_a_key_and_the_metric_is_one_that_is_logged():
    sweep = yaml.safe_load(FILE.read_text())
    assert set(sweep["parameters"]) == set(CHOSEN)
    for key, choice in sweep["parameters"].items():
        for value in choice.get("values", [choice.get("min"), choice.get("max")]):
            resolve(compose([f"{key}={value}"]))
    monitored = resolve(compose([]))["callbacks"]["early_stopping"]
    assert sweep["metric"] == {"name": monitored["monitor"], "goal": "minimize"}


@pytest.mark.slow
def test_the_agent_runs_a_job_into_its_sweep(tmp_path: Path):
    """The real agent, told by a server to run one job and then to end."""
    sweep = yaml.safe_load(FILE.read_text())
    tiny = [word for word in TINY if word != "logger=csv" and not word.startswith("density")]
    sweep["command"] += tiny
    with WandbStub() as server:
        server.sweep = yaml.safe_dump(sweep)
        args = {key: {"value": value} for key, value in CHOSEN.items()}
        server.jobs = [
            {"id": "1", "type": "run", "run_id": "abcd1234", "program": sweep["program"], "args": args},
        ]
        env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | server.env
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [Path(sys.executable).parent / "wandb", "agent", "--count", "1", f"{ENTITY}/geoguesser/sweep001"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "multirun/sweep001/abcd1234"
    result = json.loads((folder / "result.json").read_text())
    sent = server.runs["abcd1234"]
    assert (sent["sweep"], sent["groupName"], sent["exit"]) == ("sweep001", "sweep001", 0)
    assert sent["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert [row["val/error_km_mean"] for row in sent["history"] if "val/error_km_mean" in row]
    config = {key: one["value"] for key, one in sent["config"].items()}
    assert {key: config[key] for key in CHOSEN} == CHOSEN
    assert config["choice"]["head"] == "hybrid"
