"""Uncertainty: how sure a head is of each place, calibrated on places that neither trained nor chose the network.

Probabilities at a fitted temperature, sets of cells and radii that hold the true place with a nominal probability
(model/conformal.py), and the expected error. Plain arrays; no Lightning, no data. docs/uncertainty.md says what
these promise.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from torch import Tensor

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.model import conformal
from geoguesser.model.heads.classification import ClassificationHead, Head

LEVELS = {"50": 0.5, "90": 0.9, "95": 0.95}
TEMPERATURE_RANGE = (0.05, 20.0)  # where the temperature is sought
MIN_LOGIT = -100.0  # below the most probable cell's; an impossible cell costs no infinite loss
MEAN_DISTANCE_IN_SQUARE = (
    0.382598  # of its side a uniform place in a square lies from the centre: (sqrt 2 + asinh 1) / 6
)
MAX_DISTANCE_KM = math.pi * EARTH_RADIUS_KM
MAX_CHUNK_VALUES = 2**22  # probabilities that are at work at once


@dataclass(frozen=True)
class HeadOutput:
    """What a head says of N places.

    Attributes:
        answers_deg: (N, 2) the decoded points.
        logits: (N, K) of the cells; None for a head without cells, like the two that follow.
        vectors: (K, 3) unit vectors of the cells' points, or (N, K, 3) where they differ by place.
        sides_km: (K,) the cells' sides.
    """

    answers_deg: FloatArray
    logits: FloatArray | None = None
    vectors: FloatArray | None = None
    sides_km: FloatArray | None = None

    def slice_places(self, start: int, stop: int) -> HeadOutput:
        """What is said of some places in a row."""
        if self.logits is None or self.vectors is None:
            return HeadOutput(self.answers_deg[start:stop])
        vectors = self.vectors if self.vectors.ndim == 2 else self.vectors[start:stop]
        return HeadOutput(self.answers_deg[start:stop], self.logits[start:stop], vectors, self.sides_km)


def decode_output(head: Head, out: Tensor, answers_deg: FloatArray | None = None) -> HeadOutput:
    """Reads a head's output.

    Args:
        head: Any head.
        out: (N, C) its output.
        answers_deg: (N, 2) the decoded points where they are known already.
    """
    if answers_deg is None:
        answers_deg = head.decode(out).detach().cpu().double().numpy()
    if head.grid is None:
        return HeadOutput(answers_deg)
    with_cells = cast(ClassificationHead, head)
    logits = with_cells.logits(out).detach().cpu().double().numpy()
    vectors = with_cells.points(out).detach().cpu().double().numpy()
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)  # 32 bits miss 1 by what looks like 2 km
    return HeadOutput(answers_deg, logits, vectors, head.grid.class_sides_km)


def apply_temperature(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """(N, K) logits -> (N, K) probabilities at a temperature."""
    weights = np.exp(_shifted(logits) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def compute_nll(logits: FloatArray, cell: IntArray, temperature: float = 1.0) -> float:
    """The mean negative log-likelihood of the true cells, (N,), in nats."""
    scaled = _shifted(logits) / temperature
    own = scaled[np.arange(len(cell)), cell]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - own))


def fit_temperature(logits: FloatArray, cell: IntArray) -> float:
    """The temperature at which the true cells are most likely; 1 where no other is any better.

    Args:
        logits: (N, K) with N at least 1.
        cell: (N,) true cells.

    Source: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599. The mean is convex
    in 1 / temperature, so it has one minimum.
    """
    low, high = np.log(TEMPERATURE_RANGE)
    found: Any = minimize_scalar(
        lambda log_t: compute_nll(logits, cell, math.exp(log_t)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return math.exp(found.x) if found.fun < compute_nll(logits, cell) - 1e-9 else 1.0


def _shifted(logits: FloatArray) -> FloatArray:
    return np.maximum(logits - logits.max(axis=1, keepdims=True), MIN_LOGIT)


def compute_distances_km(answers_deg: FloatArray, vectors: FloatArray) -> FloatArray:
    """(N, 2) answers and (K, 3) or (N, K, 3) unit vectors -> (N, K) great-circle distances, good to a metre."""
    unit = to_unit(answers_deg)
    cosine = unit @ vectors.T if vectors.ndim == 2 else np.einsum("nd,nkd->nk", unit, vectors)
    return EARTH_RADIUS_KM * np.arccos(np.clip(cosine, -1.0, 1.0))


def compute_expected_km(posterior: FloatArray, away_km: FloatArray, sides_km: FloatArray) -> FloatArray:
    """(N,) the expected error of each answer under its posterior.

    A place in a cell lies off the cell's point: from a distance d it is about sqrt(d^2 + (0.383 side)^2) away on
    average, which is exact for a uniform place in a square at d = 0 and far from it.

    Args:
        posterior: (N, K) probabilities.
        away_km: (N, K) from the answer to each cell's point.
        sides_km: (K,) the cells' sides.
    """
    return (posterior * np.hypot(away_km, MEAN_DISTANCE_IN_SQUARE * sides_km)).sum(axis=1)


@dataclass(frozen=True)
class Calibration:
    """What was learnt from the calibration places; with it a head's output becomes probabilities, sets and radii.

    Attributes:
        places: How many these were.
        temperature: Of the reported probabilities, not of the decoder; None for a head without cells.
        scale: What the raw expected error is multiplied by, so that its mean is right.
        mass: level in percent -> the highest mass score of a cell in the set, None for all cells. The whole is
            None for a head without cells.
        stretch: level in percent -> the radius in raw expected errors, None where there are too few places.
    """

    places: int
    temperature: float | None
    scale: float
    mass: dict[str, float | None] | None
    stretch: dict[str, float | None]

    @classmethod
    def fit(cls, said: HeadOutput, cell: IntArray | None, error_km: FloatArray) -> Calibration:
        """Learns from calibration places.

        Args:
            said: Of N places, N at least 1.
            cell: (N,) true cells; None for a head without.
            error_km: (N,) true errors of the answers.

        Source: of radii that follow the expected error, J. Lei et al., "Distribution-Free Predictive Inference for
        Regression", arXiv 1604.04173, its locally weighted form.
        """
        temperature, mass = None, None
        if said.logits is not None and cell is not None:
            temperature = fit_temperature(said.logits, cell)
            scores = conformal.compute_mass_scores(apply_temperature(said.logits, temperature))[
                np.arange(len(cell)), cell
            ]
            mass = {name: _finite(conformal.compute_quantile(scores, level)) for name, level in LEVELS.items()}
        raw = compute_raw_expected_km(said, temperature)
        stretch = {
            name: _finite(conformal.compute_quantile(error_km / raw, level)) for name, level in LEVELS.items()
        }
        return cls(len(error_km), temperature, float(error_km.mean() / raw.mean()), mass, stretch)

    def describe_places(self, said: HeadOutput, cell: IntArray | None = None) -> dict[str, npt.NDArray[Any]]:
        """What is known of each place, by name: (N,) arrays.

        Args:
            said: Of N places.
            cell: (N,) true cells, where it shall be known whether sets hold them.

        Returns:
            For each level radius_LEVEL_km, unless there are too few calibration places for it. With cells also
            expected_error_km, cell, cell_probability, and for each level set_LEVEL_cells, set_LEVEL_km2 (areas of
            whole cells, be they land or sea) and, with true cells given, set_LEVEL_holds.
        """
        count = 1 if said.logits is None else said.logits.shape[1]
        step = max(1, MAX_CHUNK_VALUES // count)
        starts = range(0, max(1, len(said.answers_deg)), step)
        parts = [
            self._describe_slice(said.slice_places(at, at + step), None if cell is None else cell[at : at + step])
            for at in starts
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _describe_slice(self, said: HeadOutput, cell: IntArray | None) -> dict[str, npt.NDArray[Any]]:
        if said.logits is None or said.sides_km is None or self.temperature is None:
            return self._radii(compute_raw_expected_km(said, None))
        raw, posterior = (
            compute_raw_expected_km(said, self.temperature),
            apply_temperature(said.logits, self.temperature),
        )
        found = {"expected_error_km": self.scale * raw, **self._radii(raw)}
        found |= {"cell": posterior.argmax(axis=1), "cell_probability": posterior.max(axis=1)}
        for name, inside in self.sets(posterior).items():
            found |= {f"set_{name}_cells": inside.sum(axis=1), f"set_{name}_km2": inside @ said.sides_km**2}
            if cell is not None:
                found[f"set_{name}_holds"] = inside[np.arange(len(cell)), cell]
        return found

    def sets(self, posterior: FloatArray) -> dict[str, BoolArray]:
        """Level -> (N, K) which cells together hold the true place with that probability.

        Args:
            posterior: (N, K) probabilities at the calibration's temperature.
        """
        scores = conformal.compute_mass_scores(posterior)
        return {name: scores <= (math.inf if most is None else most) for name, most in (self.mass or {}).items()}

    def _radii(self, raw: FloatArray) -> dict[str, npt.NDArray[Any]]:
        known = {name: stretch for name, stretch in self.stretch.items() if stretch is not None}
        return {f"radius_{name}_km": np.minimum(stretch * raw, MAX_DISTANCE_KM) for name, stretch in known.items()}

    def state(self) -> dict[str, Any]:
        """Plain values from which `restore_calibration` makes the same."""
        return asdict(self)


def restore_calibration(state: dict[str, Any]) -> Calibration:
    """Makes the calibration again that `Calibration.state` described."""
    return Calibration(**state)


def compute_raw_expected_km(said: HeadOutput, temperature: float | None) -> FloatArray:
    """(N,) the expected error before any scale; 1 km each for a head without cells, which knows no more."""
    if said.logits is None or said.vectors is None or said.sides_km is None or temperature is None:
        return np.ones(len(said.answers_deg))
    away_km = compute_distances_km(said.answers_deg, said.vectors)
    return compute_expected_km(apply_temperature(said.logits, temperature), away_km, said.sides_km)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
