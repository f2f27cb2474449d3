"""Decoders: a posterior over cells becomes one point. They work on the sphere and need no projection."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from geoguesser.geo.distance import from_unit


class Decoder(ABC):
    """What turns posteriors into points.

    Attributes:
        kind: The name under which a checkpoint records it.
    """

    kind: str

    @abstractmethod
    def __call__(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        """Decodes.

        Args:
            posterior: (B, K) probabilities that sum to 1.
            class_vectors: (K, 3) unit vectors of the class points.

        Returns:
            (B, 2) latitude and longitude in degrees.
        """


class MeanDecoder(Decoder):
    """The probability-weighted mean of the class points, on the sphere.

    The mean vector's direction; it minimises the expected squared chord, not the expected distance.
    """

    kind = "mean"

    def __call__(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        # No matrix product: under mixed precision, or TF32, that would lose kilometres.
        return from_unit((posterior[..., None] * class_vectors).sum(dim=-2))


class ArgmaxDecoder(Decoder):
    """The class point of the most probable cell."""

    kind = "argmax"

    def __call__(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        return from_unit(class_vectors[posterior.argmax(dim=-1)])


DECODERS: dict[str, type[Decoder]] = {"mean": MeanDecoder, "argmax": ArgmaxDecoder}
