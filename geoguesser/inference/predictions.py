"""Predicted points with their uncertainty. No images, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.model.uncertainty import LEVELS, Calibration, HeadOutput, apply_temperature


@dataclass(frozen=True)
class Predictions:
    """Predictions for N places.

    Attributes:
        coords_deg: (N, 2) latitude and longitude in degrees.
        in_region: (N,) true if the point lies on the region's land.
        grid: Grid of the cells; None for a model without cells, or an ensemble with different grids.
        posterior: (N, K) probabilities of the grid's classes, calibrated if the run was; None without cells.
        expected_error_km: (N,) expected error; None for a run without calibration or without estimates per place.
        radius_km: Confidence level (`50`, `90`, `95`) -> (N,) radius of the circle around the point that holds the
            true place with that probability; levels with too few calibration places are absent.
        sets: Confidence level -> (N, K) cells that together hold the true place with that probability; levels with
            too few calibration places are absent.
    """

    coords_deg: FloatArray
    in_region: BoolArray
    grid: Grid | None = None
    posterior: FloatArray | None = None
    expected_error_km: FloatArray | None = None
    radius_km: dict[str, FloatArray] | None = None
    sets: dict[str, BoolArray] | None = None

    def __len__(self) -> int:
        return len(self.coords_deg)

    def top_cells(self, count: int) -> tuple[IntArray, FloatArray]:
        """Returns the (N, C) most probable classes, best first, and their probabilities; C is at most `count`."""
        if self.posterior is None:
            raise ValueError("this model has no cells")
        best = np.argsort(-self.posterior, axis=1, kind="stable")[:, :count]
        return best, np.take_along_axis(self.posterior, best, axis=1)


def calibrate(
    output: HeadOutput, region: Region, grid: Grid | None, calibration: Calibration | None
) -> Predictions:
    """Converts a head's output for N places to predictions, with the uncertainty from a calibration.

    Without a calibration, probabilities are those of the network.
    """
    in_region = region.contains(output.answers_deg)
    posterior = None
    if output.logits is not None and grid is not None:
        temperature = calibration.temperature if calibration is not None else None
        posterior = apply_temperature(output.logits, 1.0 if temperature is None else temperature)
    if calibration is None:
        return Predictions(output.answers_deg, in_region, grid, posterior)

    columns = calibration.describe_places(output)
    radii = {level: columns[f"radius_{level}_km"] for level in LEVELS if f"radius_{level}_km" in columns}
    sets = None if posterior is None else calibration.sets(posterior)
    expected_km = columns.get("expected_error_km")
    return Predictions(output.answers_deg, in_region, grid, posterior, expected_km, radii, sets)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Concatenates predictions of one model for several batches; at least one batch."""

    def join(values: list[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], dict):
            return {level: join([value[level] for value in values]) for level in values[0]}
        return np.concatenate(values)

    names = [field.name for field in fields(Predictions) if field.name != "grid"]
    return Predictions(
        grid=parts[0].grid, **{name: join([getattr(part, name) for part in parts]) for name in names}
    )
