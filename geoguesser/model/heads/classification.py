"""ClassificationHead: probabilities over the cells of a grid, decoded into coordinates."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geoguesser.arrays import FloatArray
from geoguesser.geo.distance import to_unit
from geoguesser.geo.grid import Grid, GridBuilder, restore_grid
from geoguesser.geo.region import Region
from geoguesser.model.decoder import Decoder, restore_decoder
from geoguesser.model.heads.base import Head, TracedHead
from geoguesser.model.losses import CellLoss, CrossEntropy, LossTarget

TOP_CELLS = 5

# Lower limit of the logits in calibrated posteriors, after the largest logit is subtracted. It keeps probabilities
# above 0, so that the log loss is finite.
MIN_LOGIT = -100.0

# Smallest share of the training places in a cell that the initial bias assumes.
MIN_SHARE = 1e-6


class ClassificationHead(Head):
    """Logits over cells. Their softmax is the posterior, which the decoder turns into coordinates.

    If the grid overlays several partitions (`grid.parents`), a class is a piece, the intersection of one cell of
    each partition. The output then holds one value per cell of each partition, and the logit of a piece is the sum
    of the values of the cells that it is cut from. The posterior is thus the normalised product of the partitions'
    posteriors.

    Args:
        in_features: Size of the fused features.
        grid: Fitted grid with K classes.
        loss: Loss of logits over cells.
        decoder: Decoder of the posterior.
        class_weights: (K,) weights of a place in the loss by its class, or None for equal weights.
        extra_outputs: Number of outputs after the logits, for subclasses.

    Attributes:
        parents: (K, P) index of the cell of each of the P partitions that class k is cut from; None for one
            partition.

    Source of overlaid partitions: P. H. Seo et al. (CPlaNet), arXiv 1808.02130.
    """

    kind = "classification"
    grid: Grid
    class_vectors: Tensor
    parents: Tensor | None
    hit_names = ("cell_top1", "cell_top5")

    def __init__(
        self,
        in_features: int,
        *,
        grid: Grid,
        loss: CellLoss,
        decoder: Decoder,
        class_weights: FloatArray | None = None,
        extra_outputs: int = 0,
    ) -> None:
        super().__init__(in_features, grid.num_outputs + extra_outputs)
        self.num_logits = grid.num_outputs
        self.grid = grid
        self.cell_loss = loss
        self.decoder = decoder
        self.class_weights = class_weights

        self.register_buffer("class_vectors", torch.from_numpy(to_unit(grid.class_points_deg)).float())
        parents = None if grid.parents is None else torch.from_numpy(grid.parents)
        self.register_buffer("parents", parents, persistent=False)

    @classmethod
    def fit(
        cls,
        *,
        in_features: int,
        region: Region,
        train_coords_deg: FloatArray,
        grid: GridBuilder,
        loss: CellLoss,
        decoder: Decoder,
    ) -> Self:
        """Fits the grid to the training places (N, 2) in degrees and makes the head for it.

        The bias is initialised so that, before training, the posterior equals the cells' shares of the training
        places. Raises DataError if there are none.
        """
        fitted = grid.fit(region, train_coords_deg)
        counts = np.bincount(fitted.assign(train_coords_deg), minlength=fitted.num_cells).astype(np.float64)
        weights = loss.class_weights(counts)
        head = cls(in_features, grid=fitted, loss=loss, decoder=decoder, class_weights=weights)

        # Weighted and smoothed as in the loss, so that the bias is the best constant prediction.
        shares = loss.shares(head.targets(train_coords_deg), fitted.num_cells)
        with torch.no_grad():
            head.linear.bias[: head.num_logits] = head._compute_bias(shares)
        return head

    def _compute_bias(self, shares: Tensor) -> Tensor:
        """Returns a bias (num_logits,) at which the posterior is about `shares` (K,)."""
        if self.parents is None:
            return torch.log(shares.clamp(min=MIN_SHARE)).float()

        # The share of a cell is the sum over its pieces. Outputs are log shares divided by P, so the logit of a
        # piece is the mean of the log shares of its P cells. It approximates the log share of the piece, and is
        # exact if all partitions are equal.
        cell_shares = torch.zeros(self.num_logits, dtype=shares.dtype)
        cell_shares.index_add_(0, self.parents.flatten(), shares[:, None].expand(self.parents.shape).flatten())
        return (torch.log(cell_shares.clamp(min=MIN_SHARE)) / self.parents.shape[1]).float()

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        target = self.cell_loss.targets(self.grid, coords_deg)
        if self.class_weights is not None:
            target["weight"] = torch.from_numpy(self.class_weights).float()[target["cell"]]
        return target

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        return self.cell_loss(self.logits(out), target, self.class_vectors)

    def logits(self, out: Tensor) -> Tensor:
        logits = out[:, : self.num_logits].float()
        return logits if self.parents is None else logits[:, self.parents].sum(dim=-1)

    def posterior(self, out: Tensor) -> Tensor:
        """Returns probabilities over cells (B, K), not calibrated by a temperature."""
        return torch.softmax(self.logits(out), dim=-1)

    def points(self, out: Tensor) -> Tensor:
        return self.class_vectors

    def decode(self, out: Tensor) -> Tensor:
        return self.decoder(self.posterior(out), self.points(out))

    def hits(self, out: Tensor, target: LossTarget) -> Tensor:
        logits = self.logits(out)
        is_true_cell = logits.topk(min(TOP_CELLS, logits.shape[-1]), dim=-1).indices == target["cell"][:, None]
        return torch.stack((is_true_cell[:, 0], is_true_cell.any(dim=-1)), dim=-1)

    def trace(self, *, temperature: float, steps: int) -> TracedHead:
        return TracedClassification(self, temperature, steps)

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "in_features": self.in_features,
            "grid": self.grid.state(),
            "decoder": self.decoder.state(),
        }

    @classmethod
    def from_state(cls, region: Region, state: dict[str, Any]) -> Self:
        # The loss does not affect predictions and is not recorded: any loss will do.
        return cls(
            state["in_features"],
            grid=restore_grid(region, state["grid"]),
            loss=CrossEntropy(),
            decoder=restore_decoder(state["decoder"]),
        )


class TracedClassification(TracedHead):
    """Decoding of a classification head into posterior and coordinates, with the arguments of `Head.trace`."""

    outputs = ("posterior", "coords_deg")

    def __init__(self, head: ClassificationHead, temperature: float, steps: int) -> None:
        super().__init__()
        self.head, self.temperature, self.steps = head, temperature, steps

    def forward(self, out: Tensor) -> tuple[Tensor, ...]:
        coords_deg = self.head.decoder.decode_traceably(
            self.head.posterior(out), self.head.points(out), steps=self.steps
        )
        return self._compute_posterior(out), coords_deg

    def reference(self, out: Tensor) -> tuple[Tensor, ...]:
        return self._compute_posterior(out), self.head.decode(out).double()

    def _compute_posterior(self, out: Tensor) -> Tensor:
        """Returns the calibrated posterior (B, K), as `uncertainty.apply_temperature` computes it."""
        logits = self.head.logits(out).double()
        shifted = (logits - logits.amax(dim=-1, keepdim=True)).clamp(min=MIN_LOGIT)
        return torch.softmax(shifted / self.temperature, dim=-1).float()
