"""Subject of a report: a run, its test places, and a second forward pass of its network over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoguesser.arrays import ByteArray, FloatArray, IntArray
from geoguesser.data.places import get_coords
from geoguesser.errors import ConfigError, DataError
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.inference.predictor import Predictor
from geoguesser.model import attribution
from geoguesser.model.attribution import LeaveOneOut
from geoguesser.reporting.explanation.coverage_plot import LabelledOutput
from geoguesser.reporting.explanation.forward_pass import ForwardPass, run_forward_pass
from geoguesser.reporting.explanation.place_plots import PlaceImages
from geoguesser.reporting.maps import pick_by_rank
from geoguesser.runs.run_folder import Run
from geoguesser.runs.run_images import Source, find_sources, load_arrays
from geoguesser.system.tables import read_csv

# Number of places per batch of the leave-one-out predictions.
BATCH_SIZE = 256
# Height and width of a view in a picture.
VIEW_PX = 320
IMAGES_MISSING = "The images of the run are no longer in the folders that its config names."


@dataclass(frozen=True)
class Subject:
    """A run and its test places.

    Attributes:
        table: Chosen rows of predictions_test.csv, by ascending error.
        forward: Forward pass over the places of `table`; None if no image is found.
        calibration: Head output of the calibration places; None if there are none.
        examples: Rows of `table` that pictures of single places show.
    """

    run: Run
    predictor: Predictor
    table: pd.DataFrame
    sources: list[Source]
    forward: ForwardPass | None
    calibration: LabelledOutput | None
    examples: list[int]
    _views: dict[int, list[ByteArray | None] | None] = field(default_factory=dict, repr=False)

    @property
    def region(self) -> Region:
        return self.predictor.region

    @property
    def grid(self) -> Grid | None:
        """Fitted grid; None for a head without cells."""
        return self.predictor.network.head.grid

    # The recorded results of the run, of all rows of `table`.

    @cached_property
    def true_deg(self) -> FloatArray:
        """True points, (N, 2) in degrees."""
        return self.table[["true_latitude", "true_longitude"]].to_numpy(dtype=np.float64)

    @cached_property
    def predicted_deg(self) -> FloatArray:
        """Points that the run predicted, (N, 2) in degrees."""
        return get_coords(self.table)

    @cached_property
    def error_km(self) -> FloatArray:
        """Errors of the run, (N,) ascending."""
        return self.table["error_km"].to_numpy(dtype=np.float64)

    # The results of the second forward pass, of the rows whose images are present.

    @cached_property
    def positions(self) -> dict[int, int]:
        """Row of `table` -> its position in `forward`; empty without images."""
        return {} if self.forward is None else {int(row): at for at, row in enumerate(self.forward.rows)}

    @cached_property
    def drift_km(self) -> float | None:
        """Largest distance between predictions of the forward pass and of the run; None without images."""
        if self.forward is None:
            return None
        now_deg = self.forward.predictions.coords_deg
        return float(haversine_km(now_deg, self.predicted_deg[self.forward.rows]).max())

    @cached_property
    def left_out(self) -> LeaveOneOut | None:
        """Predictions without each view, for the places of `forward`; None without images."""
        if self.forward is None:
            return None
        features = torch.split(self.to_device(self.forward.features), BATCH_SIZE)
        masks = torch.split(self.to_device(self.forward.mask), BATCH_SIZE)
        network = self.predictor.network
        parts = [attribution.leave_one_out(network, *pair) for pair in zip(features, masks, strict=True)]

        moved_km = torch.cat([part.moved_km for part in parts])
        coords_deg = torch.cat([part.coords_deg for part in parts])
        lost = [part.lost for part in parts if part.lost is not None]
        return LeaveOneOut(moved_km, coords_deg, torch.cat(lost) if lost else None)

    def get_predicted_cells(self) -> tuple[IntArray, IntArray] | None:
        """Returns (M,) rows and their most probable classes; None without cells and if the run recorded none."""
        if self.grid is None:
            return None
        if self.forward is not None and self.forward.output.logits is not None:
            return self.forward.rows, self.forward.output.logits.argmax(axis=1)
        if "cell" in self.table:
            return np.arange(len(self.table)), self.table["cell"].to_numpy(dtype=np.int64)
        return None

    def load_place(self, row: int) -> PlaceImages:
        """Returns a place with its views for pictures; views are read once."""
        uuid, error_km = str(self.table["uuid"].iloc[row]), float(self.error_km[row])
        if row not in self._views:
            self._views[row] = load_arrays(uuid, self.sources, VIEW_PX, self.predictor.image.fit)
        return PlaceImages(uuid, self.true_deg[row], self.predicted_deg[row], error_km, self._views[row])

    def to_device(self, values: Tensor) -> Tensor:
        """Moves a tensor to the network's device."""
        return values.to(next(self.predictor.network.parameters()).device)


def load_subject(
    run: Run, predictor: Predictor, *, max_places: int, examples: int, places: Sequence[str] | None
) -> Subject:
    """Chooses at most `max_places` places of a run, evenly by rank of error, and runs its network over them.

    Pictures of single places show `places`; without them `examples` of the best, middle and worst, a third each.

    Raises:
        ConfigError: `places` names a place that is no test place of the run.
        DataError: The run has no test places.
    """
    if not len(run.predictions):
        raise DataError.at(f"{run.name}/predictions_test.csv", "must hold a place")

    # Named places are always in the table, besides those chosen by rank.
    by_error = run.predictions.sort_values("error_km", kind="stable").reset_index(drop=True)
    named = _find_rows(places or (), by_error)
    rows = np.union1d(pick_by_rank(by_error["error_km"].to_numpy(), max_places), named)
    table = by_error.iloc[rows].reset_index(drop=True)
    chosen = np.searchsorted(rows, named).tolist() if places else divide_in_thirds(len(table), examples)

    sources = find_sources([run.config])
    forward = run_forward_pass(predictor, table["uuid"].tolist(), sources, desc="looking at test places")
    calibration = None if forward is None else _load_calibration(run, predictor, sources, max_places)
    return Subject(run, predictor, table, sources, forward, calibration, chosen)


def divide_in_thirds(count: int, max_rows: int) -> list[int]:
    """Picks up to `max_rows` numbers from 0 to count - 1: a third each from the start, the middle and the end."""
    picked = min(count, max_rows)
    first, last = -(-picked // 3), picked // 3
    middle = picked - first - last
    start = max(first, min((count - middle) // 2, count - last - middle))
    return [*range(first), *range(start, start + middle), *range(count - last, count)]


def _find_rows(places: Sequence[str], table: pd.DataFrame) -> IntArray:
    rows = pd.Index(table["uuid"]).get_indexer(pd.Index([str(place) for place in places]))
    if (rows < 0).any():
        rule = "must name test places of the run, as in its predictions_test.csv"
        raise ConfigError.at("places", rule, found=str(places[int(np.argmin(rows))]))
    return np.asarray(rows, dtype=np.int64)


def _load_calibration(
    run: Run, predictor: Predictor, sources: list[Source], max_places: int
) -> LabelledOutput | None:
    """Runs the network over the run's calibration places; None if there are none or their images are missing."""
    file = run.folder / "places.csv"
    if predictor.uncertainty is None or not file.is_file():
        return None
    table = read_csv(file, dtype={"uuid": str}, keep_default_na=False)
    if "calibration" not in table:
        return None
    table = table[table["calibration"].astype(str) == "True"].iloc[:max_places]

    uuids = table["uuid"].tolist()
    forward = run_forward_pass(predictor, uuids, sources, desc="looking at calibration places")
    if forward is None:
        return None
    return make_labelled_output(forward, get_coords(table)[forward.rows], predictor.network.head.grid)


def make_labelled_output(forward: ForwardPass, true_deg: FloatArray, grid: Grid | None) -> LabelledOutput:
    """Returns the head output of a forward pass with the true points, (N, 2) in degrees."""
    cell = None if grid is None else grid.assign(true_deg)
    return LabelledOutput(forward.output, cell, haversine_km(forward.output.answers_deg, true_deg))
