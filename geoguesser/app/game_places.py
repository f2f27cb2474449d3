"""Held-out places: those of a run's test split, with the run's own answers and their photos. For the game.

A run records where its data were: roots, a store, or the demo's cache. What is no longer there is not shown, and
nothing is drawn or fetched for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from geoguesser.arrays import FloatArray
from geoguesser.data.checks.inspection import PlaceFiles
from geoguesser.data.images import ImageSpec, decode_rgb, read_bytes, read_header
from geoguesser.data.places import find_views_folder, list_names
from geoguesser.data.store.reader import Store, is_store
from geoguesser.errors import DataError, GeoguesserError, first_line
from geoguesser.runs.run_images import find_folders

log = logging.getLogger(__name__)
MAX_PHOTO_PX, JPEG_QUALITY = 640, 85  # of the longer side; enough for half a desktop's screen
PREDICTION_COLUMNS = ["uuid", "latitude", "longitude", "true_latitude", "true_longitude"]
DEMO_LABEL = "synthetic demo"  # what is to say of the demo's places
PREDICTIONS_FILE = "predictions_test.csv"


@dataclass(frozen=True)
class GamePlaces:
    """N places of a test split whose photos are there.

    Attributes:
        uuid: (N,) their ids.
        true_deg: (N, 2) where they are.
        predicted_deg: (N, 2) where the run put them.
        sources: (N,) the root or store that has each.
    """

    uuid: list[str]
    true_deg: FloatArray
    predicted_deg: FloatArray
    sources: list[Path | Store]

    def __len__(self) -> int:
        return len(self.uuid)

    def headings(self, row: int) -> list[bool]:
        """(4,) which views a place has."""
        source = self.sources[row]
        try:
            if isinstance(source, Store):
                return [bool(one) for one in source.mask()[_rows_at(source.folder)[self.uuid[row]]]]
            folder = find_views_folder(source, self.uuid[row])
            names = (None,) * 4 if folder is None else list_names(str(folder))[0]
        except (GeoguesserError, OSError) as error:
            log.warning("the views of %s cannot be listed (%s)", self.uuid[row], first_line(error))
            return [False] * 4
        return [one is not None for one in names]

    def photo(self, row: int, heading: int) -> bytes | None:
        """One view as a fresh JPEG, without anything that a camera wrote into the file; None where there is none.

        Args:
            row: Of the place.
            heading: Its number from 0 to 3.
        """
        source = self.sources[row]
        try:
            image = (
                _of_store(self.uuid[row], source, heading)
                if isinstance(source, Store)
                else _of_root(self.uuid[row], source, heading)
            )
        except (GeoguesserError, OSError, ValueError) as error:
            log.warning("a view of %s cannot be shown (%s)", self.uuid[row], first_line(error))
            return None
        return (
            None
            if image is None
            else simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB", "420")
        )


def find_game_places(folder: Path, config: Mapping[str, Any]) -> GamePlaces:
    """The held-out places of a run.

    Args:
        folder: The run folder.
        config: The run's config.

    Raises:
        DataError: There are none; the message is a sentence that says why, without a path.
    """
    file = folder / PREDICTIONS_FILE
    if not file.is_file():
        raise DataError(f"The run has no {PREDICTIONS_FILE}, so there are no held-out places.")
    try:
        table = pd.read_csv(file, dtype={"uuid": str}, usecols=PREDICTION_COLUMNS)
    except ValueError as error:
        raise DataError(f"The run's {PREDICTIONS_FILE} cannot be read ({first_line(error)}).") from error
    sources = _sources(config)
    found = [_source(uuid, sources) for uuid in table["uuid"]]
    there = np.array([one is not None for one in found], dtype=bool)
    if not there.any():
        raise DataError("The photos of the run's held-out places are not where they were when it was trained.")
    if not there.all():
        log.warning(
            "%d of %d held-out places have no photos here and are not in the game", (~there).sum(), len(there)
        )
    own = table[there]
    return GamePlaces(
        uuid=own["uuid"].tolist(),
        true_deg=own[["true_latitude", "true_longitude"]].to_numpy(float),
        predicted_deg=own[["latitude", "longitude"]].to_numpy(float),
        sources=[one for one in found if one is not None],
    )


def make_data_label(config: Mapping[str, Any]) -> str:
    """What is to say of the data that a run learnt from, `synthetic demo`; empty for real places."""
    if "demo_seed" in (config.get("data") or {}):
        return DEMO_LABEL
    return next((one.label for one in _sources(config) if isinstance(one, Store)), "")


def _sources(config: Mapping[str, Any]) -> list[Path | Store]:
    found: list[Path | Store] = []
    for path in find_folders(config.get("data") or {}):
        if path.is_dir():
            try:
                found.append(Store.open(path) if is_store(path) else path)
            except GeoguesserError as error:
                log.warning("the run's store cannot be used: %s", first_line(error))
    return found


def _source(uuid: str, sources: list[Path | Store]) -> Path | Store | None:
    for one in sources:
        if isinstance(one, Store):
            if uuid in _rows_at(one.folder):
                return one
        elif find_views_folder(one, uuid) is not None:
            return one
    return None


@cache
def _rows_at(folder: Path) -> dict[str, int]:
    """Row by id; read once for each store."""
    return {uuid: row for row, uuid in enumerate(Store.open(folder).table()["uuid"])}


def _of_root(uuid: str, source: Path, heading: int) -> Any:
    """(H, W, 3) RGB of at most PHOTO_PX."""
    folder = find_views_folder(source, uuid)
    files = None if folder is None else PlaceFiles(str(folder), list_names(str(folder))[0])
    if files is None or files.names[heading] is None:
        return None
    data = read_bytes(files.path(heading))
    image = decode_rgb(data, read_header(data), MAX_PHOTO_PX)
    scale = MAX_PHOTO_PX / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def _of_store(uuid: str, source: Store, heading: int) -> Any:
    """(S, S, 3) RGB as it was packed, in the largest size."""
    row = _rows_at(source.folder)[uuid]
    if not source.mask()[row, heading]:
        return None
    size, fit = max((one["size"], one["fit"]) for one in source.manifest["images"].values())
    return source.views(ImageSpec(size=size, fit=fit)).gather(np.array([row]))[0, heading].permute(1, 2, 0).numpy()
