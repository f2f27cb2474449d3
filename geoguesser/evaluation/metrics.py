"""Metrics of a set of predictions, with confidence intervals."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from geoguesser.arrays import BoolArray, FloatArray
from geoguesser.evaluation.bootstrap import BootstrapSettings, Resampling
from geoguesser.evaluation.error_budget import name_parts
from geoguesser.evaluation.intervals import (
    MIN_PLACES,
    MIN_PLACES_FOR_MEAN,
    Interval,
    compute_mean_interval,
    compute_median_interval,
)
from geoguesser.evaluation.resampling_units import make_units
from geoguesser.evaluation.uncertainty_metrics import summarise_coverage
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region, world
from geoguesser.geo.score import BENCHMARK_RADII_KM, SHARE_RADII_KM, WORLD_DIAGONAL_KM, compute_game_score
from geoguesser.inference.predictions import Predictions
from geoguesser.model.conformal import compute_wilson_interval
from geoguesser.model.heads.classification import TOP_CELLS

FORMAT = 1

# Farther off the land, a CRS is too distorted for blocks: those of the sphere are used.
MAX_CRS_DISTANCE_KM = 2500.0


def compute_metrics(
    predicted_deg: FloatArray, true_deg: FloatArray, region: Region, settings: BootstrapSettings
) -> dict[str, Any]:
    """Computes the metrics of N predictions; N is at least 1, and points are (N, 2).

    The region's diagonal scales the game score, and its blocks are resampled.

    Returns:
        Plain values: places, units, `error_km` (mean, median, p90), `share_within_km` by radius, `score` (of the
        region and of the world) and `by_part`. A figure is a dictionary of value, low and high. The limits are
        null with fewer than 20 places, and those of means and scores with fewer than 40.
    """
    error_km = haversine_km(predicted_deg, true_deg)
    is_near = region.distance_to_land_km(true_deg).max() < MAX_CRS_DISTANCE_KM
    block_region = region if is_near else world()

    units = make_units(block_region, true_deg, settings.block_km)
    resampling, confidence = None, settings.confidence
    if len(error_km) >= MIN_PLACES:
        resampling = Resampling(units.unit, samples=settings.samples, seed=settings.seed)

    def compute_mean(values: FloatArray) -> dict[str, Any]:
        if resampling is None or len(values) < MIN_PLACES_FOR_MEAN:
            return asdict(Interval(float(values.mean())))
        return asdict(compute_mean_interval(resampling.mean(values), confidence))

    median = Interval(float(np.median(error_km)))
    if resampling is not None:
        median = compute_median_interval(resampling, error_km, confidence)
    return {
        "format": FORMAT,
        "places": len(error_km),
        "region": region.name,
        "confidence": confidence,
        "units": str(units),
        "error_km": {
            "mean": compute_mean(error_km),
            "median": asdict(median),
            "p90": float(np.percentile(error_km, 90)),
        },
        "share_within_km": {
            str(radius): asdict(compute_share_interval(error_km <= radius, resampling, confidence))
            for radius in sorted({*SHARE_RADII_KM, *BENCHMARK_RADII_KM})
        },
        "score": {
            name: {"diagonal_km": diagonal, **compute_mean(compute_game_score(error_km, diagonal))}
            for name, diagonal in (("country", region.diagonal_km), ("world", WORLD_DIAGONAL_KM))
        },
        "by_part": _compute_errors_by_part(block_region, true_deg, error_km),
    }


def compute_share_interval(hits: BoolArray, resampling: Resampling | None, confidence: float) -> Interval:
    """Returns Wilson's interval of a share, for the effective number of independent places.

    A share p of n independent places has the standard error sqrt(p (1 - p) / n). The effective number of places is
    the n that gives the standard error se over units, p (1 - p) / se^2, at most N. If all places agree, se is 0,
    and the number of units is taken. Without a resampling, the interval has no limits.

    Source: E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193, for the effective number.
    """
    share = float(hits.mean())
    if resampling is None:
        return Interval(share)

    count, error = float(resampling.units), resampling.mean(hits.astype(np.float64)).standard_error
    if error > 0.0:
        count = min(float(len(hits)), share * (1.0 - share) / error**2)
    quantile = float(stats.t.ppf(0.5 + confidence / 2.0, max(resampling.units - 1, 1)))
    return Interval(share, *compute_wilson_interval(share, count, quantile))


def _compute_errors_by_part(region: Region, true_deg: FloatArray, error_km: FloatArray) -> dict[str, Any]:
    """Returns mean and median error by part of the land, by descending mean."""
    names, table = name_parts(region, true_deg, true_deg), {}
    for name in np.unique(names):
        errors = error_km[names == name]
        mean, median = float(errors.mean()), float(np.median(errors))
        table[str(name)] = {"places": len(errors), "error_km_mean": mean, "error_km_median": median}
    return dict(sorted(table.items(), key=lambda part: -part[1]["error_km_mean"]))


def compute_prediction_coverage(predictions: Predictions, true_deg: FloatArray) -> dict[str, Any] | None:
    """Computes the coverage of radii and sets, and mean expected and true errors; None without a calibration."""
    error_km = haversine_km(predictions.coords_deg, true_deg)
    summary: dict[str, Any] = {}
    if predictions.radius_km:
        radii = predictions.radius_km.items()
        summary["radii"] = {level: summarise_coverage(error_km <= radius_km) for level, radius_km in radii}

    if predictions.grid is not None and predictions.sets:
        cell = predictions.grid.assign(true_deg)
        places = np.arange(len(cell))
        sets = predictions.sets.items()
        summary["sets"] = {level: summarise_coverage(inside[places, cell]) for level, inside in sets}

    if predictions.expected_error_km is not None:
        summary["expected_error_km_mean"] = float(predictions.expected_error_km.mean())
        summary["error_km_mean"] = float(error_km.mean())
    return summary or None


def compute_cell_accuracy(predictions: Predictions, true_deg: FloatArray) -> dict[str, float] | None:
    """Returns the shares of places whose cell is the most probable one, or one of five; None without cells."""
    if predictions.grid is None or predictions.posterior is None:
        return None

    best, _ = predictions.top_cells(TOP_CELLS)
    right = best == predictions.grid.assign(true_deg)[:, None]
    return {"cell_top1": float(right[:, 0].mean()), "cell_top5": float(right.any(axis=1).mean())}
