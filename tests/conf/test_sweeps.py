"""Named sweeps: each value composes and gives a different job."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from geoguesser.commands.configs import conf_dir, resolve_run_config
from geoguesser.sweeps.job_name import make_job_name

SWEEPS = sorted(path.stem for path in Path(conf_dir(), "sweep").glob("*.yaml"))


def params(name: str) -> dict[str, str]:
    node = OmegaConf.load(Path(conf_dir(), "sweep", f"{name}.yaml"))
    assert node.hydra.mode == "MULTIRUN"
    return {str(key): str(value) for key, value in node.hydra.sweeper.params.items()}


@pytest.mark.parametrize("name", [name for name in SWEEPS if name != "optuna"])
def test_each_value_gives_a_different_job(name: str):
    given = params(name)
    (varied,) = (key for key, value in given.items() if "," in value)
    fixed = [f"{key}={value}" for key, value in given.items() if key != varied]
    values = given[varied].split(",")
    jobs = [resolve_run_config(compose([f"sweep={name}", *fixed, f"{varied}={value}"])) for value in values]
    assert len({make_job_name(job) for job in jobs}) == len(values) >= 3
    assert all("sweep" not in job for job in jobs)


def test_the_search_space_composes():
    given = params("optuna")
    words = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in given.items()])
    assert [word.key_or_group for word in words] == ["optimizer.lr", "loss.tau", "grid.size", "fusion"]
    assert all(word.is_sweep_override() for word in words)
    for fusion in words[-1].value().list:
        compose(["sweep=optuna", f"fusion={fusion}", "optimizer.lr=1e-3", "loss.tau=0.2", "grid.size=20"])
