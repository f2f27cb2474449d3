"""Tiny runs that several modules read."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, compose

from geoguesser.data.demo.dataset import get_demo_folder

# 24 of 60 places are for the test: enough for a difference, too few for the interval of a mean.
SHARES = "split.shares=[0.4,0.2,0.4]"
CALIBRATED = "calibration.min_places=2"
JOBS = ([CALIBRATED, "seed=0"], [CALIBRATED, "seed=1"], ["head=regression"])


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweep with two seeds of a calibrated classifier (0, 1) and a regression without calibration (2)."""
    from geoguesser.commands.train import run_training
    from geoguesser.system.log_filters import filter_logs

    filter_logs()
    folder = tmp_path_factory.mktemp("multirun") / "heads"
    for number, words in enumerate(JOBS):
        run_training(compose([*TINY, SHARES, *words]), folder / str(number))
    return folder


@pytest.fixture(scope="session")
def demo_root() -> Path:
    """Folder of the places that the runs were trained on."""
    return get_demo_folder(places=60, seed=0, px=56)
