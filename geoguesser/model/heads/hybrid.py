"""HybridHead: which cell, and where in it."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.arrays import FloatArray
from geoguesser.errors import check_number
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.geo.grid import Grid
from geoguesser.model.decoder import Decoder
from geoguesser.model.heads.classification import CellHeadParts, ClassificationHead
from geoguesser.model.losses import CellLoss, LossTarget

MAX_OFFSET = 1.0  # sides of the cell: a place outside all cells may lie far from its class point


class HybridHead(ClassificationHead):
    """Classification over cells, and an offset inside each cell: where in it the place lies, if it lies there.

    Two further outputs per cell say how far east and north of the class point, in sides of the cell. Only those of
    the true cell are trained (Huber loss). Each cell's point, moved by its offset, then stands for it when the
    posterior is decoded.

    Args:
        in_features: As in ClassificationHead, like all that is not named here.
        grid: As there.
        loss: As there.
        decoder: As there.
        class_weights: As there.
        offset_weight: Of the offsets' loss beside that of the cells.

    Source: OSV-5M, arXiv 2404.18873, section 4 (hybrid model).
    """

    kind = "hybrid"
    frame: Tensor
    sides_rad: Tensor

    def __init__(
        self,
        in_features: int,
        *,
        grid: Grid,
        loss: CellLoss,
        decoder: Decoder,
        class_weights: FloatArray | None = None,
        offset_weight: float = 1.0,
    ) -> None:
        super().__init__(
            in_features,
            grid=grid,
            loss=loss,
            decoder=decoder,
            class_weights=class_weights,
            extra_outputs=2 * grid.num_cells,
        )
        self.offset_weight = check_number("head.offset_weight", offset_weight, low=0.0, high=1000.0)
        self.register_buffer(
            "frame", torch.from_numpy(_east_north(grid.class_points_deg)).float(), persistent=False
        )
        sides = torch.from_numpy(grid.class_sides_km / EARTH_RADIUS_KM).float()
        self.register_buffer("sides_rad", sides, persistent=False)

    @classmethod
    def fit(cls, *, offset_weight: float = 1.0, **parts: Unpack[CellHeadParts]) -> HybridHead:
        """Fits the grid to the training places and makes the head for it, as `ClassificationHead.fit` does."""
        return cls._fit(offset_weight=offset_weight, **parts)

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        assert self.grid is not None
        found = super().targets(coords_deg)
        cell = found["cell"].numpy()
        own_deg, sides_km = self.grid.class_points_deg[cell], self.grid.class_sides_km[cell]
        frame = _east_north(own_deg)
        away = to_unit(coords_deg) - to_unit(own_deg)
        tangent = np.einsum("nij,nj->ni", frame, away) * EARTH_RADIUS_KM / sides_km[:, None]
        return found | {"offset": torch.from_numpy(np.clip(tangent, -MAX_OFFSET, MAX_OFFSET)).float()}

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        own = self._offsets(out)[torch.arange(len(out), device=out.device), target["cell"]]
        apart = functional.huber_loss(own, target["offset"], reduction="none", delta=0.5).sum(dim=-1)
        return super().loss(out, target) + self.offset_weight * apart.mean()

    def points(self, out: Tensor) -> Tensor:
        offsets = self._offsets(out).clamp(-MAX_OFFSET, MAX_OFFSET) * self.sides_rad[:, None]
        moved = self.class_vectors + (offsets[..., None] * self.frame).sum(dim=-2)
        return functional.normalize(moved, dim=-1)

    def _offsets(self, out: Tensor) -> Tensor:
        """(B, K, 2) east and north, in sides of the cell."""
        return out[:, self.num_logits :].float().reshape(out.shape[0], -1, 2)

    def state(self) -> dict[str, Any]:
        return super().state() | {"offset_weight": self.offset_weight}


def _east_north(coords_deg: FloatArray) -> FloatArray:
    """(N, 2) degrees -> (N, 2, 3) unit vectors to the east and to the north there."""
    lat, lon = np.radians(coords_deg).T
    east = np.stack((-np.sin(lon), np.cos(lon), np.zeros_like(lon)), axis=-1)
    north = np.stack((-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)), axis=-1)
    return np.stack((east, north), axis=1)
