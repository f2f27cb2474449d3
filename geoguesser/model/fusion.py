"""Fusion: the features of four views and their mask become one vector. Absent views never count."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

NUM_VIEWS = 4


class Fusion(nn.Module, ABC):
    """(B, 4, D) features and (B, 4) mask -> (B, `output_size`).

    Attributes:
        kind: The name under which a checkpoint records it.
        output_size: The width of the fused vector.
    """

    kind: str
    output_size: int

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Fuses; `mask` is true where there is a view."""


class ConcatFusion(Fusion):
    """The four vectors side by side, absent ones as zeros: (B, 4 D). As the predecessor.

    Args:
        feature_size: D.
    """

    kind = "concat"

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.output_size = NUM_VIEWS * feature_size

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return (features * mask[..., None]).flatten(1)


class MeanFusion(Fusion):
    """The mean of the views that are there: (B, D). A place without any view gives zeros.

    Args:
        feature_size: D.
    """

    kind = "mean"

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.output_size = feature_size

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        weights = mask[..., None].to(features.dtype)
        return (features * weights).sum(1) / weights.sum(1).clamp(min=1.0)


FUSIONS: dict[str, type[ConcatFusion] | type[MeanFusion]] = {"concat": ConcatFusion, "mean": MeanFusion}
