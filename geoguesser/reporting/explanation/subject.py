"""What a report is about: a run, the test places that are looked at again, and what the network makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoguesser.arrays import ByteArray, FloatArray, IntArray
from geoguesser.errors import ConfigError, DataError
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.inference.predictor import Predictor
from geoguesser.model import attribution
from geoguesser.model.attribution import LeftOut
from geoguesser.reporting.explanation.coverage_plot import LabelledOutput
from geoguesser.reporting.explanation.forward_pass import ForwardPass, run_forward_pass
from geoguesser.reporting.explanation.place_plots import PlaceImages
from geoguesser.reporting.maps import pick_by_rank
from geoguesser.runs.run_folder import Run
from geoguesser.runs.run_images import Source, find_sources, load_arrays

TOGETHER = 256  # places decoded at once
SHOWN_PX = 320  # of a view in a picture
IMAGES_MISSING = "The images of the run are no longer where its config says."


@dataclass(frozen=True)
class Subject:
    """A run and its test places.

    Attributes:
        run: The run.
        locator: Its network.
        table: The rows of predictions_test.csv that are looked at, by ascending error.
        sources: Where images may lie.
        looked: What the network makes of the places of `table`; None where no image is there.
        held_out: Of the calibration places likewise, with their truth; None where there are none.
        examples: The rows of `table` that pictures of single places show.
    """

    run: Run
    locator: Predictor
    table: pd.DataFrame
    sources: list[Source]
    looked: ForwardPass | None
    held_out: LabelledOutput | None
    examples: list[int]
    _arrays: dict[int, list[ByteArray | None] | None] = field(default_factory=dict, repr=False)

    @property
    def region(self) -> Region:
        """The land."""
        return self.locator.region

    @property
    def grid(self) -> Grid | None:
        """The cells; None for a head without."""
        return self.locator.network.head.grid

    @cached_property
    def true_deg(self) -> FloatArray:
        """(N, 2) where the places are."""
        return self.table[["true_latitude", "true_longitude"]].to_numpy(dtype=np.float64)

    @cached_property
    def answers_deg(self) -> FloatArray:
        """(N, 2) where the run put them."""
        return self.table[["latitude", "longitude"]].to_numpy(dtype=np.float64)

    @cached_property
    def error_km(self) -> FloatArray:
        """(N,) the run's errors, ascending."""
        return self.table["error_km"].to_numpy(dtype=np.float64)

    @cached_property
    def seats(self) -> dict[int, int]:
        """Row of `table` -> where it stands in `looked`."""
        return {} if self.looked is None else {int(row): seat for seat, row in enumerate(self.looked.at)}

    @cached_property
    def left_out(self) -> LeftOut | None:
        """What changes without each view, of the places in `looked`."""
        if self.looked is None:
            return None
        features, mask = self.on_device(self.looked.features), self.on_device(self.looked.mask)
        pairs = zip(torch.split(features, TOGETHER), torch.split(mask, TOGETHER), strict=True)
        parts = [attribution.leave_one_out(self.locator.network, *pair) for pair in pairs]
        lost = [one.lost for one in parts if one.lost is not None]
        return LeftOut(
            torch.cat([one.moved_km for one in parts]),
            torch.cat([one.coords_deg for one in parts]),
            torch.cat(lost) if lost else None,
        )

    def on_device(self, values: Tensor) -> Tensor:
        """A tensor where the network lies."""
        return values.to(next(self.locator.network.parameters()).device)

    @cached_property
    def drift_km(self) -> float | None:
        """How far, at most, the network's answers now are from those of the run; None where it did not look."""
        if self.looked is None:
            return None
        return float(haversine_km(self.looked.answers.coords_deg, self.answers_deg[self.looked.at]).max())

    def answered(self) -> tuple[IntArray, IntArray] | None:
        """Rows of `table` and the most probable cell of each; from the run's own table where images are gone."""
        if self.grid is None:
            return None
        if self.looked is not None and self.looked.said.logits is not None:
            return self.looked.at, self.looked.said.logits.argmax(axis=1)
        if "cell" in self.table:
            return np.arange(len(self.table)), self.table["cell"].to_numpy(dtype=np.int64)
        return None

    def sight(self, row: int) -> PlaceImages:
        """A place as pictures show it."""
        if row not in self._arrays:
            fit = self.locator.image.fit
            self._arrays[row] = load_arrays(self.table["uuid"].iloc[row], self.sources, SHOWN_PX, fit)
        return PlaceImages(
            name=str(self.table["uuid"].iloc[row]),
            true_deg=self.true_deg[row],
            answer_deg=self.answers_deg[row],
            error_km=float(self.error_km[row]),
            views=self._arrays[row],
        )


def load_subject(
    run: Run, locator: Predictor, *, most: int, examples: int, places: Sequence[str] | None
) -> Subject:
    """Chooses places and lets the network look at them.

    Args:
        run: The run.
        locator: Its network.
        most: How many places at most; they are chosen evenly by rank of error.
        examples: How many places single pictures show: some of the best, the middle and the worst.
        places: Ids of these places instead.

    Raises:
        ConfigError: `places` names one that the run did not test.
        DataError: The run tested no place.
    """
    if not len(run.predictions):
        raise DataError.at(f"{run.name}/predictions_test.csv", "must hold a place")
    by_error = run.predictions.sort_values("error_km", kind="stable").reset_index(drop=True)
    asked = _rows_of(places or (), by_error)
    rows = np.union1d(pick_by_rank(by_error["error_km"].to_numpy(), most), asked)
    table = by_error.iloc[rows].reset_index(drop=True)
    chosen = np.searchsorted(rows, asked).tolist() if places else divide_in_thirds(len(table), examples)
    sources = find_sources([run.config])
    looked = run_forward_pass(locator, table["uuid"].tolist(), sources, what="looking at test places")
    held_out = None if looked is None else _held_out(run, locator, sources, most)
    return Subject(run, locator, table, sources, looked, held_out, chosen)


def divide_in_thirds(count: int, wanted: int) -> list[int]:
    """Numbers from 0 to count - 1: a third from the start, a third from the middle, a third from the end."""
    wanted = min(count, wanted)
    first, last = -(-wanted // 3), wanted // 3
    middle = wanted - first - last
    start = max(first, min((count - middle) // 2, count - last - middle))
    return [*range(first), *range(start, start + middle), *range(count - last, count)]


def _rows_of(places: Sequence[str], table: pd.DataFrame) -> IntArray:
    found = pd.Index(table["uuid"]).get_indexer(pd.Index([str(one) for one in places]))
    if (found < 0).any():
        missing = str(places[int(np.argmin(found))])
        raise ConfigError.at(
            "places", "must name test places of the run, as in its predictions_test.csv", found=missing
        )
    return np.asarray(found, dtype=np.int64)


def _held_out(run: Run, locator: Predictor, sources: list[Source], most: int) -> LabelledOutput | None:
    """Calibration places, `most` at most, as the network sees them; None where there is none."""
    file = run.folder / "places.csv"
    if locator.uncertainty is None or not file.is_file():
        return None
    table = pd.read_csv(file, dtype={"uuid": str}, keep_default_na=False)
    own = table[table["calibration"].astype(str) == "True"] if "calibration" in table else table.iloc[:0]
    own = own.iloc[:most]
    found = run_forward_pass(locator, own["uuid"].tolist(), sources, what="looking at calibration places")
    if found is None:
        return None
    true_deg = own[["latitude", "longitude"]].to_numpy(dtype=np.float64)[found.at]
    return make_labelled_output(found, true_deg, locator.network.head.grid)


def make_labelled_output(looked: ForwardPass, true_deg: FloatArray, grid: Grid | None) -> LabelledOutput:
    """What is said of places, with their truth, (N, 2)."""
    cell = None if grid is None else grid.assign(true_deg)
    return LabelledOutput(looked.said, cell, haversine_km(looked.said.answers_deg, true_deg))
