"""Losses of classification heads: logits over cells against the true place, and what of it each loss needs.

A loss says once per run what it must know of each place (`targets`); in a step it sees the batch's part of that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, check_number
from geoguesser.geo.distance import chord_to_km, to_unit
from geoguesser.geo.grid import Grid

LossTarget = dict[str, Tensor]

MIN_NEIGHBOURS = 32  # class points that take part in a smoothed target; of more, where these do not hold all of it
NEGLIGIBLE_SHARE = 1e-4  # share of a smoothed target that the farthest of them may still have


class CellLoss(ABC):
    """A loss of logits over cells.

    Args:
        balance: Weighs each place by (training places in its cell) ** -balance: 0 all alike, 1 every cell alike.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, *, balance: float = 0.0) -> None:
        self.balance = check_number("loss.balance", balance, low=0.0, high=1.0)

    def targets(self, grid: Grid, coords_deg: FloatArray) -> LossTarget:
        """What the loss must know of N places, each with N rows; `cell` is the class of each.

        Args:
            grid: The fitted grid, K classes.
            coords_deg: (N, 2) true places in degrees.
        """
        return {"cell": torch.from_numpy(grid.assign(coords_deg))}

    def class_weights(self, counts: FloatArray) -> FloatArray | None:
        """(K,) the weight of a place by its class, 1 on average over the training places; None for all alike.

        Args:
            counts: (K,) training places of each class.
        """
        if self.balance == 0.0:
            return None
        weights = np.maximum(counts, 1.0) ** -self.balance
        return weights * counts.sum() / (weights * counts).sum()

    def shares(self, target: LossTarget, num_cells: int) -> Tensor:
        """(K,) float64 shares of the cells in the targets of these places, weighed as in the loss."""
        weight = target.get("weight", torch.ones(len(target["cell"]))).double()
        near, share = target.get("near", target["cell"][:, None]), target.get("share")
        each = weight[:, None] * (torch.ones(near.shape) if share is None else share)
        sums = torch.zeros(num_cells, dtype=torch.float64).index_add_(0, near.long().flatten(), each.flatten())
        return sums / sums.sum()

    def __call__(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        """The batch's mean loss, a scalar.

        Args:
            logits: (B, K).
            target: The batch's rows of `targets`, and `weight` (B,) where places are weighed.
            class_vectors: (K, 3) unit vectors of the class points.
        """
        losses = self.compute_losses(logits.float(), target, class_vectors)
        weight = target.get("weight")
        return losses.mean() if weight is None else (losses * weight).mean()

    @abstractmethod
    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        """(B,) the loss of each place."""


class CrossEntropy(CellLoss):
    """Cross entropy against the true cell.

    Args:
        label_smoothing: The share of the target that is spread evenly over all cells, from 0 to below 1.
        balance: As in CellLoss.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, *, label_smoothing: float = 0.0, balance: float = 0.0) -> None:
        super().__init__(balance=balance)
        self.label_smoothing = check_number("loss.label_smoothing", label_smoothing, low=0.0, high=1.0)
        if self.label_smoothing == 1.0:
            raise ConfigError.at("loss.label_smoothing", "must be below 1", found=label_smoothing)

    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, target["cell"], label_smoothing=self.label_smoothing, reduction="none"
        )


class SmoothedCrossEntropy(CellLoss):
    """Cross entropy against targets that are smoothed by distance: q_c ~ exp(-d(x, g_c) / (tau s)).

    d is the great-circle distance from the place x to the class point g_c, s the side of the place's own cell. A
    place near the edge of its cell so counts for the neighbour as well, and a near miss costs less than a far one.

    Args:
        tau: How far a target reaches, in sides of the place's cell.
        balance: As in CellLoss.

    Raises:
        ConfigError: A value is out of range.

    Source: PIGEON, arXiv 2307.05845, haversine smoothing. (Its distance to the own cell's point, taken from all
    exponents, cancels out.)
    """

    def __init__(self, *, tau: float = 0.3, balance: float = 0.0) -> None:
        super().__init__(balance=balance)
        self.tau = check_number("loss.tau", tau, low=0.0, high=100.0, open_low=True)

    def targets(self, grid: Grid, coords_deg: FloatArray) -> LossTarget:
        found = super().targets(grid, coords_deg)
        reach_km = self.tau * grid.class_sides_km[found["cell"].numpy()]
        near, share = compute_smoothed_targets(coords_deg, grid.class_points_deg, reach_km)
        return found | {"near": torch.from_numpy(near), "share": torch.from_numpy(share)}

    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        near = logits.gather(1, target["near"].long())
        return torch.logsumexp(logits, dim=1) - (near * target["share"]).sum(dim=1)


class ExpectedDistance(CellLoss):
    """The expected great-circle distance under the posterior, in sides of an average cell: sum of p_c d(x, g_c).

    This is the score itself, but its gradient vanishes for a posterior that is confidently wrong, and it does not
    train calibrated probabilities.

    Args:
        balance: As in CellLoss.
    """

    def targets(self, grid: Grid, coords_deg: FloatArray) -> LossTarget:
        vectors = torch.from_numpy(to_unit(coords_deg)).float()
        unit_km = torch.full((len(vectors),), float(np.mean(grid.class_sides_km)))
        return super().targets(grid, coords_deg) | {"vector": vectors, "unit_km": unit_km}

    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        distance = compute_arcs_km(target["vector"], class_vectors) / target["unit_km"][:, None]
        return (torch.softmax(logits, dim=1) * distance).sum(dim=1)


def compute_smoothed_targets(
    coords_deg: FloatArray, class_points_deg: FloatArray, reach_km: FloatArray
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Shares of the class points near each place: exp(-distance / reach), summing to 1.

    Args:
        coords_deg: (N, 2) places in degrees.
        class_points_deg: (K, 2) in degrees.
        reach_km: (N,) above 0.

    Returns:
        (N, M) classes, nearest first, and (N, M) their shares. M is at most K, and such that a class beyond has
        a negligible share for 99 places of 100.
    """
    tree = cKDTree(to_unit(class_points_deg))
    vectors, most = to_unit(coords_deg), len(class_points_deg)
    count = min(MIN_NEIGHBOURS, most)
    while True:
        chords, near = tree.query(vectors, k=np.arange(1, count + 1))
        arcs = chord_to_km(np.asarray(chords))
        share = np.exp((arcs[:, :1] - arcs) / reach_km[:, None])
        share /= share.sum(axis=1, keepdims=True)
        if count == most or np.mean(share[:, -1] > NEGLIGIBLE_SHARE) <= 0.01:
            return np.asarray(near, dtype=np.int32), np.asarray(share, dtype=np.float32)
        count = min(2 * count, most)


def compute_arcs_km(vectors: Tensor, class_vectors: Tensor) -> Tensor:
    """(B, 3) and (K, 3) unit vectors -> (B, K) great-circle distances, within metres in 32 bits.

    From differences, not products: those would lose kilometres in 32 bits, and all of them under mixed precision.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        chords = torch.cdist(vectors[None], class_vectors[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
        return chord_to_km(chords)
