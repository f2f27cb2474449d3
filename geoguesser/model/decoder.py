"""Decoders: a posterior over cells becomes one point. They work on the sphere and need no projection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from geoguesser.errors import check_int, check_number
from geoguesser.geo.distance import from_unit
from geoguesser.geo.median import FIXED_STEPS, fixed_step_median, spherical_median


class Decoder(ABC):
    """What turns posteriors into points.

    Args:
        temperature: The posterior is raised to the power 1 / temperature first: below 1 it is sharpened, above 1
            flattened.

    Attributes:
        kind: The name under which a checkpoint records it.

    Raises:
        ConfigError: A value is out of range.
    """

    kind: str

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = check_number("decoder.temperature", temperature, low=0.01, high=100.0)

    def __call__(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        """Decodes.

        Args:
            posterior: (B, K) probabilities that sum to 1.
            class_vectors: (K, 3) unit vectors of the class points, or (B, K, 3) where they differ by place.

        Returns:
            (B, 2) latitude and longitude in degrees.
        """
        if self.temperature != 1.0:
            posterior = torch.softmax(posterior.log() / self.temperature, dim=-1)
        return from_unit(self._vectors(posterior, class_vectors))

    def steady(self, posterior: Tensor, class_vectors: Tensor, *, steps: int = FIXED_STEPS) -> Tensor:
        """As calling it, but in 64 bits and with the same operations for all values, so that it can be exported.

        Args:
            posterior: As there.
            class_vectors: As there.
            steps: How many the search of a geometric median takes.
        """
        posterior, class_vectors = posterior.double(), class_vectors.double()
        if self.temperature != 1.0:
            posterior = torch.softmax(posterior.log() / self.temperature, dim=-1)
        return from_unit(self._steady_vectors(posterior, class_vectors, steps))

    @abstractmethod
    def _vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        """(B, 3) vectors to the points, of any length."""

    def _steady_vectors(self, posterior: Tensor, class_vectors: Tensor, steps: int) -> Tensor:
        """As `_vectors`; a decoder whose operations depend on values has an own way."""
        return self._vectors(posterior, class_vectors)

    def state(self) -> dict[str, Any]:
        """Plain values from which `restore_decoder` makes the same decoder."""
        return {"kind": self.kind, "temperature": self.temperature}


class MeanDecoder(Decoder):
    """The probability-weighted mean of the class points, on the sphere.

    The mean vector's direction; it minimises the expected squared chord, not the expected distance.
    """

    kind = "mean"

    def _vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        # No matrix product: under mixed precision, or TF32, that would lose kilometres.
        return (posterior[..., None] * class_vectors).sum(dim=-2)


class ArgmaxDecoder(Decoder):
    """The class point of the most probable cell; a temperature makes no difference."""

    kind = "argmax"

    def _vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        return _of_columns(class_vectors, posterior.argmax(dim=-1, keepdim=True))[:, 0]


class TopKDecoder(Decoder):
    """The probability-weighted mean of the `k` most probable cells alone.

    Args:
        k: How many; where there are fewer cells, all of them.
        temperature: As in Decoder.
    """

    kind = "top_k"

    def __init__(self, *, k: int = 5, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature)
        self.k = check_int("decoder.k", k, low=1)

    def _vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        top = posterior.topk(min(self.k, posterior.shape[-1]), dim=-1)
        return (top.values[..., None] * _of_columns(class_vectors, top.indices)).sum(dim=-2)

    def state(self) -> dict[str, Any]:
        return super().state() | {"k": self.k}


class MedianDecoder(Decoder):
    """The posterior's geometric median: the answer with the least expected great-circle distance.

    Where the score is the mean distance, it is the best answer that a true posterior allows.
    """

    kind = "median"

    def _vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        return spherical_median(posterior, class_vectors)

    def _steady_vectors(self, posterior: Tensor, class_vectors: Tensor, steps: int) -> Tensor:
        return fixed_step_median(posterior, class_vectors, steps=steps)


def _of_columns(class_vectors: Tensor, columns: Tensor) -> Tensor:
    """(K, 3) or (B, K, 3) vectors, (B, M) columns -> (B, M, 3)."""
    if class_vectors.dim() == 2:
        return class_vectors[columns]
    return class_vectors.gather(1, columns[..., None].expand(-1, -1, 3))


DECODERS: dict[str, type[Decoder]] = {
    decoder.kind: decoder for decoder in (MeanDecoder, ArgmaxDecoder, TopKDecoder, MedianDecoder)
}


def restore_decoder(state: dict[str, Any]) -> Decoder:
    """Builds a decoder from its `state`.

    Version 0.1 recorded the kind "auto" in checkpoints of unfinished runs. It decoded like "median" until the end
    of training, when the chosen decoder took its place in the checkpoint.
    """
    values = {key: value for key, value in state.items() if key != "kind"}
    kind = "median" if state["kind"] == "auto" else state["kind"]

    return DECODERS[kind](**values)
