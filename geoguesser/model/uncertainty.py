"""Uncertainty: calibrated probabilities, sets of cells, radii and expected errors of predictions.

Calibration places are places that neither trained nor chose the network. They give the temperature of the
probabilities, and the thresholds of sets and radii that contain the true place with a nominal probability
(`model/conformal.py`). docs/uncertainty.md says what these promise.

Temperature. p_c(T) = exp(l_c / T) / sum_k exp(l_k / T). T minimises the mean negative log-likelihood (NLL) of the
true cells, log sum_k exp(b l_k) - b l_true with b = 1 / T. The first term is convex in b and the second linear, so
that there is one minimum. Source: C. Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.

Expected error. A place in a cell lies off the cell's point. Let the point be at distance d from the answer and the
place uniform in a square of side s around the point. At d = 0 the mean distance is

    m s,   m = 4 int_0^1/2 int_0^1/2 sqrt(x^2 + y^2) dx dy = (sqrt 2 + asinh 1) / 6 = 0.3826,                   (1)

and for d much larger than s it is d. In between, sqrt(d^2 + (m s)^2) deviates by less than 8 %. Under the
posterior p_c the expected error is

    e = sum_c p_c sqrt(d_c^2 + (m s_c)^2).                                                                      (2)

Radii. The conformal score of a calibration place is its error divided by e, so that the radius of a new place,
the quantile of the scores times its e, follows the expected error. Source: J. Lei et al., "Distribution-Free
Predictive Inference for Regression", arXiv 1604.04173, the locally weighted form.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from torch import Tensor

from geoguesser.arrays import BoolArray, FloatArray, IntArray
from geoguesser.errors import check_choice, check_int, check_number
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.model import conformal
from geoguesser.model.heads.base import Head
from geoguesser.model.heads.classification import MIN_LOGIT

LEVELS = {"50": 0.5, "90": 0.9, "95": 0.95}
TEMPERATURE_RANGE = (0.05, 20.0)
MEAN_DISTANCE_IN_SQUARE = 0.382598  # m of equation (1)
MAX_DISTANCE_KM = math.pi * EARTH_RADIUS_KM
MAX_CHUNK_VALUES = 2**22  # probabilities in memory at a time


class HeadOutput(NamedTuple):
    """Decoded output of a head for N places; only answers for a head without cells.

    Attributes:
        answers_deg: (N, 2) predicted latitude and longitude in degrees.
        logits: (N, K) logits over cells.
        vectors: (K, 3) unit vectors of the cells' points, or (N, K, 3) if they differ between places.
        sides_km: (K,) sides of the cells in km.
    """

    answers_deg: FloatArray
    logits: FloatArray | None = None
    vectors: FloatArray | None = None
    sides_km: FloatArray | None = None

    def slice_places(self, start: int, stop: int) -> HeadOutput:
        rows = slice(start, stop)
        if self.logits is None or self.vectors is None:
            return HeadOutput(self.answers_deg[rows])
        vectors = self.vectors if self.vectors.ndim == 2 else self.vectors[rows]
        return HeadOutput(self.answers_deg[rows], self.logits[rows], vectors, self.sides_km)


def decode_output(head: Head, out: Tensor, answers_deg: FloatArray | None = None) -> HeadOutput:
    """Decodes the output (N, output_size) of a head. Known answers in degrees (N, 2) save one step."""
    if answers_deg is None:
        answers_deg = head.decode(out).detach().cpu().double().numpy()
    logits, points = head.logits(out), head.points(out)
    if head.grid is None or logits is None or points is None:
        return HeadOutput(answers_deg)

    # The length of float32 vectors misses 1 by 1e-7, which arccos would show as 2 km.
    vectors = points.detach().cpu().double().numpy()
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return HeadOutput(answers_deg, logits.detach().cpu().double().numpy(), vectors, head.grid.class_sides_km)


def apply_temperature(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Returns probabilities (N, K) of logits (N, K) at a temperature."""
    weights = np.exp(_shift_logits(logits) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def compute_nll(logits: FloatArray, cell: IntArray, temperature: float = 1.0) -> float:
    """Returns the mean negative log-likelihood of the true cells (N,) in nats, for logits (N, K)."""
    scaled = _shift_logits(logits) / temperature
    true_logits = scaled[np.arange(len(cell)), cell]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - true_logits))


def fit_temperature(logits: FloatArray, cell: IntArray) -> float:
    """Returns the temperature at which the true cells (N,) are most likely, or 1 if no other is better."""
    low, high = np.log(TEMPERATURE_RANGE)
    minimum: Any = minimize_scalar(
        lambda log_temperature: compute_nll(logits, cell, math.exp(log_temperature)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return math.exp(minimum.x) if minimum.fun < compute_nll(logits, cell) - 1e-9 else 1.0


def _shift_logits(logits: FloatArray) -> FloatArray:
    """Returns logits relative to the largest one of each place, at least `MIN_LOGIT`."""
    return np.maximum(logits - logits.max(axis=1, keepdims=True), MIN_LOGIT)


def compute_distances_km(answers_deg: FloatArray, vectors: FloatArray) -> FloatArray:
    """Returns great-circle distances (N, K) in km, to a metre. The unit vectors must be float64."""
    unit = to_unit(answers_deg)
    cosine = unit @ vectors.T if vectors.ndim == 2 else np.einsum("nd,nkd->nk", unit, vectors)
    return EARTH_RADIUS_KM * np.arccos(np.clip(cosine, -1.0, 1.0))


def compute_expected_km(posterior: FloatArray, away_km: FloatArray, sides_km: FloatArray) -> FloatArray:
    """Returns the expected error (N,) of each answer under its posterior (N, K), by equation (2)."""
    return (posterior * np.hypot(away_km, MEAN_DISTANCE_IN_SQUARE * sides_km)).sum(axis=1)


def compute_raw_expected_km(output: HeadOutput, temperature: float | None) -> FloatArray:
    """Returns the expected error (N,) in km before it is scaled, 1 km for a head without cells."""
    if output.logits is None or output.vectors is None or output.sides_km is None or temperature is None:
        return np.ones(len(output.answers_deg))
    away_km = compute_distances_km(output.answers_deg, output.vectors)
    return compute_expected_km(apply_temperature(output.logits, temperature), away_km, output.sides_km)


@dataclass(frozen=True)
class Calibration:
    """Conversion of a head's output to probabilities, sets and radii, learnt from calibration places.

    Attributes:
        places: Number of calibration places.
        temperature: Temperature of the reported probabilities, not of the decoder; None for a head without cells.
        scale: Factor of the raw expected error. It makes the mean right for the calibration places.
        mass: Level in percent -> largest mass score in the set, None for all cells; None for a head without cells.
        stretch: Level in percent -> radius divided by the raw expected error, None with too few places.
    """

    places: int
    temperature: float | None
    scale: float
    mass: dict[str, float | None] | None
    stretch: dict[str, float | None]

    @classmethod
    def fit(cls, output: HeadOutput, cell: IntArray | None, error_km: FloatArray) -> Calibration:
        """Learns from the output, true cells (N,) and errors in km (N,) of N calibration places."""
        temperature, mass = None, None
        if output.logits is not None and cell is not None:
            temperature = fit_temperature(output.logits, cell)
            all_scores = conformal.compute_mass_scores(apply_temperature(output.logits, temperature))
            mass = _compute_quantiles(all_scores[np.arange(len(cell)), cell])

        raw_km = compute_raw_expected_km(output, temperature)
        stretch = _compute_quantiles(error_km / raw_km)
        return cls(len(error_km), temperature, float(error_km.mean() / raw_km.mean()), mass, stretch)

    def describe_places(self, output: HeadOutput, cell: IntArray | None = None) -> dict[str, npt.NDArray[Any]]:
        """Returns columns (N,) by name.

        For each level that has enough calibration places, radius_LEVEL_km. For a head with cells also
        expected_error_km, cell, cell_probability, and for each level set_LEVEL_cells, set_LEVEL_km2 (area of the
        cells, land and sea) and, given true cells (N,), set_LEVEL_holds.
        """
        num_cells = 1 if output.logits is None else output.logits.shape[1]
        step = max(1, MAX_CHUNK_VALUES // num_cells)
        parts = [
            self._describe_chunk(
                output.slice_places(start, start + step), None if cell is None else cell[start : start + step]
            )
            for start in range(0, max(1, len(output.answers_deg)), step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _describe_chunk(self, output: HeadOutput, cell: IntArray | None) -> dict[str, npt.NDArray[Any]]:
        raw_km = compute_raw_expected_km(output, self.temperature)
        radii = {
            f"radius_{name}_km": np.minimum(stretch * raw_km, MAX_DISTANCE_KM)
            for name, stretch in self.stretch.items()
            if stretch is not None
        }
        if output.logits is None or output.sides_km is None or self.temperature is None:
            return radii

        posterior = apply_temperature(output.logits, self.temperature)
        columns = {"expected_error_km": self.scale * raw_km, **radii}
        columns |= {"cell": posterior.argmax(axis=1), "cell_probability": posterior.max(axis=1)}
        for name, inside in self.sets(posterior).items():
            columns |= {f"set_{name}_cells": inside.sum(axis=1), f"set_{name}_km2": inside @ output.sides_km**2}
            if cell is not None:
                columns[f"set_{name}_holds"] = inside[np.arange(len(cell)), cell]
        return columns

    def sets(self, posterior: FloatArray) -> dict[str, BoolArray]:
        """Returns level -> cells (N, K) that together contain the true place with that probability.

        The posterior (N, K) must be at the calibration's temperature.
        """
        scores = conformal.compute_mass_scores(posterior)
        return {
            name: scores <= (math.inf if limit is None else limit) for name, limit in (self.mass or {}).items()
        }

    def state(self) -> dict[str, Any]:
        """Returns plain values from which `restore_calibration` makes the same calibration."""
        return asdict(self)


def restore_calibration(state: dict[str, Any]) -> Calibration:
    """Makes the calibration that `Calibration.state` described; raises ConfigError for a value of another kind."""
    check_int("calibration.places", state["places"], low=1)
    check_number("calibration.scale", state["scale"], low=0.0)
    if state["temperature"] is not None:
        check_number("calibration.temperature", state["temperature"], low=0.0, open_low=True)
    for name in ("mass", "stretch"):
        levels = state[name] if name == "stretch" or state[name] is not None else {}
        for level, value in levels.items():
            check_choice(f"calibration.{name}", level, tuple(LEVELS))
            if value is not None:
                check_number(f"calibration.{name}.{level}", value)
    return Calibration(**state)


def _compute_quantiles(scores: FloatArray) -> dict[str, float | None]:
    """Returns level in percent -> conformal threshold, None if it is infinite."""
    quantiles = {name: conformal.compute_quantile(scores, level) for name, level in LEVELS.items()}
    return {name: value if math.isfinite(value) else None for name, value in quantiles.items()}
