"""Loading: the runs and the device that a config names, as objects. No Hydra."""

from __future__ import annotations

import logging
from typing import Any

import torch

from geoguesser.errors import ConfigError
from geoguesser.inference.ensemble import Ensemble

log = logging.getLogger(__name__)


def load_runs(run: Any, *, device: torch.device) -> Ensemble:
    """Loads the run or runs that a config names.

    Raises:
        ConfigError: It names none, or runs of different regions.
        MissingFileError: One is not there.
        CheckpointError: One is no locator.
    """
    given = [run] if isinstance(run, str) else run
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        raise ConfigError.at("run", "must name a run folder, or several", found=run)
    ensemble = Ensemble.load(given, device=device)
    ensemble.fold()
    if len(given) > 1:
        way = "points by geometric median, for grids differ" if ensemble.grid is None else "posteriors averaged"
        log.info("an ensemble of %d runs: %s", len(given), way)
    bare = [run for run, one in zip(given, ensemble.locators, strict=True) if one.calibration is None]
    if bare:
        log.info("not calibrated, so no expected errors and radii: %s", ", ".join(bare))
    return ensemble


def choose_device(name: str) -> torch.device:
    """The device that a config names; `auto` is CUDA's where there is one.

    Raises:
        ConfigError: This machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError.at("device", "must be auto or a device of this machine", found=name) from error
    return device
