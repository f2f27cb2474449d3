"""Prediction for a folder of place folders, or for a store: the table that a competition asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from geoguesser.configs import known_keys, plain
from geoguesser.data.fingerprint import differences
from geoguesser.data.store import Store, is_store
from geoguesser.data.views import read_folder
from geoguesser.errors import CheckpointError, ConfigError, DataError, MissingFileError, check_choice, check_int
from geoguesser.locator import Locator
from geoguesser.reporting.result import write_csv

log = logging.getLogger(__name__)


class Places(NamedTuple):
    """Some places to predict: their ids, (B, 4, 3, S, S) uint8 views and (B, 4) mask."""

    names: list[str]
    views: Tensor
    mask: Tensor


def predict_folder(cfg: DictConfig) -> pd.DataFrame:
    """Predicts all places of `images` and writes `out`: uuid, latitude, longitude.

    Args:
        cfg: The config of conf/predict.yaml.

    Returns:
        The table that was written, in order of the folders' names, or in that of the store.

    Raises:
        GeoguesserError: What the user can mend; `out` is then not written.
    """
    config = plain(cfg, known_keys("predict"))
    batch_size = check_int("batch_size", config["batch_size"], low=1)
    skip = check_choice("on_bad", config["on_bad"], ("error", "skip")) == "skip"
    mask = check_choice("missing_views", config["missing_views"], ("error", "mask")) == "mask"
    device = _device(str(config["device"]))
    images = Path(str(config["images"])).expanduser()
    store = Store.open(images) if is_store(images) else None
    folders = _place_folders(images) if store is None else []
    out = Path(str(config["out"])).expanduser()
    if not out.parent.is_dir():
        raise MissingFileError.at(f"out={out}", "must lie in a folder that exists", found=str(out.parent))
    locator = Locator.load(str(config["run"]), device=device)
    bad: list[str] = []
    masked: list[str] = []
    if store is not None:
        total, batches = len(store.table()), _from_store(store, locator, batch_size)
    else:
        lists = (bad, masked) if skip else (None, None)
        total, batches = len(folders), _from_folders(folders, locator, batch_size, mask, lists)
    names, coords = [], []
    with tqdm(total=total, desc="predicting", unit=" places", disable=None) as bar:
        for some in batches:
            names += some.names
            coords.append(locator.predict(some.views, some.mask))
            bar.update(len(some.names))
    if not names:
        raise DataError.at(
            f"images={images}", f"must hold a place with four whole views; {len(bad)} were left out"
        )
    found = np.concatenate(coords)
    table = pd.DataFrame({"uuid": names, "latitude": found[:, 0], "longitude": found[:, 1]})
    write_csv(out, table)
    for word, lines in (("left out", bad), ("masked", masked)):
        for line in lines:
            log.warning("%s: %s", word, line)
    log.info("%d places written to %s, %d left out", len(table), out, len(bad))
    return table


def _from_folders(
    folders: list[Path],
    locator: Locator,
    batch_size: int,
    mask: bool,
    lists: tuple[list[str] | None, list[str] | None],
) -> Iterator[Places]:
    """Batches of place folders; what cannot be read goes into the lists, or is an error where there are none."""
    bad, masked = lists
    for start in range(0, len(folders), batch_size):
        names, some = [], []
        for folder in folders[start : start + batch_size]:
            try:
                some.append(read_folder(str(folder), locator.image, mask=mask, broken=masked))
                names.append(folder.name)
            except DataError as error:
                if bad is None:
                    raise DataError(f"{error} To leave such places out: on_bad=skip") from error
                bad.append(str(error))
        if some:
            views, masks = (torch.from_numpy(np.stack(part)) for part in zip(*some, strict=True))
            yield Places(names, views, masks)


def _from_store(store: Store, locator: Locator, batch_size: int) -> Iterator[Places]:
    """Batches of a store, whose views must have been prepared as those that the run was trained on."""
    if locator.image.name not in store.manifest["images"]:
        held = " and ".join(store.manifest["images"])
        raise CheckpointError(
            f"images={store.folder} cannot be predicted by this run: size and fit of views differ "
            f"({locator.image.name} in the run, {held} in the store). Prepare that size too, or name images."
        )
    own = store.fingerprint(locator.image)
    if locator.data is not None and (found := differences(locator.data, own, ("decoder",))):
        raise CheckpointError(
            f"images={store.folder} cannot be predicted by this run, for the store's views differ in "
            f"{'; '.join(found)}. Prepare the store again with the run's versions, or name image folders."
        )
    ids, masks, views = store.table()["uuid"].tolist(), torch.from_numpy(store.mask()), store.views(locator.image)
    for start in range(0, len(ids), batch_size):
        rows = np.arange(start, min(start + batch_size, len(ids)))
        yield Places([ids[row] for row in rows], views.gather(rows), masks[rows])


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
