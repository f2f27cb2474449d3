"""Metrics: results per place, gathered over an epoch and over processes, and their summary in km."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from geoguesser.arrays import FloatArray
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.score import compute_game_score, compute_shares_within


class PlaceResults:
    """Results of the places of an epoch, in ascending order of `index` (N,), each place once.

    Holds rows in the table of places, predictions in degrees (N, 2), errors in km (N,) and the head's hits (N, H).
    It is no dataclass or tuple: torchmetrics looks into those and squeezes tensors of one element.
    """

    def __init__(self, index: Tensor, predicted_deg: Tensor, error_km: Tensor, hits: Tensor) -> None:
        self.index = index
        self.predicted_deg = predicted_deg
        self.error_km = error_km
        self.hits = hits


class PlaceErrors(Metric):
    """Predictions per place. `compute` returns the `PlaceResults` of all processes.

    Every place is kept, because a mean of batch means would give places of a smaller last batch more weight.
    """

    full_state_update = False
    index: list[Tensor]
    predicted_deg: list[Tensor]
    error_km: list[Tensor]
    hits: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("index", "predicted_deg", "error_km", "hits"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, predicted_deg: Tensor, true_deg: Tensor, hits: Tensor) -> None:
        """Adds a batch: rows in the table of places (B,), coordinates in degrees (B, 2), hits (B, H)."""
        self.index.append(index)
        self.predicted_deg.append(predicted_deg)
        self.error_km.append(haversine_km(predicted_deg, true_deg))
        self.hits.append(hits)

    def compute(self) -> PlaceResults:
        """Returns the results of all batches since the last reset, sorted by index."""
        index = dim_zero_cat(self.index)
        order = torch.argsort(index)
        parts = (dim_zero_cat(state)[order] for state in (self.predicted_deg, self.error_km, self.hits))
        return PlaceResults(index[order], *parts)


def summarise_errors(error_km: FloatArray, diagonal_km: float) -> dict[str, Any]:
    """Summarises errors (N,) in km. The region's diagonal in km is for the game score.

    Returns:
        `error_km_mean`, `error_km_median` and `error_km_p90` in km; `share_within_km`, radius in km -> share of
        the places from 0 to 1; `score_mean`, the mean game score from 0 to 5000.
    """
    return {
        "error_km_mean": float(np.mean(error_km)),
        "error_km_median": float(np.median(error_km)),
        "error_km_p90": float(np.percentile(error_km, 90)),
        "share_within_km": compute_shares_within(error_km),
        "score_mean": float(np.mean(compute_game_score(error_km, diagonal_km))),
    }
