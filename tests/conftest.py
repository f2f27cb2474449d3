"""Shared by all tests: no network, one cache for the demo, jobs in this process and commands in others."""

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


def own_cache() -> Path:
    """A cache of this session alone, for features of older code would hide its mistakes; the demo is shared."""
    SHARED.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix="geoguesser-session-"))
    for root in SHARED.glob("demo-*"):
        (own / root.name).symlink_to(root)
    return own


OWN_CACHE = None if "GEOGUESSER_CACHE" in os.environ else own_cache()  # xdist's workers inherit it
os.environ["GEOGUESSER_CACHE"] = str(OWN_CACHE or os.environ["GEOGUESSER_CACHE"])
os.environ["OMP_NUM_THREADS"] = os.environ.get("GEOGUESSER_TEST_THREADS", "1")  # two workers share two cores

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT.parent / "shared" / "real_sample"
TINY = [  # a run of about a second: no pip weights, no pictures, no service
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
    """What was rendered in this session serves the next one; features do not."""
    if OWN_CACHE is None:
        return
    for root in OWN_CACHE.glob("demo-*"):
        if not root.is_symlink() and not (SHARED / root.name).exists():
            shutil.move(root, SHARED / root.name)
    shutil.rmtree(OWN_CACHE, ignore_errors=True)


def compose(overrides: list[str], config_name: str = "train") -> Any:
    """Composes a config as the command line would."""
    import hydra

    from geoguesser.commands.configs import conf_dir

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        return hydra.compose(config_name, overrides=overrides)


@pytest.fixture(scope="session")
def croatia() -> Any:
    """The first country, in its own CRS."""
    from geoguesser.geo.region import country

    return country("HRV", "EPSG:3765")


@pytest.fixture(scope="session")
def earth() -> Any:
    """The world, on the sphere."""
    from geoguesser.geo.region import world

    return world()


@pytest.fixture
def run_job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs one job in this process: run_job(overrides, folder=...) -> result."""
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

    Under coverage's tracing Hydra believes in a debugger and prints tracebacks: `traced=False` does without.
    """
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd or ROOT,
        env={key: value for key, value in os.environ.items() if traced or not key.startswith("COVERAGE_")}
        | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def read_back(run: Path) -> list[dict]:
    """All records of an offline run, by W&B's own reader."""
    wandb = Path(sys.executable).parent / "wandb"
    words = [wandb, "leet", "inspect", "--json", run]
    lines = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in lines.splitlines()]
