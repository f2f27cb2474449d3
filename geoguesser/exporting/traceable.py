"""Network for export: from views to posterior and coordinates, in tensor operations only.

`torch.export` and ONNX accept no control flow that depends on values, no NumPy and no projection library. Heads
provide such a form of their decoding (`Head.trace`). Points of a regression head are not moved to the land.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoguesser.geo.distance import chord_to_km, to_unit
from geoguesser.geo.median import FIXED_STEPS
from geoguesser.model.network import GeoNetwork


class ExportableNetwork(nn.Module):
    """Trained network with a decoder that can be exported.

    Args:
        network: Trained network. Its parameters no longer require gradients afterwards.
        temperature: Temperature of the returned posterior from the run's calibration, or None for 1. That of the
            decoder is separate.
        steps: Number of steps of the search for a geometric median.

    Attributes:
        outputs: Names of the tensors that `forward` returns, in order.

    Raises:
        RegionError: The head regresses CRS coordinates, and no polynomial agrees with the inverse of the CRS.
    """

    def __init__(self, network: GeoNetwork, *, temperature: float | None = None, steps: int = FIXED_STEPS) -> None:
        super().__init__()
        # The scan of the median search cannot be traced with gradients.
        self.network = network.eval().requires_grad_(False)
        self.temperature = 1.0 if temperature is None else temperature
        self.traced_head = network.head.trace(temperature=self.temperature, steps=steps)
        self.outputs = self.traced_head.outputs

    def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Returns the posterior (B, K), float32, of heads with cells, then coordinates in degrees (B, 2), float64.

        Args:
            images: (B, 4, 3, S, S) uint8 views at headings 0, 90, 180, 270, at the network's image size.
            mask: (B, 4) bool, true for views that are present.
        """
        return self.traced_head(self.network(images, mask))

    def reference(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Predicts by the head's own decoding, for comparison with an exported program."""
        with torch.no_grad():
            return self.traced_head.reference(self.network(images, mask))


def compute_distance_km(a_deg: Tensor, b_deg: Tensor) -> Tensor:
    """Returns distances in km (B,) between points in degrees (B, 2), with an error below a millimetre."""
    return chord_to_km((to_unit(a_deg) - to_unit(b_deg)).norm(dim=-1))
