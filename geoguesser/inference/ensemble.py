"""Ensemble: one or several trained locators that answer together. No Lightning, no Hydra.

Where the members' grids agree, their posteriors are averaged and decoded; else the answer is the geometric median
of their points. An ensemble of one answers as its locator does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor

from geoguesser.arrays import FloatArray
from geoguesser.data.images import ImageSpec
from geoguesser.errors import ConfigError
from geoguesser.geo.distance import from_unit, to_unit
from geoguesser.geo.grid import Grid
from geoguesser.geo.median import spherical_median
from geoguesser.geo.region import Region
from geoguesser.inference.batchnorm_folding import fold_batchnorm
from geoguesser.inference.predictions import Predictions, calibrate
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import open_predictor
from geoguesser.model.decoder import Decoder, MedianDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.uncertainty import LEVELS, Calibration, HeadOutput, apply_temperature

LEAST = 1e-44  # a probability whose logarithm is taken


class Ensemble:
    """Several locators that answer as one.

    Args:
        locators: At least one; all for the same region.

    Attributes:
        locators: Its members.
        region: Their land.
        specs: The ways in which its members want views to be read, each once.
        grid: The members' common grid; None where they have none, or different ones.

    Raises:
        ConfigError: There is none, or they were trained for different regions.
    """

    def __init__(self, locators: Sequence[Predictor]) -> None:
        if not locators:
            raise ConfigError.at("run", "must name at least one run")
        self.locators = list(locators)
        self.region: Region = locators[0].region
        for one in locators[1:]:
            if not _same(one.region.state(), self.region.state()):
                found = f"{self.region.name} and {one.region.name}"
                raise ConfigError.at("run", "must name runs of one region, with one boundary and CRS", found=found)
        names = {one.image.name: one.image for one in self.locators}
        self.specs: list[ImageSpec] = list(names.values())
        self._spec_of = [list(names).index(one.image.name) for one in self.locators]
        self.grid: Grid | None = self._common_grid()
        self._uncertainty = _merged([one.uncertainty for one in self.locators])

    @classmethod
    def load(cls, paths: Sequence[str | Path], *, device: str | torch.device = "cpu") -> Self:
        """Loads run folders (their best checkpoints), exported folders or checkpoint files.

        Raises:
            MissingFileError: One of them is not there.
            CheckpointError: One is no locator.
            ConfigError: There is none, or they were trained for different regions.
        """
        return cls([open_predictor(path, device=device)[0] for path in paths])

    def fold(self) -> None:
        """Makes its networks quicker, for good: they answer as before but for rounding, and cannot be saved."""
        for one in self.locators:
            one.network.backbone = fold_batchnorm(one.network.backbone)

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return next(self.locators[0].network.parameters()).device

    @property
    def calibrated(self) -> bool:
        """Whether probabilities, radii and expected errors rest on calibration places."""
        return self._uncertainty is not None

    def answer(self, images: Sequence[Tensor], mask: Tensor | None = None) -> Predictions:
        """Predicts coordinates, and how sure they are.

        Args:
            images: For each of `specs` (B, 4, 3, S, S) uint8, headings 0, 90, 180, 270.
            mask: (B, 4) bool, true where there is a view; None for all.
        """
        members = zip(self.locators, self._spec_of, strict=True)
        return self._together([one.said(images[spec], mask) for one, spec in members])

    def prior(self) -> Predictions:
        """The answer for one place of which nothing is seen: what the heads say of the mean training place."""
        return self._together([one.prior() for one in self.locators])

    def _together(self, said: list[HeadOutput]) -> Predictions:
        if len(said) > 1 and self.grid is not None:
            return self._by_posteriors(said)
        answers = [one.complete(own) for one, own in zip(self.locators, said, strict=True)]
        return answers[0] if len(answers) == 1 else self._by_points(answers)

    def _common_grid(self) -> Grid | None:
        grids = [one.network.head.grid for one in self.locators]
        if grids[0] is None or any(grid is None for grid in grids):
            return None
        states = [cast(Grid, grid).state() for grid in grids]
        return grids[0] if all(_same(state, states[0]) for state in states[1:]) else None

    def _by_posteriors(self, said: list[HeadOutput]) -> Predictions:
        """The mean of the posteriors, decoded; and the mean of the calibrated ones, for how sure that is."""
        plain = [apply_temperature(cast(FloatArray, one.logits)) for one in said]
        vectors = _mean_vectors(said, plain)
        posterior = torch.from_numpy(np.mean(plain, axis=0))
        coords_deg = self._decoder()(posterior, torch.from_numpy(vectors)).numpy()
        warm = [one.uncertainty.temperature if one.uncertainty is not None else None for one in self.locators]
        calibrated = plain
        if self._uncertainty is not None:
            pairs = zip(said, warm, strict=True)
            calibrated = [
                apply_temperature(cast(FloatArray, one.logits), cast(float, degree)) for one, degree in pairs
            ]
        logits = np.log(np.maximum(np.mean(calibrated, axis=0), LEAST))
        together = HeadOutput(coords_deg, logits, vectors, said[0].sides_km)
        return calibrate(together, self.region, self.grid, self._uncertainty)

    def _decoder(self) -> Decoder:
        """The members' own where they agree, else the geometric median."""
        decoders = [cast(ClassificationHead, one.network.head).decoder for one in self.locators]
        same = all(_same(one.state(), decoders[0].state()) for one in decoders[1:])
        return decoders[0] if same else MedianDecoder()

    def _by_points(self, answers: list[Predictions]) -> Predictions:
        points = np.stack([to_unit(one.coords_deg) for one in answers], axis=1)  # (B, M, 3)
        if len(answers) == 2:  # every point between two is a median of theirs
            middle = points.mean(axis=1)
        else:
            weights = torch.full(points.shape[:2], 1.0 / len(answers), dtype=torch.float64)
            middle = spherical_median(weights, torch.from_numpy(points)).numpy()
        coords_deg = from_unit(middle)
        expected = [one.expected_error_km for one in answers if one.expected_error_km is not None]
        radii = [one.radius_km or {} for one in answers]
        known = [level for level in LEVELS if all(level in one for one in radii)]
        return Predictions(
            coords_deg=coords_deg,
            in_region=self.region.contains(coords_deg),
            expected_error_km=np.mean(expected, axis=0) if len(expected) == len(answers) else None,
            radius_km={level: np.mean([one[level] for one in radii], axis=0) for level in known} or None,
        )


def _mean_vectors(said: list[HeadOutput], posteriors: list[FloatArray]) -> FloatArray:
    """(K, 3) the cells' points, or (N, K, 3): each the members' mean, by how probable they call the cell."""
    given = [cast(FloatArray, one.vectors) for one in said]
    if all(one.ndim == 2 for one in given):
        return given[0]
    whole = [np.broadcast_to(one, (*weight.shape, 3)) for one, weight in zip(given, posteriors, strict=True)]
    pairs = zip(whole, posteriors, strict=True)
    mean: FloatArray = sum((weight[..., None] + LEAST) * one for one, weight in pairs)  # type: ignore[assignment]
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def _merged(all_of: list[Calibration | None]) -> Calibration | None:
    """The members' calibrations as one, each number their mean; None where a member has none.

    A set or radius of an ensemble then holds about what it says, and no theorem promises it: the ensemble was
    calibrated on no place of its own.
    """
    found = [one for one in all_of if one is not None]
    if len(found) < len(all_of) or len({one.temperature is None for one in found}) > 1:
        return None

    def mean(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
        levels = {level: [part[level] for part in parts] for level in LEVELS}
        return {
            level: None if None in values else float(np.mean(cast(list[float], values)))
            for level, values in levels.items()
        }

    masses = [one.mass for one in found if one.mass is not None]
    return Calibration(
        places=min(one.places for one in found),
        temperature=None if found[0].temperature is None else 1.0,
        scale=float(np.mean([one.scale for one in found])),
        mass=mean(masses) if len(masses) == len(found) else None,
        stretch=mean([one.stretch for one in found]),
    )


def _same(a: Any, b: Any) -> bool:
    """Whether two states of plain values and arrays are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)
