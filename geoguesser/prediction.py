"""Prediction for a folder of place folders: the table that a competition asks for."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from geoguesser.configs import known_keys, plain
from geoguesser.data.views import read_place
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_choice, check_int
from geoguesser.locator import Locator
from geoguesser.reporting.result import write_csv

log = logging.getLogger(__name__)


def predict_folder(cfg: DictConfig) -> pd.DataFrame:
    """Predicts all place folders of `images` and writes `out`: uuid, latitude, longitude.

    Args:
        cfg: The config of conf/predict.yaml.

    Returns:
        The table that was written, in order of the folders' names.

    Raises:
        GeoguesserError: What the user can mend; `out` is then not written.
    """
    config = plain(cfg, known_keys("predict"))
    batch_size = check_int("batch_size", config["batch_size"], low=1)
    skip = check_choice("on_bad", config["on_bad"], ("error", "skip")) == "skip"
    device = _device(str(config["device"]))
    images = Path(str(config["images"])).expanduser()
    folders = _place_folders(images)
    out = Path(str(config["out"])).expanduser()
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={out}", "must lie in a folder that exists", found=str(out.parent))
    locator = Locator.load(str(config["run"]), device=device)
    names, coords, bad = [], [], []
    with tqdm(total=len(folders), desc="predicting", unit=" places", disable=None) as bar:
        for start in range(0, len(folders), batch_size):
            views = []
            for folder in folders[start : start + batch_size]:
                try:
                    views.append(read_place(str(folder), locator.image))
                    names.append(folder.name)
                except DataError as error:
                    if not skip:
                        raise DataError(f"{error} To leave such places out: on_bad=skip") from error
                    bad.append(str(error))
                bar.update()
            if views:
                coords.append(locator.predict(torch.from_numpy(np.stack(views))))
    if not names:
        raise DataError.at(
            f"images={images}", f"must hold a place with four whole views; {len(bad)} were left out"
        )
    found = np.concatenate(coords)
    table = pd.DataFrame({"uuid": names, "latitude": found[:, 0], "longitude": found[:, 1]})
    write_csv(out, table)
    for line in bad:
        log.warning("left out: %s", line)
    log.info("%d places written to %s, %d left out", len(table), out, len(bad))
    return table


def _place_folders(images: Path) -> list[Path]:
    if not images.is_dir():
        raise MissingFileError.at(f"images={images}", "must be a folder of place folders")
    folders = sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError.at(
            f"images={images}",
            "must hold folders, one per place",
            remedy="Each holds 0.jpg, 90.jpg, 180.jpg, 270.jpg.",
        )
    return folders


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError.at("device", "must be auto or a device of this machine", found=name) from error
    return device
