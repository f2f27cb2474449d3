"""HybridHead: classification over cells, and regression of the offset inside the cell."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.arrays import FloatArray
from geoguesser.errors import check_number
from geoguesser.geo.distance import EARTH_RADIUS_KM, to_unit
from geoguesser.geo.grid import Grid, GridBuilder
from geoguesser.geo.region import Region
from geoguesser.model.decoder import Decoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CellLoss, LossTarget

MAX_OFFSET = 1.0  # sides of the cell; a place outside all cells may lie far from its class point
HUBER_DELTA = 0.5  # sides of the cell


class HybridHead(ClassificationHead):
    """Classification over cells with an offset from the class point of each cell.

    Two further outputs per cell are the offset east and north of the class point, in sides of the cell. Let g be
    the class point, e and n the unit vectors east and north at g, and s the side of the cell in radians. Offsets
    (a, b) move the point to the normalised vector g + s (a e + b n), and the decoder takes the moved points.
    Conversely, the target for a place x is ((x - g) . e, (x - g) . n) / s, limited to `MAX_OFFSET`. Both agree to
    second order in the size of a cell. Only the offsets of the true cell are trained, with a Huber loss.

    Attributes:
        offset_weight: Weight of the offsets' loss relative to the loss of the cells.

    Source: G. Astruc et al. (OpenStreetView-5M), arXiv 2404.18873, section 4.
    """

    kind = "hybrid"
    frame: Tensor
    sides_rad: Tensor
    offset_weight = 1.0

    def __init__(self, in_features: int, *, grid: Grid, **options: Any) -> None:
        super().__init__(in_features, grid=grid, extra_outputs=2 * grid.num_cells, **options)
        frame = torch.from_numpy(_compute_frames(grid.class_points_deg)).float()
        sides_rad = torch.from_numpy(grid.class_sides_km / EARTH_RADIUS_KM).float()
        self.register_buffer("frame", frame, persistent=False)
        self.register_buffer("sides_rad", sides_rad, persistent=False)

    # The signature is written out: it tells which config groups and keys the head has.
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
        offset_weight: float = 1.0,
    ) -> Self:
        """Makes the head as `ClassificationHead.fit`, with a weight from 0 to 1000 for the offsets' loss."""
        weight = check_number("head.offset_weight", offset_weight, low=0.0, high=1000.0)
        head = super().fit(
            in_features=in_features,
            region=region,
            train_coords_deg=train_coords_deg,
            grid=grid,
            loss=loss,
            decoder=decoder,
        )
        head.offset_weight = weight
        return head

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        target = super().targets(coords_deg)
        cell = target["cell"].numpy()
        points_deg, sides_km = self.grid.class_points_deg[cell], self.grid.class_sides_km[cell]

        difference = to_unit(coords_deg) - to_unit(points_deg)
        tangent = np.einsum("nij,nj->ni", _compute_frames(points_deg), difference)
        offset = np.clip(tangent * EARTH_RADIUS_KM / sides_km[:, None], -MAX_OFFSET, MAX_OFFSET)
        return target | {"offset": torch.from_numpy(offset).float()}

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        rows = torch.arange(len(out), device=out.device)
        offsets = self._get_offsets(out)[rows, target["cell"]]
        losses = functional.huber_loss(offsets, target["offset"], reduction="none", delta=HUBER_DELTA)
        return super().loss(out, target) + self.offset_weight * losses.sum(dim=-1).mean()

    def points(self, out: Tensor) -> Tensor:
        offsets = self._get_offsets(out).clamp(-MAX_OFFSET, MAX_OFFSET) * self.sides_rad[:, None]
        moved = self.class_vectors + (offsets[..., None] * self.frame).sum(dim=-2)
        return functional.normalize(moved, dim=-1)

    def _get_offsets(self, out: Tensor) -> Tensor:
        """Returns offsets (B, K, 2) to the east and north, in sides of the cell."""
        return out[:, self.num_logits :].float().reshape(out.shape[0], -1, 2)

    def state(self) -> dict[str, Any]:
        return super().state() | {"offset_weight": self.offset_weight}

    @classmethod
    def from_state(cls, region: Region, state: dict[str, Any]) -> Self:
        head = super().from_state(region, state)
        head.offset_weight = state["offset_weight"]
        return head


def _compute_frames(coords_deg: FloatArray) -> FloatArray:
    """Returns unit vectors to the east and to the north (N, 2, 3) at coordinates in degrees (N, 2).

    They are the normalised derivatives of (cos lat cos lon, cos lat sin lon, sin lat) by lon and by lat.
    """
    lat, lon = np.radians(coords_deg).T
    east = np.stack((-np.sin(lon), np.cos(lon), np.zeros_like(lon)), axis=-1)
    north = np.stack((-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)), axis=-1)
    return np.stack((east, north), axis=1)
