"""Shared fixtures: no network, one cache of the demo, runs in this process and commands in subprocesses."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
SHARED = Path(tempfile.gettempdir()) / f"geoguesser-tests-{getpass.getuser()}"


def make_session_cache() -> Path:
    """Makes a cache for this session that shares only the demo: features of older code would hide mistakes."""
    SHARED.mkdir(parents=True, exist_ok=True)
    cache = Path(tempfile.mkdtemp(prefix="geoguesser-session-"))
    for root in SHARED.glob("demo-*"):
        (cache / root.name).symlink_to(root)
    return cache


# Workers of xdist inherit the variable.
SESSION_CACHE = None if "GEOGUESSER_CACHE" in os.environ else make_session_cache()
os.environ["GEOGUESSER_CACHE"] = str(SESSION_CACHE or os.environ["GEOGUESSER_CACHE"])
# Two workers share two cores.
os.environ["OMP_NUM_THREADS"] = os.environ.get("GEOGUESSER_TEST_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT.parent / "shared" / "real_sample"
# A run of about a second, without weights from pip, pictures and services.
TINY = [
    "backbone.name=mobilenetv3_small_050",
    "backbone.pretrained=false",
    "backbone.source=hub",
    "image=px56",
    "image.size=32",
    "data.places=60",
    "data.px=56",
    "density=coarse",
    "logger=csv",
    "pictures=false",
    "trainer=cpu",
    "trainer.max_epochs=2",
]


def pytest_unconfigure() -> None:
    """Keeps the demo that this session rendered for later sessions, and removes its features."""
    if SESSION_CACHE is None:
        return

    for root in SESSION_CACHE.glob("demo-*"):
        if not root.is_symlink() and not (SHARED / root.name).exists():
            shutil.move(root, SHARED / root.name)
    shutil.rmtree(SESSION_CACHE, ignore_errors=True)


def compose(overrides: list[str], config_name: str = "train") -> Any:
    """Composes a config as the command line would."""
    import hydra

    from geoguesser.commands.configs import conf_dir

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        return hydra.compose(config_name, overrides=overrides)


@pytest.fixture(scope="session")
def croatia() -> Any:
    """Default country, in its national CRS."""
    from geoguesser.geo.region import country

    return country("HRV", "EPSG:3765")


@pytest.fixture(scope="session")
def earth() -> Any:
    """World, on the sphere."""
    from geoguesser.geo.region import world

    return world()


@pytest.fixture
def run_job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains a run in this process: run_job(overrides, folder) -> result."""
    from geoguesser.commands.train import run_training
    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.log_filters import filter_logs

    keep_freed_memory()

    def job(overrides: list[str], folder: Path | None = None) -> dict[str, Any]:
        filter_logs()
        return run_training(compose(overrides), folder or tmp_path / "run")

    return job


def command(
    *words: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 300,
    traced: bool = True,
) -> Any:
    """Runs `python -m ...` as a user would, and returns the finished process.

    Under coverage's tracing Hydra assumes a debugger and prints tracebacks: `traced=False` runs without it.
    """
    inherited = {key: value for key, value in os.environ.items() if traced or not key.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd or ROOT,
        env=inherited | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def read_back(run: Path) -> list[dict]:
    """Reads all records of an offline run with the reader of W&B."""
    wandb = Path(sys.executable).parent / "wandb"
    words = [wandb, "leet", "inspect", "--json", run]
    lines = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in lines.splitlines()]
