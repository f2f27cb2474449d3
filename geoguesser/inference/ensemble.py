"""Ensemble of one or several predictors. No Lightning, no Hydra.

If the members have the same grid, their posteriors are averaged and decoded; otherwise the prediction is the
geometric median of their points. An ensemble of one predicts as its member does.
"""

from __future__ import annotations

import logging
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

log = logging.getLogger(__name__)
# Floor of probabilities before their logarithm: above the smallest positive float32.
MIN_PROBABILITY = 1e-44


def equal_states(left: Any, right: Any) -> bool:
    """Returns whether two states of plain values and arrays are equal, where arrays may be tensors."""
    if isinstance(right, dict):
        has_same_keys = isinstance(left, dict) and left.keys() == right.keys()
        return has_same_keys and all(equal_states(left[key], right[key]) for key in right)
    return bool(np.array_equal(np.asarray(left), np.asarray(right)))


class Ensemble:
    """Predictors for the same region that are evaluated together.

    Attributes:
        specs: Distinct image specifications of the members.
        grid: Common grid of the members; None if they have none, or different ones.

    Raises:
        ConfigError: There is no member, or the members have different regions.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        if not predictors:
            raise ConfigError.at("run", "must name at least one run")
        self.predictors = list(predictors)

        self.region: Region = predictors[0].region
        for member in predictors[1:]:
            if not equal_states(member.region.state(), self.region.state()):
                names = f"{self.region.name} and {member.region.name}"
                raise ConfigError.at("run", "must name runs of one region, with one boundary and CRS", found=names)

        specs = {member.image.name: member.image for member in self.predictors}
        self.specs: list[ImageSpec] = list(specs.values())
        self._spec_indices = [list(specs).index(member.image.name) for member in self.predictors]

        self.grid: Grid | None = self._find_common_grid()
        self._calibration = _average_calibrations([member.uncertainty for member in self.predictors])

    @classmethod
    def load(cls, paths: Sequence[str | Path], *, device: str | torch.device = "cpu") -> Self:
        """Loads run folders (their best checkpoints), exported folders or checkpoint files."""
        return cls([open_predictor(path, device=device)[0] for path in paths])

    def fold(self) -> None:
        """Folds BatchNorm into convolutions, in place; the networks cannot be saved afterwards."""
        for member in self.predictors:
            member.network.backbone = fold_batchnorm(member.network.backbone)

    @property
    def device(self) -> torch.device:
        return next(self.predictors[0].network.parameters()).device

    @property
    def calibrated(self) -> bool:
        """True if probabilities, radii and expected errors are calibrated."""
        return self._calibration is not None

    def predict(self, images: Sequence[Tensor], mask: Tensor | None = None) -> Predictions:
        """Predicts coordinates with their uncertainty.

        Args:
            images: For each of `specs` (B, 4, 3, S, S) uint8 at headings 0, 90, 180 and 270.
            mask: (B, 4) bool, true for views that are present; None if all are.
        """
        members = zip(self.predictors, self._spec_indices, strict=True)
        return self._combine([member.compute_output(images[index], mask) for member, index in members])

    def predict_prior(self) -> Predictions:
        """Prediction for one place without images: for the mean training features."""
        return self._combine([member.compute_prior() for member in self.predictors])

    def _combine(self, outputs: list[HeadOutput]) -> Predictions:
        if len(outputs) > 1 and self.grid is not None:
            return self._average_posteriors(outputs)
        pairs = zip(self.predictors, outputs, strict=True)
        predictions = [member.calibrate_output(output) for member, output in pairs]
        return predictions[0] if len(predictions) == 1 else self._average_points(predictions)

    def _find_common_grid(self) -> Grid | None:
        grids = [member.network.head.grid for member in self.predictors]
        states = [None if grid is None else grid.state() for grid in grids]
        return grids[0] if all(equal_states(state, states[0]) for state in states[1:]) else None

    def _average_posteriors(self, outputs: list[HeadOutput]) -> Predictions:
        """Decodes the mean posterior; its uncertainty comes from the mean of the calibrated posteriors."""
        posteriors = [apply_temperature(cast(FloatArray, output.logits)) for output in outputs]
        vectors = _average_vectors(outputs, posteriors)
        posterior = torch.from_numpy(np.mean(posteriors, axis=0))
        coords_deg = self._choose_decoder()(posterior, torch.from_numpy(vectors)).numpy()

        calibrated = posteriors
        if self._calibration is not None:
            members: list[Any] = [member.uncertainty for member in self.predictors]
            pairs = zip(outputs, members, strict=True)
            calibrated = [apply_temperature(cast(FloatArray, out.logits), fit.temperature) for out, fit in pairs]

        logits = np.log(np.maximum(np.mean(calibrated, axis=0), MIN_PROBABILITY))
        combined = HeadOutput(coords_deg, logits, vectors, outputs[0].sides_km)
        return calibrate(combined, self.region, self.grid, self._calibration)

    def _choose_decoder(self) -> Decoder:
        """Returns the members' decoder if they share one, else the geometric median."""
        decoders = [cast(ClassificationHead, member.network.head).decoder for member in self.predictors]
        same = all(equal_states(decoder.state(), decoders[0].state()) for decoder in decoders[1:])
        return decoders[0] if same else MedianDecoder()

    def _average_points(self, predictions: list[Predictions]) -> Predictions:
        # (B, M, 3) for M members.
        points = np.stack([to_unit(member.coords_deg) for member in predictions], axis=1)
        if len(predictions) == 2:
            # Each point between two is a median of them; the middle is the symmetric choice.
            centre = points.mean(axis=1)
        else:
            weights = torch.full(points.shape[:2], 1.0 / len(predictions), dtype=torch.float64)
            centre = spherical_median(weights, torch.from_numpy(points)).numpy()
        coords_deg = from_unit(centre)

        expected = [member.expected_error_km for member in predictions if member.expected_error_km is not None]
        radii = [member.radius_km or {} for member in predictions]
        levels = [level for level in LEVELS if all(level in radius for radius in radii)]
        return Predictions(
            coords_deg=coords_deg,
            in_region=self.region.contains(coords_deg),
            expected_error_km=np.mean(expected, axis=0) if len(expected) == len(predictions) else None,
            radius_km={level: np.mean([radius[level] for radius in radii], axis=0) for level in levels} or None,
        )


def load_runs(run: Any, *, device: torch.device) -> Ensemble:
    """Loads the run or runs that the config key `run` names."""
    paths = [run] if isinstance(run, str) else run
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigError.at("run", "must name a run folder, or several", found=run)
    ensemble = Ensemble.load(paths, device=device)
    ensemble.fold()

    if len(paths) > 1:
        method = "geometric median of points, because grids differ" if ensemble.grid is None else "mean posterior"
        log.info("ensemble of %d runs: %s", len(paths), method)
    members = zip(paths, ensemble.predictors, strict=True)
    if uncalibrated := [path for path, member in members if member.calibration is None]:
        log.info("no expected errors and radii, because runs have no calibration: %s", ", ".join(uncalibrated))
    return ensemble


def _average_vectors(outputs: list[HeadOutput], posteriors: list[FloatArray]) -> FloatArray:
    """Averages the members' class points by their cells' probabilities: (K, 3), or (N, K, 3) by place."""
    vectors = [cast(FloatArray, output.vectors) for output in outputs]
    if all(array.ndim == 2 for array in vectors):
        return vectors[0]

    pairs = zip(vectors, posteriors, strict=True)
    # The floor keeps the mean of cells that all members give probability 0 finite.
    weighted = [(weight[..., None] + MIN_PROBABILITY) * array for array, weight in pairs]
    mean: FloatArray = np.sum(weighted, axis=0)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def _average_calibrations(members: list[Calibration | None]) -> Calibration | None:
    """Averages the numbers of the members' calibrations; None if a member has none.

    The sets and radii of an ensemble have no guaranteed coverage, because no places calibrate the ensemble itself.
    """
    present = [member for member in members if member is not None]
    if len(present) < len(members) or len({member.temperature is None for member in present}) > 1:
        return None

    def average(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
        by_level = {level: [part[level] for part in parts] for level in LEVELS}
        return {
            level: None if None in values else float(np.mean(cast(list[float], values)))
            for level, values in by_level.items()
        }

    masses = [member.mass for member in present if member.mass is not None]
    return Calibration(
        places=min(member.places for member in present),
        # The members' temperatures are applied before their posteriors are averaged.
        temperature=None if present[0].temperature is None else 1.0,
        scale=float(np.mean([member.scale for member in present])),
        mass=average(masses) if len(masses) == len(present) else None,
        stretch=average([member.stretch for member in present]),
    )
