"""The entry point of training: what it passes on, and how it ends."""

from __future__ import annotations

import sys

import pytest

from geoguesser import train
from geoguesser.train import processes_of


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 1),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 3}, 3),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": -1}, 8),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": -2}, 7),
        ({"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}, 1),
    ],
)
def test_jobs_at_once_are_those_of_joblib(launcher: dict, processes: int, monkeypatch):
    monkeypatch.setattr("geoguesser.data.examine.system_cores", lambda: 8)
    assert processes_of(launcher) == processes


@pytest.mark.parametrize(
    ("end", "sweep", "code"),
    [
        (None, 0, 0),
        (None, 1, 1),
        (SystemExit(3), 0, 3),
        (SystemExit(0), 1, 1),
        (KeyboardInterrupt(), 0, "interrupted"),
    ],
)
def test_the_exit_code_is_that_of_the_run_or_of_the_sweep(end, sweep: int, code, monkeypatch):
    def launch(name: str, task: object) -> None:
        if end is not None:
            raise end

    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr(train, "launch", launch)
    monkeypatch.setattr(train, "end_of_sweep", lambda: sweep)
    with pytest.raises(SystemExit) as found:
        train.main()
    assert found.value.code == code
