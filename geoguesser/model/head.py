"""Heads: from the fused vector to a loss and to a point. Nothing outside this file asks which head it is.

Each head has a classmethod `fit` that makes it from the training places; a config names that method as
its target, as a partial, and experiment.py completes it with the fitted region and places.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoguesser.errors import ConfigError, RegionError, check_choice
from geoguesser.geo.distance import FloatArray, from_unit, to_unit
from geoguesser.geo.grid import Grid, SquareGrid, grid_from_state
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.decoder import Decoder, decoder_from_state
from geoguesser.model.losses import CellLoss, CrossEntropy, Target

TOP_CELLS = 5


class Head(nn.Module, ABC):
    """A linear layer on the fused vector, and what its output means.

    Args:
        in_features: The width of the fused vector.
        output_size: The width of the output.

    Attributes:
        grid: The fitted grid where the head has cells, else None (for pictures and records).
        hit_names: What `hits` reports, in order.
    """

    grid: Grid | None = None
    hit_names: tuple[str, ...] = ()

    def __init__(self, in_features: int, output_size: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.output_size = output_size
        self.linear = nn.Linear(in_features, output_size)

    def forward(self, fused: Tensor) -> Tensor:
        """(B, in_features) -> (B, output_size), in full precision: bfloat16 has steps of kilometres."""
        with torch.autocast(fused.device.type, enabled=False):
            out: Tensor = self.linear(fused.to(self.linear.weight.dtype))
        return out

    @abstractmethod
    def targets(self, coords_deg: FloatArray) -> Target:
        """(N, 2) true places in degrees -> what `loss` compares with, N rows each; once per run, on the CPU."""

    @abstractmethod
    def loss(self, out: Tensor, target: Target) -> Tensor:
        """The batch's mean loss, a scalar; `target` holds the batch's rows."""

    @abstractmethod
    def decode(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, 2) latitude and longitude in degrees."""

    def hits(self, out: Tensor, target: Target) -> Tensor:
        """(B, len(hit_names)) whether each kind of hit was made; this one reports none."""
        return torch.zeros(len(out), 0, dtype=torch.bool, device=out.device)

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain values and arrays from which `head_from_state` makes the same head."""


class ClassificationHead(Head):
    """Logits over the grid's cells; the decoder turns their softmax into a point.

    Args:
        in_features: The width of the fused vector.
        grid: The fitted grid: it holds the number of classes and the class points.
        loss: A loss of logits over cells.
        decoder: What turns the posterior into a point.
        class_weights: (K,) the weight of a place in the loss by its class; None for all alike.
    """

    class_vectors: Tensor
    hit_names = ("cell_top1", "cell_top5")

    def __init__(
        self,
        in_features: int,
        *,
        grid: Grid,
        loss: CellLoss,
        decoder: Decoder,
        class_weights: FloatArray | None = None,
    ) -> None:
        super().__init__(in_features, grid.num_cells)
        self.grid = grid
        self.cell_loss = loss
        self.decoder = decoder
        self.class_weights = class_weights
        self.register_buffer("class_vectors", torch.from_numpy(to_unit(grid.class_points_deg)).float())

    @classmethod
    def fit(
        cls,
        *,
        in_features: int,
        region: Region,
        train_coords_deg: FloatArray,
        grid: SquareGrid,
        loss: CellLoss,
        decoder: Decoder,
    ) -> ClassificationHead:
        """Fits the grid to the training places and makes the head for it.

        Raises:
            ConfigError: A value of the grid breaks its rule.
            DataError: There is no training place.
        """
        fitted = grid.fit(region, train_coords_deg)
        counts = np.bincount(fitted.assign(train_coords_deg), minlength=fitted.num_cells).astype(np.float64)
        weights = loss.class_weights(counts)
        return cls(in_features, grid=fitted, loss=loss, decoder=decoder, class_weights=weights)

    def targets(self, coords_deg: FloatArray) -> Target:
        assert self.grid is not None
        found = self.cell_loss.targets(self.grid, coords_deg)
        if self.class_weights is not None:
            found["weight"] = torch.from_numpy(self.class_weights).float()[found["cell"]]
        return found

    def loss(self, out: Tensor, target: Target) -> Tensor:
        return self.cell_loss(self.logits(out), target, self.class_vectors)

    def logits(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, K) logits over cells."""
        return out.float()

    def posterior(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, K) probabilities over cells, as the network gives them, at no temperature."""
        return torch.softmax(self.logits(out), dim=-1)

    def points(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (K, 3) unit vectors of the cells' points; (B, K, 3) where they differ by place."""
        return self.class_vectors

    def decode(self, out: Tensor) -> Tensor:
        return self.decoder(self.posterior(out), self.points(out))

    def hits(self, out: Tensor, target: Target) -> Tensor:
        logits = self.logits(out)
        ranked = logits.topk(min(TOP_CELLS, logits.shape[-1]), dim=-1).indices == target["cell"][:, None]
        return torch.stack((ranked[:, 0], ranked.any(dim=-1)), dim=-1)

    def state(self) -> dict[str, Any]:
        assert self.grid is not None
        return {
            "kind": "classification",
            "in_features": self.in_features,
            "grid": self.grid.state(),
            "decoder": self.decoder.state(),
        }


class RegressionHead(Head):
    """A point itself: two CRS coordinates, scaled to about 0 to 1, or a unit vector.

    The linear layer's bias starts at the mean of the training targets, so that training starts from
    the best constant answer (in the mean squared sense) and not from a corner of the map.

    Args:
        in_features: The width of the fused vector.
        region: The land, into which answers are clamped.
        space: `crs` or `sphere`.
        offset: (d,) what is taken from the space's coordinates.
        scale: What they are then divided by: one number for all axes, so that errors weigh alike.
    """

    def __init__(self, in_features: int, *, region: Region, space: str, offset: FloatArray, scale: float) -> None:
        super().__init__(in_features, len(offset))
        self.region = region
        self.space = space
        # No buffers: metres want 64 bits, which not every device has; they are used on the CPU alone.
        self.offset = np.asarray(offset, dtype=np.float64)
        self.scale = float(scale)

    @classmethod
    def fit(
        cls, *, in_features: int, region: Region, train_coords_deg: FloatArray, space: str = "crs"
    ) -> RegressionHead:
        """Learns offset, scale and the starting bias from the training places.

        Raises:
            ConfigError: `head.space` is unknown, or `crs` where the region has no plane.
        """
        check_choice("head.space", space, ("crs", "sphere"))
        if space == "sphere":
            offset, scale = np.zeros(3), 1.0
        else:
            if not isinstance(region, PlaneRegion):
                raise ConfigError.at(
                    "head.space",
                    f"must be sphere for region {region.name}, which has no plane",
                    found=space,
                    remedy="Add head.space=sphere.",
                )
            xy_m = region.to_metres(train_coords_deg)
            offset, scale = xy_m.min(axis=0), float(np.ptp(xy_m, axis=0).max()) or 1.0
        head = cls(in_features, region=region, space=space, offset=offset, scale=scale)
        with torch.no_grad():
            head.linear.bias.copy_(head.targets(train_coords_deg)["point"].mean(dim=0))
        return head

    def targets(self, coords_deg: FloatArray) -> Target:
        space = to_unit(coords_deg) if self.space == "sphere" else self.region.to_metres(coords_deg)
        scaled = (space - self.offset) / self.scale
        return {"point": torch.from_numpy(scaled).float()}

    def loss(self, out: Tensor, target: Target) -> Tensor:
        return functional.mse_loss(out.float(), target["point"])

    def decode(self, out: Tensor) -> Tensor:
        values = out.detach().cpu().double() * self.scale + torch.from_numpy(self.offset)
        if self.space == "sphere":
            coords_deg = from_unit(values.nan_to_num()).numpy()
        else:
            coords_deg = self.region.to_degrees(self._into_box(values.numpy()))
        return torch.from_numpy(self.region.snap(coords_deg)).to(out.device, torch.float32)

    def _into_box(self, xy_m: FloatArray) -> FloatArray:
        """Clips to the land's bounding box: far outside, a CRS's inverse has no meaning."""
        if not isinstance(self.region, PlaneRegion):
            raise RegionError(f"region {self.region.name} has no plane. Use head.space=sphere.")
        west, south, east, north = self.region.land_m.bounds
        return np.clip(np.nan_to_num(xy_m), (west, south), (east, north))

    def state(self) -> dict[str, Any]:
        return {
            "kind": "regression",
            "in_features": self.in_features,
            "space": self.space,
            "offset": self.offset,
            "scale": self.scale,
        }


def head_from_state(region: Region, state: dict[str, Any]) -> Head:
    """Makes the head that `Head.state` described, without its weights, for prediction.

    A classification head made so has the plain cross entropy as its loss: the loss does not touch
    what a head answers, and is not recorded with it.
    """
    if state["kind"] == "regression":
        return RegressionHead(
            state["in_features"],
            region=region,
            space=state["space"],
            offset=np.asarray(state["offset"], dtype=np.float64),
            scale=state["scale"],
        )
    return ClassificationHead(
        state["in_features"],
        grid=grid_from_state(region, state["grid"]),
        loss=CrossEntropy(),
        decoder=decoder_from_state(state["decoder"]),
    )
