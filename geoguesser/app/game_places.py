"""Held-out places: those of a run's test split, with the run's own answers and their photos. For the game.

A run records where its data were: roots, a store, or the demo's cache. What is no longer there is not shown, and
nothing is drawn or fetched for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg

from geoguesser.arrays import FloatArray
from geoguesser.errors import DataError, GeoguesserError, first_line
from geoguesser.runs.run_images import Source, find_present_views, find_source, find_sources, read_picture

log = logging.getLogger(__name__)
PHOTO_PX, QUALITY = 640, 85  # of the longer side; enough for half a desktop's screen
COLUMNS = ["uuid", "latitude", "longitude", "true_latitude", "true_longitude"]
PREDICTIONS = "predictions_test.csv"


@dataclass(frozen=True)
class GamePlaces:
    """N places of a test split whose photos are there.

    Attributes:
        uuid: (N,) their ids.
        true_deg: (N, 2) where they are.
        answers_deg: (N, 2) where the run put them.
        sources: (N,) the root or store that has each.
    """

    uuid: list[str]
    true_deg: FloatArray
    answers_deg: FloatArray
    sources: list[Source]

    def __len__(self) -> int:
        return len(self.uuid)

    def headings(self, row: int) -> list[bool]:
        """(4,) which views a place has."""
        try:
            return find_present_views(self.uuid[row], self.sources[row])
        except (GeoguesserError, OSError) as error:
            log.warning("the views of %s cannot be listed (%s)", self.uuid[row], first_line(error))
            return [False] * 4

    def photo(self, row: int, heading: int) -> bytes | None:
        """One view as a fresh JPEG, without anything that a camera wrote into the file; None where there is none.

        Args:
            row: Of the place.
            heading: Its number from 0 to 3.
        """
        try:
            image = read_picture(self.uuid[row], self.sources[row], heading, PHOTO_PX)
        except (GeoguesserError, OSError, ValueError) as error:
            log.warning("a view of %s cannot be shown (%s)", self.uuid[row], first_line(error))
            return None
        return (
            None if image is None else simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, "RGB", "420")
        )


def find_game_places(folder: Path, config: Mapping[str, Any]) -> GamePlaces:
    """The held-out places of a run.

    Args:
        folder: The run folder.
        config: The run's config.

    Raises:
        DataError: There are none; the message is a sentence that says why, without a path.
    """
    file = folder / PREDICTIONS
    if not file.is_file():
        raise DataError(f"The run has no {PREDICTIONS}, so there are no held-out places.")
    try:
        table = pd.read_csv(file, dtype={"uuid": str}, usecols=COLUMNS)
    except ValueError as error:
        raise DataError(f"The run's {PREDICTIONS} cannot be read ({first_line(error)}).") from error
    sources = find_sources([config])
    found = [find_source(uuid, sources) for uuid in table["uuid"]]
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
        answers_deg=own[["latitude", "longitude"]].to_numpy(float),
        sources=[one for one in found if one is not None],
    )
