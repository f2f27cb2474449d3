"""Losses of heads with cells: logits over cells against the true place.

Notation. p = softmax(l) is the posterior of logits l over K cells, x the true place, c(x) its cell, g_c the class
point of cell c, and d the great-circle distance in km.
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

# A smoothed target is stored for the nearest class points: MIN_NEIGHBOURS of them, or more until the farthest one
# has at most NEGLIGIBLE_SHARE of the target for all but MAX_CUT_PLACES of the places.
MIN_NEIGHBOURS = 32
NEGLIGIBLE_SHARE = 1e-4
MAX_CUT_PLACES = 0.01


class CellLoss(ABC):
    """Loss of logits over cells.

    Args:
        class_balance: Exponent of the class weights, from 0 to 1. A place in a cell with n training places has a
            weight proportional to n^-class_balance: 0 weighs all places the same, 1 all cells.
    """

    def __init__(self, *, class_balance: float = 0.0) -> None:
        self.class_balance = check_number("loss.class_balance", class_balance, low=0.0, high=1.0)

    def targets(self, grid: Grid, coords_deg: FloatArray) -> LossTarget:
        """Returns the loss's targets of N places in degrees, as tensors of N rows; `cell` is the class.

        A run computes them once, and a training step passes the rows of its batch.
        """
        return {"cell": torch.from_numpy(grid.assign(coords_deg))}

    def class_weights(self, counts: FloatArray) -> FloatArray | None:
        """Returns the weight (K,) of a place by its class, or None if all are equal.

        The mean weight of the training places, (K,) `counts` per class, is 1, so that the loss keeps its size.
        """
        if self.class_balance == 0.0:
            return None
        weights = np.maximum(counts, 1.0) ** -self.class_balance
        return weights * counts.sum() / (weights * counts).sum()

    def shares(self, target: LossTarget, num_cells: int) -> Tensor:
        """Returns the cells' shares (K,) of the targets, weighted as in the loss, float64.

        Cross entropy is smallest at these shares if the posterior is the same for all places. `target` holds rows
        of `targets`, and optionally `weight`.
        """
        weight = target.get("weight", torch.ones(len(target["cell"]))).double()
        near = target.get("near", target["cell"][:, None])
        share = target.get("share", torch.ones(near.shape))

        terms = (weight[:, None] * share).flatten()
        sums = torch.zeros(num_cells, dtype=torch.float64).index_add_(0, near.long().flatten(), terms)
        return sums / sums.sum()

    def __call__(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        """Returns the mean loss of a batch, a scalar, for logits (B, K) and unit vectors (K, 3) of class points.

        `target` holds the rows of `targets` for the places of the batch, and optionally `weight` (B,).
        """
        losses = self.compute_losses(logits.float(), target, class_vectors)
        weight = target.get("weight")
        return losses.mean() if weight is None else (losses * weight).mean()

    @abstractmethod
    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        """Returns the loss of each place (B,)."""


class CrossEntropy(CellLoss):
    """Cross entropy against the true cell: -sum_c q_c log p_c, with q_c = (1 - s) [c = c(x)] + s / K.

    Args:
        label_smoothing: Share s of the target that is spread evenly over all cells, from 0 to below 1.

    Source of label smoothing: C. Szegedy et al., arXiv 1512.00567.
    """

    def __init__(self, *, label_smoothing: float = 0.0, class_balance: float = 0.0) -> None:
        super().__init__(class_balance=class_balance)
        self.label_smoothing = check_number("loss.label_smoothing", label_smoothing, low=0.0, high=1.0)
        if self.label_smoothing == 1.0:
            raise ConfigError.at("loss.label_smoothing", "must be below 1", found=label_smoothing)

    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, target["cell"], label_smoothing=self.label_smoothing, reduction="none"
        )


class SmoothedCrossEntropy(CellLoss):
    """Cross entropy against targets that decrease with distance: q_c proportional to exp(-d(x, g_c) / (tau s)).

    s is the side of the cell of x. A place near the edge of its cell also counts for the neighbouring cell, and a
    near miss costs less than a far one. With targets that sum to 1, the loss is

        -sum_c q_c log p_c = log sum_k exp(l_k) - sum_c q_c l_c.

    Args:
        tau: Reach of a target in sides of the place's cell, above 0.

    Source: L. Haas et al. (PIGEON), arXiv 2307.05845, haversine smoothing. There the exponent is
    -(d(x, g_c) - d(x, g_c(x))) / tau; the second term is the same for all cells and cancels.
    """

    def __init__(self, *, tau: float = 0.3, class_balance: float = 0.0) -> None:
        super().__init__(class_balance=class_balance)
        self.tau = check_number("loss.tau", tau, low=0.0, high=100.0, open_low=True)

    def targets(self, grid: Grid, coords_deg: FloatArray) -> LossTarget:
        target = super().targets(grid, coords_deg)
        reach_km = self.tau * grid.class_sides_km[target["cell"].numpy()]
        near, share = compute_smoothed_targets(coords_deg, grid.class_points_deg, reach_km)
        return target | {"near": torch.from_numpy(near), "share": torch.from_numpy(share)}

    def compute_losses(self, logits: Tensor, target: LossTarget, class_vectors: Tensor) -> Tensor:
        near = logits.gather(1, target["near"].long())
        return torch.logsumexp(logits, dim=1) - (near * target["share"]).sum(dim=1)


class ExpectedDistance(CellLoss):
    """Expected distance under the posterior, in sides of an average cell: sum_c p_c d(x, g_c) / s.

    This is the score itself. Its gradient by l_c is p_c (d(x, g_c) - sum_k p_k d(x, g_k)) / s, which vanishes for
    a posterior that is confident, right or wrong. It does not train calibrated probabilities.
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
    """Computes shares of the class points near each place: proportional to exp(-distance / reach), with sum 1.

    Takes places (N, 2) and class points (K, 2) in degrees, and the reach (N,) in km. Returns classes (N, M),
    nearest first, and their shares (N, M). For 99 % of the places, the share of the farthest class is negligible.
    """
    tree = cKDTree(to_unit(class_points_deg))
    vectors, num_classes = to_unit(coords_deg), len(class_points_deg)

    count = min(MIN_NEIGHBOURS, num_classes)
    while True:
        chords, near = tree.query(vectors, k=np.arange(1, count + 1))
        arcs_km = chord_to_km(np.asarray(chords))

        # Distances relative to the nearest class point: its term is 1, and no sum underflows.
        share = np.exp((arcs_km[:, :1] - arcs_km) / reach_km[:, None])
        share /= share.sum(axis=1, keepdims=True)

        if count == num_classes or np.mean(share[:, -1] > NEGLIGIBLE_SHARE) <= MAX_CUT_PLACES:
            return np.asarray(near, dtype=np.int32), np.asarray(share, dtype=np.float32)
        count = min(2 * count, num_classes)


def compute_arcs_km(vectors: Tensor, class_vectors: Tensor) -> Tensor:
    """Returns great-circle distances in km (B, K) between unit vectors (B, 3) and (K, 3), to metres in float32.

    Computed from differences of the vectors. Products would lose kilometres in float32 and more under mixed
    precision, because 1 - cos(theta) of a small angle is lost to rounding.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        chords = torch.cdist(vectors[None], class_vectors[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
        return chord_to_km(chords)
