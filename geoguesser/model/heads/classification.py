"""Heads: from the fused vector to a loss and to a point. Nothing but these files asks which head it is.

Each head has a classmethod `fit` that makes it from the training places; a config names that method as
its target, as a partial, and parts.py completes it with the fitted region and places.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, RegionError, check_choice
from geoguesser.geo.distance import from_unit, to_unit
from geoguesser.geo.grid import Grid, GridBuilder
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.decoder import Decoder
from geoguesser.model.losses import CellLoss, LossTarget

TOP_CELLS = 5


class Head(nn.Module, ABC):
    """A linear layer on the fused vector, centred and brought to unit variance, and what its output means.

    The layer starts at zero weights, so that training starts from one answer for all places, the best that the
    bias can give, and whatever it then says of a place it has learnt.

    Args:
        in_features: The width of the fused vector.
        output_size: The width of the output.

    Attributes:
        grid: The fitted grid where the head has cells, else None (for pictures and records).
        hit_names: What `hits` reports, in order.
    """

    centre: Tensor
    spread: Tensor
    grid: Grid | None = None
    hit_names: tuple[str, ...] = ()

    def __init__(self, in_features: int, output_size: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.output_size = output_size
        self.linear = nn.Linear(in_features, output_size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("centre", torch.zeros(in_features))
        self.register_buffer("spread", torch.ones(()))

    def fit_scaling(self, fused: Tensor) -> None:
        """Learns how fused vectors are centred and scaled: by each feature's mean, and by one deviation for all.

        One for all, for what hardly varies between places is mostly noise, and would be blown up by its own.

        Args:
            fused: (N, in_features) of training places.
        """
        values = fused.double()
        self.centre.copy_(values.mean(dim=0))
        spread = float((values - values.mean(dim=0)).square().mean().sqrt())
        self.spread.fill_(spread if spread > 0 else 1.0)

    def forward(self, fused: Tensor) -> Tensor:
        """(B, in_features) -> (B, output_size), in full precision: bfloat16 has steps of kilometres."""
        with torch.autocast(fused.device.type, enabled=False):
            scaled = (fused.to(self.linear.weight.dtype) - self.centre).div_(self.spread)
            out: Tensor = self.linear(scaled)
        return out

    @abstractmethod
    def targets(self, coords_deg: FloatArray) -> LossTarget:
        """(N, 2) true places in degrees -> what `loss` compares with, N rows each; once per run, on the CPU."""

    @abstractmethod
    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        """The batch's mean loss, a scalar; `target` holds the batch's rows."""

    @abstractmethod
    def decode(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, 2) latitude and longitude in degrees."""

    def hits(self, out: Tensor, target: LossTarget) -> Tensor:
        """(B, len(hit_names)) whether each kind of hit was made; this one reports none."""
        return torch.zeros(len(out), 0, dtype=torch.bool, device=out.device)

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Plain values and arrays from which `heads.head_from_state` makes the same head."""


class ClassificationHead(Head):
    """Logits over the grid's cells; the decoder turns their softmax into a point.

    Where the grid combines several (`grid.parents`), each part's cells have an output, and a piece's logit is the
    sum of those of the cells that it is cut from: one posterior over the pieces, the normalised product of what
    the parts say.

    Args:
        in_features: The width of the fused vector.
        grid: The fitted grid: it holds the number of classes and the class points.
        loss: A loss of logits over cells.
        decoder: What turns the posterior into a point.
        class_weights: (K,) the weight of a place in the loss by its class; None for all alike.
        extra_outputs: Further outputs behind the logits, of a subclass.
    """

    kind = "classification"
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
    ) -> ClassificationHead:
        """Fits the grid to the training places and makes the head for it; the bias starts at the cells' shares.

        Raises:
            ConfigError: A value of the grid breaks its rule.
            DataError: There is no training place.
        """
        return cls._fit(in_features, region, train_coords_deg, grid, loss=loss, decoder=decoder)

    @classmethod
    def _fit(
        cls,
        in_features: int,
        region: Region,
        train_coords_deg: FloatArray,
        grid: GridBuilder,
        *,
        loss: CellLoss,
        decoder: Decoder,
        **more: Any,
    ) -> Self:
        fitted = grid.fit(region, train_coords_deg)
        counts = np.bincount(fitted.assign(train_coords_deg), minlength=fitted.num_cells).astype(np.float64)
        weights = loss.class_weights(counts)
        head = cls(in_features, grid=fitted, loss=loss, decoder=decoder, class_weights=weights, **more)
        shares = loss.shares(head.targets(train_coords_deg), fitted.num_cells)
        with torch.no_grad():
            head.linear.bias[: head.num_logits] = head._bias_for(shares)
        return head

    def _bias_for(self, shares: Tensor) -> Tensor:
        """(K,) shares of the cells -> (num_logits,) outputs that give them; nearly so in a combined grid."""
        if self.parents is None:
            return torch.log(shares.clamp(min=1e-6)).float()
        parts = torch.zeros(self.num_logits, dtype=shares.dtype)
        parts.index_add_(0, self.parents.flatten(), shares[:, None].expand(self.parents.shape).flatten())
        return (torch.log(parts.clamp(min=1e-6)) / self.parents.shape[1]).float()

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        assert self.grid is not None
        found = self.cell_loss.targets(self.grid, coords_deg)
        if self.class_weights is not None:
            found["weight"] = torch.from_numpy(self.class_weights).float()[found["cell"]]
        return found

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        return self.cell_loss(self.logits(out), target, self.class_vectors)

    def logits(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, K) logits over cells."""
        logits = out[:, : self.num_logits].float()
        return logits if self.parents is None else logits[:, self.parents].sum(dim=-1)

    def posterior(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (B, K) probabilities over cells, as the network gives them, at no temperature."""
        return torch.softmax(self.logits(out), dim=-1)

    def points(self, out: Tensor) -> Tensor:
        """(B, output_size) -> (K, 3) unit vectors of the cells' points; (B, K, 3) where they differ by place."""
        return self.class_vectors

    def decode(self, out: Tensor) -> Tensor:
        return self.decoder(self.posterior(out), self.points(out))

    def hits(self, out: Tensor, target: LossTarget) -> Tensor:
        logits = self.logits(out)
        ranked = logits.topk(min(TOP_CELLS, logits.shape[-1]), dim=-1).indices == target["cell"][:, None]
        return torch.stack((ranked[:, 0], ranked.any(dim=-1)), dim=-1)

    def state(self) -> dict[str, Any]:
        assert self.grid is not None
        return {
            "kind": self.kind,
            "in_features": self.in_features,
            "grid": self.grid.state(),
            "decoder": self.decoder.state(),
        }


class RegressionHead(Head):
    """A point itself: two CRS coordinates or a unit vector, scaled to about 0 to 1 over the training places.

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
        if space == "crs" and not isinstance(region, PlaneRegion):
            raise ConfigError.at(
                "head.space",
                f"must be sphere for region {region.name}, which has no plane",
                found=space,
                remedy="Add head.space=sphere.",
            )
        # On the sphere too: a country takes up a few hundredths of it, and a usual rate steps over all of that.
        values = to_unit(train_coords_deg) if space == "sphere" else region.to_metres(train_coords_deg)
        offset, scale = values.min(axis=0), float(np.ptp(values, axis=0).max()) or 1.0
        head = cls(in_features, region=region, space=space, offset=offset, scale=scale)
        with torch.no_grad():
            head.linear.bias.copy_(head.targets(train_coords_deg)["point"].mean(dim=0))
        return head

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        space = to_unit(coords_deg) if self.space == "sphere" else self.region.to_metres(coords_deg)
        scaled = (space - self.offset) / self.scale
        return {"point": torch.from_numpy(scaled).float()}

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        return functional.mse_loss(out.float(), target["point"])

    def decode(self, out: Tensor) -> Tensor:
        return torch.from_numpy(self.region.snap(self.decode_unsnapped(out))).to(out.device, torch.float32)

    def decode_unsnapped(self, out: Tensor) -> FloatArray:
        """(B, output_size) -> (B, 2) latitude and longitude in degrees, before they are moved to the land."""
        values = out.detach().cpu().double() * self.scale + torch.from_numpy(self.offset)
        if self.space == "sphere":
            return from_unit(values.nan_to_num()).numpy()
        return self.region.to_degrees(self._into_box(values.numpy()))

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
