"""Answers: what a trained model says of places: a point each, and how sure of it. No images, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.model.uncertainty import LEVELS, Calibration, HeadOutput, apply_temperature


@dataclass(frozen=True)
class Predictions:
    """What is said of N places.

    Attributes:
        coords_deg: (N, 2) latitude and longitude in degrees.
        in_region: (N,) whether the point lies on the region's land.
        grid: The cells; None for a model without, or one whose members have different ones.
        posterior: (N, K) probabilities of the grid's classes, calibrated where the run was; None without cells.
        expected_error_km: (N,) the error to expect; None where the run has no calibration, or knows none by place.
        radius_km: Level (`50`, `90`, `95`) -> (N,) the distance within which the true place lies with that
            probability; without the levels for which there were too few calibration places.
        sets: Level -> (N, K) the cells that together hold the true place with that probability; likewise.
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
        """The most probable classes, best first: (N, C) their numbers and probabilities, C at most `count`.

        Raises:
            ValueError: There are no cells.
        """
        if self.posterior is None:
            raise ValueError("this model has no cells")
        best = np.argsort(-self.posterior, axis=1, kind="stable")[:, :count]
        return best, np.take_along_axis(self.posterior, best, axis=1)


def calibrate(said: HeadOutput, region: Region, grid: Grid | None, calibration: Calibration | None) -> Predictions:
    """Completes what a head says of N places by what calibration places taught.

    Args:
        said: Of the places.
        region: The land.
        grid: The head's; None for a head without cells.
        calibration: The run's; None where it has none: probabilities are then the network's own.
    """
    inside = region.contains(said.answers_deg)
    posterior = None
    if said.logits is not None and grid is not None:
        temperature = calibration.temperature if calibration is not None else None
        posterior = apply_temperature(said.logits, 1.0 if temperature is None else temperature)
    if calibration is None:
        return Predictions(said.answers_deg, inside, grid, posterior)
    known = calibration.describe_places(said)
    radii = {level: known[f"radius_{level}_km"] for level in LEVELS if f"radius_{level}_km" in known}
    sets = None if posterior is None else calibration.sets(posterior)
    return Predictions(said.answers_deg, inside, grid, posterior, known.get("expected_error_km"), radii, sets)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The answers of one model for several batches of places, one after the other; at least one batch."""
    return Predictions(
        coords_deg=np.concatenate([part.coords_deg for part in parts]),
        in_region=np.concatenate([part.in_region for part in parts]),
        grid=parts[0].grid,
        posterior=_together([part.posterior for part in parts]),
        expected_error_km=_together([part.expected_error_km for part in parts]),
        radius_km=_levels([part.radius_km for part in parts]),
        sets=_levels([part.sets for part in parts]),
    )


def _together(found: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    there = [one for one in found if one is not None]
    return np.concatenate(there) if there else None


def _levels(found: Sequence[dict[str, npt.NDArray[Any]] | None]) -> dict[str, npt.NDArray[Any]] | None:
    there = [one for one in found if one is not None]
    return {level: np.concatenate([one[level] for one in there]) for level in there[0]} if there else None
