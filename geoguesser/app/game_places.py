"""Test places of a run for the game, with the run's predictions and the photos.

The photos come from the data of the run's config: roots, a store, or the cache of the demo. Places whose photos
are no longer there are left out; nothing is rendered or downloaded for them.
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

from geoguesser.arrays import ByteArray, FloatArray
from geoguesser.data.checks.inspection import PlaceFiles
from geoguesser.data.images import ImageSpec, decode_rgb, read_bytes, read_header
from geoguesser.data.places import find_views_folder, list_names
from geoguesser.data.store.reader import Store, is_store
from geoguesser.errors import DataError, GeoguesserError, first_line
from geoguesser.runs.run_images import find_folders

log = logging.getLogger(__name__)
# Longer side of a photo in the game: enough for half the width of a desktop screen.
MAX_PHOTO_PX = 640
JPEG_QUALITY = 85
PREDICTION_COLUMNS = ["uuid", "latitude", "longitude", "true_latitude", "true_longitude"]
PREDICTIONS_FILE = "predictions_test.csv"
DEMO_LABEL = "synthetic demo"


@dataclass(frozen=True)
class GamePlaces:
    """N test places whose photos are available.

    Attributes:
        uuid: (N,) ids.
        true_deg: (N, 2) true coordinates in degrees.
        predicted_deg: (N, 2) coordinates that the run predicted, in degrees.
        sources: (N,) root or store with the photos of each place.
    """

    uuid: list[str]
    true_deg: FloatArray
    predicted_deg: FloatArray
    sources: list[Path | Store]

    def __len__(self) -> int:
        return len(self.uuid)

    def find_views(self, row: int) -> list[bool]:
        """Returns (4,) views present of a place, by heading; none if they cannot be listed, with a warning."""
        uuid, source = self.uuid[row], self.sources[row]
        try:
            if isinstance(source, Store):
                return [bool(present) for present in source.mask()[_read_store_rows(source.folder)[uuid]]]
            folder = find_views_folder(source, uuid)
            return [False] * 4 if folder is None else [name is not None for name in list_names(str(folder))[0]]
        except (GeoguesserError, OSError) as error:
            log.warning("the views of %s cannot be listed (%s)", uuid, first_line(error))
            return [False] * 4

    def read_photo(self, row: int, heading: int) -> bytes | None:
        """Encodes a view as a new JPEG file, without the metadata that a camera wrote into the original.

        Args:
            row: Row of the place.
            heading: Number of the heading, 0 to 3.

        Returns:
            The file, or None if the view is missing or cannot be read, the latter with a warning.
        """
        uuid, source = self.uuid[row], self.sources[row]
        try:
            image = (
                _read_from_store(uuid, source, heading)
                if isinstance(source, Store)
                else _read_from_root(uuid, source, heading)
            )
        except (GeoguesserError, OSError, ValueError) as error:
            log.warning("a view of %s cannot be shown (%s)", uuid, first_line(error))
            return None

        if image is None:
            return None
        return simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB", "420")


def find_game_places(folder: Path, config: Mapping[str, Any]) -> GamePlaces:
    """Finds the test places of a run whose photos are available.

    Args:
        folder: Run folder.
        config: Config of the run.

    Raises:
        DataError: If there are none. The message is a sentence without paths, because clients see it.
    """
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise DataError(f"The run has no {PREDICTIONS_FILE}, so there are no test places.")
    try:
        table = pd.read_csv(path, dtype={"uuid": str}, usecols=PREDICTION_COLUMNS)
    except ValueError as error:
        raise DataError(f"The run's {PREDICTIONS_FILE} cannot be read ({first_line(error)}).") from error

    sources = _open_sources(config)
    sources_by_row = [_find_source(uuid, sources) for uuid in table["uuid"]]
    available = np.array([source is not None for source in sources_by_row], dtype=bool)
    if not available.any():
        raise DataError("The photos of the run's test places are no longer where they were during training.")
    if not available.all():
        log.warning(
            "%d of %d test places have no photos here and are not in the game", (~available).sum(), len(available)
        )

    table = table[available]
    return GamePlaces(
        uuid=table["uuid"].tolist(),
        true_deg=table[["true_latitude", "true_longitude"]].to_numpy(float),
        predicted_deg=table[["latitude", "longitude"]].to_numpy(float),
        sources=[source for source in sources_by_row if source is not None],
    )


def make_data_label(config: Mapping[str, Any]) -> str:
    """Returns the label of a run's training data, `synthetic demo` for the demo; empty for real places."""
    if "demo_seed" in (config.get("data") or {}):
        return DEMO_LABEL
    return next((source.label for source in _open_sources(config) if isinstance(source, Store)), "")


def _open_sources(config: Mapping[str, Any]) -> list[Path | Store]:
    """Opens the roots and stores of a config, as far as they still exist."""
    sources: list[Path | Store] = []
    for path in find_folders(config.get("data") or {}):
        if path.is_dir():
            try:
                sources.append(Store.open(path) if is_store(path) else path)
            except GeoguesserError as error:
                log.warning("the run's store cannot be used: %s", first_line(error))
    return sources


def _find_source(uuid: str, sources: list[Path | Store]) -> Path | Store | None:
    for source in sources:
        if isinstance(source, Store):
            if uuid in _read_store_rows(source.folder):
                return source
        elif find_views_folder(source, uuid) is not None:
            return source
    return None


@cache
def _read_store_rows(folder: Path) -> dict[str, int]:
    """Reads the rows of a store by the id of the place, once for each store."""
    return {uuid: row for row, uuid in enumerate(Store.open(folder).table()["uuid"])}


def _read_from_root(uuid: str, root: Path, heading: int) -> ByteArray | None:
    """Reads a view as (H, W, 3) RGB, whose longer side is at most `MAX_PHOTO_PX`."""
    folder = find_views_folder(root, uuid)
    files = None if folder is None else PlaceFiles(str(folder), list_names(str(folder))[0])
    if files is None or files.names[heading] is None:
        return None

    data = read_bytes(files.path(heading))
    image = decode_rgb(data, read_header(data), MAX_PHOTO_PX)
    scale = min(1.0, MAX_PHOTO_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    # OpenCV copies an image that has this size already.
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _read_from_store(uuid: str, store: Store, heading: int) -> ByteArray | None:
    """Reads a view as (S, S, 3) RGB in the largest size of the store."""
    row = _read_store_rows(store.folder)[uuid]
    if not store.mask()[row, heading]:
        return None

    size, fit = max((spec["size"], spec["fit"]) for spec in store.manifest["images"].values())
    views = store.views(ImageSpec(size=size, fit=fit)).gather(np.array([row]))
    image: ByteArray = views[0, heading].permute(1, 2, 0).numpy()
    return image
