"""Base classes of heads, and of their exportable decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from geoguesser.arrays import FloatArray
from geoguesser.geo.grid import Grid
from geoguesser.geo.region import Region
from geoguesser.model.losses import LossTarget


class TracedHead(nn.Module, ABC):
    """Decoding of a head's output in operations that `torch.export` and ONNX support.

    No control flow may depend on values, and neither NumPy nor a projection library may take part.

    Attributes:
        outputs: Names of the tensors that `forward` returns, in order. The last one is `coords_deg`.
    """

    outputs: tuple[str, ...]

    @abstractmethod
    def forward(self, out: Tensor) -> tuple[Tensor, ...]:
        """Decodes a head's output (B, output_size)."""

    @abstractmethod
    def reference(self, out: Tensor) -> tuple[Tensor, ...]:
        """Decodes by the head's own methods: the values that an export is verified against."""


class Head(nn.Module, ABC):
    """Linear layer on the fused features, and the meaning of its output.

    Features are centred and scaled to unit variance first. Weights start at zero, so that training starts from one
    answer for all places, the best that the bias can give.

    The config names the class method `fit` of a head as its `_target_`; the parameters `grid`, `loss` and
    `decoder` of the method tell which config groups the head uses.

    Attributes:
        kind: Name of the class in checkpoints, a key of `registry.HEADS`.
        grid: Fitted grid of a head with cells, otherwise None.
        hit_names: Names of the columns of `hits`, the accuracies of the class.
    """

    kind: str
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
        """Learns the centre of each fused feature (N, in_features) of training places, and one deviation for all.

        Features that hardly vary between places hold mostly noise, which a deviation of their own would amplify.
        """
        values = fused.double()
        mean = values.mean(dim=0)
        spread = float((values - mean).square().mean().sqrt())

        self.centre.copy_(mean)
        self.spread.fill_(spread if spread > 0 else 1.0)

    def forward(self, fused: Tensor) -> Tensor:
        """Returns the output (B, output_size) for fused features (B, in_features).

        Computed in full precision: the steps of bfloat16 would move coordinates by kilometres.
        """
        with torch.autocast(fused.device.type, enabled=False):
            scaled = (fused.to(self.linear.weight.dtype) - self.centre).div_(self.spread)
            out: Tensor = self.linear(scaled)
        return out

    @abstractmethod
    def targets(self, coords_deg: FloatArray) -> LossTarget:
        """Returns the targets of `loss` for N places (N, 2) in degrees, as tensors of N rows on the CPU."""

    @abstractmethod
    def loss(self, out: Tensor, target: LossTarget) -> Tensor:
        """Returns the mean loss of a batch, for an output (B, output_size) and the rows of its `targets`."""

    @abstractmethod
    def decode(self, out: Tensor) -> Tensor:
        """Returns latitude and longitude in degrees (B, 2) for an output (B, output_size)."""

    def hits(self, out: Tensor, target: LossTarget) -> Tensor:
        """Returns booleans (B, len(hit_names)): the true class is among the most probable ones."""
        return torch.zeros(len(out), 0, dtype=torch.bool, device=out.device)

    def logits(self, out: Tensor) -> Tensor | None:
        """Returns logits over cells (B, K), or None for a head without cells."""
        return None

    def points(self, out: Tensor) -> Tensor | None:
        """Returns unit vectors of the cells' points, (K, 3) or (B, K, 3), or None for a head without cells."""
        return None

    @abstractmethod
    def trace(self, *, temperature: float, steps: int) -> TracedHead:
        """Returns a module that decodes the output in operations that can be exported.

        The temperature is that of the returned posterior, not of the decoder, and `steps` the number of
        iterations for a geometric median. Raises RegionError if the region's CRS has no inverse that can be
        exported.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns plain values and arrays, `kind` among them, from which `from_state` makes the same head."""

    @classmethod
    @abstractmethod
    def from_state(cls, region: Region, state: dict[str, Any]) -> Self:
        """Makes the head that `state` describes, without its weights, for prediction."""
