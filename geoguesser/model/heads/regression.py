"""RegressionHead: coordinates as the output of a linear layer."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, RegionError, check_choice
from geoguesser.geo.distance import from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.model.heads.base import Head, TracedHead
from geoguesser.model.inverse_projection import InverseProjection
from geoguesser.model.losses import LossTarget


class RegressionHead(Head):
    """Regression of two CRS coordinates or of a unit vector, scaled to about 0 to 1 over the training places.

    The bias starts at the mean of the training targets. Training then starts from the best constant answer in the
    sense of the mean squared error, and not from a corner of the map.

    Args:
        in_features: Size of the fused features.
        region: Region into which answers are clamped.
        space: `crs` for CRS coordinates in metres, `sphere` for a unit vector.
        offset: (d,) minimum of the training coordinates, which is subtracted.
        scale: Common divisor of all coordinates, so that errors along all axes weigh the same.
    """

    kind = "regression"

    def __init__(self, in_features: int, *, region: Region, space: str, offset: FloatArray, scale: float) -> None:
        super().__init__(in_features, len(offset))
        self.region = region
        self.space = space

        # Arrays, not buffers: metres need 64 bits, which some devices lack. They are used on the CPU only.
        self.offset = np.asarray(offset, dtype=np.float64)
        self.scale = float(scale)

    @classmethod
    def fit(
        cls, *, in_features: int, region: Region, train_coords_deg: FloatArray, space: str = "crs"
    ) -> RegressionHead:
        """Makes a head with offset, scale and starting bias from the training places (N, 2) in degrees.

        Raises ConfigError if `space` is neither `crs` nor `sphere`, or is `crs` in a region without a plane.
        """
        check_choice("head.space", space, ("crs", "sphere"))
        if space == "crs" and not isinstance(region, PlaneRegion):
            rule = f"must be sphere for region {region.name}, which has no plane"
            raise ConfigError.at("head.space", rule, found=space, remedy="Add head.space=sphere.")

        # Unit vectors are scaled as well: a country covers a few hundredths of the sphere, and one step at a
        # common learning rate would lead across it.
        values = to_unit(train_coords_deg) if space == "sphere" else region.to_metres(train_coords_deg)
        offset, scale = values.min(axis=0), float(np.ptp(values, axis=0).max()) or 1.0

        head = cls(in_features, region=region, space=space, offset=offset, scale=scale)
        with torch.no_grad():
            head.linear.bias.copy_(head.targets(train_coords_deg)["point"].mean(dim=0))
        return head

    def targets(self, coords_deg: FloatArray) -> LossTarget:
        values = to_unit(coords_deg) if self.space == "sphere" else self.region.to_metres(coords_deg)
        return {"point": torch.from_numpy((values - self.offset) / self.scale).float()}

    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        return functional.mse_loss(out.float(), target["point"])

    def decode(self, out: Tensor) -> Tensor:
        return torch.from_numpy(self.region.snap(self.decode_unsnapped(out))).to(out.device, torch.float32)

    def decode_unsnapped(self, out: Tensor) -> FloatArray:
        """Returns latitude and longitude in degrees (B, 2), before points at sea are moved to the land."""
        values = out.detach().cpu().double() * self.scale + torch.from_numpy(self.offset)
        if self.space == "sphere":
            return from_unit(values.nan_to_num()).numpy()

        if not isinstance(self.region, PlaneRegion):
            raise RegionError(f"region {self.region.name} has no plane. Use head.space=sphere.")

        # Far outside the land's bounding box the inverse of a CRS has no meaning.
        west, south, east, north = self.region.land_m.bounds
        return self.region.to_degrees(np.clip(np.nan_to_num(values.numpy()), (west, south), (east, north)))

    def trace(self, *, temperature: float, steps: int) -> TracedHead:
        return TracedRegression(self)

    def state(self) -> dict[str, Any]:
        names = ("kind", "in_features", "space", "offset", "scale")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, region: Region, state: dict[str, Any]) -> Self:
        names = ("in_features", "space", "offset", "scale")
        return cls(region=region, **{name: state[name] for name in names})


class TracedRegression(TracedHead):
    """Coordinates of a regression head, before points at sea are moved to the land."""

    outputs = ("coords_deg",)
    offset: Tensor

    def __init__(self, head: RegressionHead) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("offset", torch.from_numpy(head.offset))
        self.inverse: InverseProjection | None = None
        if head.space == "crs":
            assert isinstance(head.region, PlaneRegion)
            self.inverse = InverseProjection.fit(head.region)

    def forward(self, out: Tensor) -> tuple[Tensor, ...]:
        values = out.double() * self.head.scale + self.offset
        vectors = torch.nan_to_num(values) if self.inverse is None else self.inverse(values)
        return (from_unit(vectors),)

    def reference(self, out: Tensor) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.head.decode_unsnapped(out)),)
