"""Metrics: what each place got, gathered over an epoch (and over processes), and its summary in km."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from geoguesser.geo.distance import FloatArray, haversine_km
from geoguesser.geo.score import compute_game_score, compute_shares_within


class PlaceResults:
    """What each place of an epoch got, in ascending order of `index`, each place once.

    No dataclass and no tuple: torchmetrics goes through those and squeezes tensors of one element,
    which the results of a single place are.

    Attributes:
        index: (N,) rows of the table of places.
        predicted_deg: (N, 2) predicted latitude and longitude.
        error_km: (N,) great-circle errors.
        hits: (N, H) the head's hits.
    """

    def __init__(self, index: Tensor, predicted_deg: Tensor, error_km: Tensor, hits: Tensor) -> None:
        self.index = index
        self.predicted_deg = predicted_deg
        self.error_km = error_km
        self.hits = hits


class PlaceErrors(Metric):
    """Gathers predictions per place. `compute` gives `PlaceResults`, over all processes.

    A mean of batch means would weigh places of the last, smaller batch more; this keeps every place.
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
        """Takes a batch.

        Args:
            index: (B,) rows of the table of places.
            predicted_deg: (B, 2) predicted latitude and longitude.
            true_deg: (B, 2) true latitude and longitude.
            hits: (B, H) bool, the head's hits.
        """
        self.index.append(index)
        self.predicted_deg.append(predicted_deg)
        self.error_km.append(haversine_km(predicted_deg, true_deg))
        self.hits.append(hits)

    def compute(self) -> PlaceResults:
        """All places so far, sorted by index."""
        index = dim_zero_cat(self.index)
        order = torch.argsort(index)
        parts = (dim_zero_cat(state)[order] for state in (self.predicted_deg, self.error_km, self.hits))
        return PlaceResults(index[order], *parts)


def summarise_errors(error_km: FloatArray, diagonal_km: float) -> dict[str, Any]:
    """What is reported of a set of errors.

    Args:
        error_km: (N,) great-circle errors in km, N at least 1.
        diagonal_km: The region's diagonal, for the game score.

    Returns:
        error_km_mean, error_km_median, error_km_p90 in km; share_within_km, radius in km -> 0 to 1;
        score_mean from 0 to 5000.
    """
    return {
        "error_km_mean": float(np.mean(error_km)),
        "error_km_median": float(np.median(error_km)),
        "error_km_p90": float(np.percentile(error_km, 90)),
        "share_within_km": compute_shares_within(error_km),
        "score_mean": float(np.mean(compute_game_score(error_km, diagonal_km))),
    }
