"""Evaluated: all figures of one set of predictions with their intervals. Pure statistics; no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from geoguesser.arrays import FloatArray
from geoguesser.evaluation.bootstrap import BootstrapMean, Resampling
from geoguesser.evaluation.error_budget import name_parts
from geoguesser.evaluation.intervals import (
    MIN_PLACES,
    MIN_PLACES_FOR_MEAN,
    Interval,
    compute_mean_interval,
    compute_median_interval,
)
from geoguesser.evaluation.resampling_units import make_units
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region, world
from geoguesser.geo.score import FIELD_RADII_KM, SHARE_RADII_KM, WORLD_DIAGONAL_KM, compute_game_score
from geoguesser.inference.predictions import Predictions
from geoguesser.model.conformal import compute_wilson_interval, interval_95
from geoguesser.model.heads.classification import TOP_CELLS

FORMAT = 1
MAX_CRS_DISTANCE_KM = 2500.0  # places farther off the land are drawn by blocks of the sphere


def compute_metrics(
    predicted_deg: FloatArray,
    true_deg: FloatArray,
    region: Region,
    *,
    confidence: float,
    samples: int,
    seed: int,
    block_km: float | None,
) -> dict[str, Any]:
    """The figures of N predictions.

    Args:
        predicted_deg: (N, 2), N at least 1.
        true_deg: (N, 2).
        region: Its diagonal is that of the country's game score, and its blocks are what the bootstrap draws.
        confidence: Of the intervals.
        samples: Resamples of the bootstrap.
        seed: Draws them.
        block_km: As `units.units_of` takes it.

    Returns:
        Plain values: places, units, `error_km` (mean, median, p90), `share_within_km` by radius, `score` (of the
        region and of the world) and `by_part`. A figure is a dictionary of value, low and high; the limits are
        null where there are fewer than 20 places, and of means and scores where there are fewer than 40.
    """
    error_km = haversine_km(predicted_deg, true_deg)
    drawn_in = region if region.distance_to_land_km(true_deg).max() < MAX_CRS_DISTANCE_KM else world()
    units = make_units(drawn_in, true_deg, block_km)
    resampling = None
    if len(error_km) >= MIN_PLACES:
        resampling = Resampling(units.unit, samples=samples, seed=seed)
    mean = _means(resampling, confidence)
    scores = {"country": region.diagonal_km, "world": WORLD_DIAGONAL_KM}
    radii = sorted({*SHARE_RADII_KM, *FIELD_RADII_KM})
    return {
        "format": FORMAT,
        "places": len(error_km),
        "region": region.name,
        "confidence": confidence,
        "units": str(units),
        "error_km": {
            "mean": asdict(mean(error_km)),
            "median": asdict(
                Interval(float(np.median(error_km)))
                if resampling is None
                else compute_median_interval(resampling, error_km, confidence)
            ),
            "p90": float(np.percentile(error_km, 90)),
        },
        "share_within_km": {
            str(radius): asdict(compute_share_interval(error_km <= radius, resampling, confidence))
            for radius in radii
        },
        "score": {
            name: {"diagonal_km": diagonal, **asdict(mean(compute_game_score(error_km, diagonal)))}
            for name, diagonal in scores.items()
        },
        "by_part": _by_part(drawn_in, true_deg, error_km),
    }


def _means(resampling: Resampling | None, confidence: float) -> Callable[[FloatArray], Interval]:
    def of(values: FloatArray) -> Interval:
        if resampling is None or len(values) < MIN_PLACES_FOR_MEAN:
            return Interval(float(values.mean()))
        return compute_mean_interval(resampling.mean(values), confidence)

    return of


def compute_share_interval(
    hits: np.ndarray[Any, Any], resampling: Resampling | None, confidence: float
) -> Interval:
    """The interval of a share of N places.

    Wilson's, for as many independent places as would have the standard error that units show.

    Args:
        hits: (N,) whether each place counts.
        resampling: Of the units; None for no limits.
        confidence: Of the interval.

    Source: of the effective number, E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193.
    """
    share = float(hits.mean())
    if resampling is None:
        return Interval(share)
    pivot: BootstrapMean = resampling.mean(hits.astype(np.float64))
    count = float(resampling.units)
    if pivot.standard_error > 0.0:
        count = min(float(len(hits)), share * (1.0 - share) / pivot.standard_error**2)
    z = float(stats.t.ppf(0.5 + confidence / 2.0, max(resampling.units - 1, 1)))
    return Interval(share, *compute_wilson_interval(share, count, z))


def _by_part(region: Region, true_deg: FloatArray, error_km: FloatArray) -> dict[str, Any]:
    """Mean and median error by part of the land, worst first."""
    part = name_parts(region, true_deg, true_deg)
    found = {
        str(name): {
            "places": int((part == name).sum()),
            "error_km_mean": float(error_km[part == name].mean()),
            "error_km_median": float(np.median(error_km[part == name])),
        }
        for name in np.unique(part)
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["error_km_mean"]))


def compute_coverage(answers: Predictions, true_deg: FloatArray) -> dict[str, Any] | None:
    """How well the model knew how sure it was: coverage of radii and sets, expected against true error.

    Args:
        answers: Of N places.
        true_deg: (N, 2).

    Returns:
        None where the model is not calibrated.
    """
    error_km = haversine_km(answers.coords_deg, true_deg)
    found: dict[str, Any] = {}
    for level, radius_km in (answers.radius_km or {}).items():
        found.setdefault("radii", {})[level] = _coverage(error_km <= radius_km)
    if answers.grid is not None and answers.sets is not None:
        cell = answers.grid.assign(true_deg)
        for level, inside in answers.sets.items():
            found.setdefault("sets", {})[level] = _coverage(inside[np.arange(len(cell)), cell])
    if answers.expected_error_km is not None:
        found["expected_error_km_mean"] = float(answers.expected_error_km.mean())
        found["error_km_mean"] = float(error_km.mean())
    return found or None


def compute_cell_accuracy(answers: Predictions, true_deg: FloatArray) -> dict[str, float] | None:
    """The share of places whose cell was the most probable one, or one of five; None without cells."""
    if answers.grid is None or answers.posterior is None:
        return None
    best, _ = answers.top_cells(TOP_CELLS)
    right = best == answers.grid.assign(true_deg)[:, None]
    return {"cell_top1": float(right[:, 0].mean()), "cell_top5": float(right.any(axis=1).mean())}


def _coverage(holds: np.ndarray[Any, Any]) -> dict[str, float]:
    low, high = interval_95(int(holds.sum()), len(holds))
    return {"coverage": float(holds.mean()), "low": low, "high": high}
