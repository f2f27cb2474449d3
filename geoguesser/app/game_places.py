"""Test places of a run for the game, with the run's predictions and the photos.

The photos come from the data of the run's config: roots, a store, or the cache of the demo. Places whose photos
are no longer there are left out; nothing is rendered or downloaded for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from geoguesser.arrays import ByteArray, FloatArray
from geoguesser.data.images import decode_shrunk
from geoguesser.errors import DataError, GeoguesserError, first_line
from geoguesser.runs.run_images import Source, find_present_views, find_source, find_sources, read_picture
from geoguesser.system.tables import read_csv

log = logging.getLogger(__name__)
# Longer side of a photo in the game: enough for half the width of a desktop screen.
MAX_PHOTO_PX = 640
JPEG_QUALITY = 85
PREDICTION_COLUMNS = ["uuid", "latitude", "longitude", "true_latitude", "true_longitude"]
PREDICTIONS_FILE = "predictions_test.csv"


@dataclass(frozen=True)
class GamePlaces:
    """N test places whose photos are available, with (N, 2) coordinates in degrees and sources of the photos."""

    uuid: list[str]
    true_deg: FloatArray
    predicted_deg: FloatArray
    sources: list[Source]

    def __len__(self) -> int:
        return len(self.uuid)

    def find_views(self, row: int) -> list[bool]:
        """Returns (4,) views present of a place, by heading; none if they cannot be listed, with a warning."""
        try:
            return find_present_views(self.uuid[row], self.sources[row])
        except (GeoguesserError, OSError) as error:
            log.warning("the views of %s cannot be listed (%s)", self.uuid[row], first_line(error))
            return [False] * 4

    def read_photo(
        self, row: int, heading: int, decode: Callable[[bytes, int], ByteArray] = decode_shrunk
    ) -> bytes | None:
        """Encodes a view as a new JPEG file, without the metadata that a camera wrote into the original.

        `decode` decodes the content of a file to a longer side of at most the given number of pixels.

        Returns None if the view is missing or cannot be read, the latter with a warning.
        """
        try:
            image = read_picture(self.uuid[row], self.sources[row], heading, MAX_PHOTO_PX, decode)
        except (GeoguesserError, OSError, ValueError) as error:
            log.warning("a view of %s cannot be shown (%s)", self.uuid[row], first_line(error))
            return None

        if image is None:
            return None
        return simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB", "420")


def find_game_places(folder: Path, config: Mapping[str, Any]) -> GamePlaces:
    """Finds the test places of a run, by its folder and config, whose photos are available.

    Raises:
        DataError: If there are none. The message is a sentence without paths, because clients see it.
    """
    path = folder / PREDICTIONS_FILE
    if not path.is_file() or path.is_symlink():
        raise DataError(f"The run has no {PREDICTIONS_FILE}, so there are no test places.")
    try:
        types = dict.fromkeys(PREDICTION_COLUMNS, float) | {"uuid": str}
        table = read_csv(path, dtype=types, usecols=PREDICTION_COLUMNS, keep_default_na=False)
    except ValueError as error:
        raise DataError(f"The run's {PREDICTIONS_FILE} cannot be read ({first_line(error)}).") from error

    latitudes, longitudes = table[PREDICTION_COLUMNS[1::2]], table[PREDICTION_COLUMNS[2::2]]
    if (
        table.isna().any(axis=None)
        or (latitudes.abs() > 90).any(axis=None)
        or (longitudes.abs() > 180).any(axis=None)
    ):
        raise DataError(f"The run's {PREDICTIONS_FILE} has values that are missing or no coordinates.")

    sources = find_sources([config])
    sources_by_row = [find_source(uuid, sources) for uuid in table["uuid"]]
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
