"""The entry point of training: what it passes on, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from geoguesser import train
from geoguesser.train import count_processes, expand_resume


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
    monkeypatch.setattr("geoguesser.system.cpu.count_system_cores", lambda: 8)
    assert count_processes(launcher) == processes


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


@pytest.mark.parametrize(
    "name", ["plain-2.0", "with space", "šuma", "it's", "a,b", "a=b", "(x)", "back\\", "back\\'s"]
)
def test_a_resumed_folder_may_have_any_name(name: str, tmp_path: Path):
    """Hydra reads the word as well, and would stumble over most of these."""
    run = tmp_path / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.ckpt").touch()
    (run / "overrides.yaml").write_text("- seed=3\n")
    words = expand_resume(["train", f"resume={run}", "pictures=false"])
    assert [words[1], words[3]] == ["seed=3", "pictures=false"]
    parsed = OverridesParser.create().parse_overrides(words[1:])
    found = {one.key_or_group: one.value() for one in parsed}
    assert found["resume"] == found["hydra.run.dir"] == str(run)
