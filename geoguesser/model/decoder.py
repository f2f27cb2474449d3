"""Decoders: from a posterior over cells to coordinates. They work on the sphere and need no projection.

Notation. p_c are the probabilities of a place's cells, v_c the unit vectors of their points, and x the unit vector
of the answer. The chord |x - v| and the great-circle distance d(x, v) = R arccos(x . v) grow together.

- Mean: sum_c p_c |x - v_c|^2 = 2 - 2 x . sum_c p_c v_c is smallest for x in the direction of sum_c p_c v_c. It
  minimises the expected squared chord. Source: K. V. Mardia and P. E. Jupp, "Directional Statistics" (2000).
- Median: the minimum of sum_c p_c d(x, v_c), the expected distance. If the score is the mean distance and the
  posterior is right, no other answer does better. `geo/median.py` has the derivation.

A temperature T replaces p_c by p_c^(1 / T) / sum_k p_k^(1 / T), which is the softmax of log(p_c) / T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from geoguesser.errors import check_int, check_number, look_up_kind
from geoguesser.geo.distance import from_unit
from geoguesser.geo.median import FIXED_STEPS, fixed_step_median, select_vectors, spherical_median


class Decoder(ABC):
    """Decoder of posteriors.

    Args:
        temperature: Temperature of the posterior, from 0.01 to 100: below 1 sharpens it, above 1 flattens it.

    Attributes:
        kind: Name of the class in checkpoints, a key of `DECODERS`.

    Raises:
        ConfigError: A value is out of range.
    """

    kind: str

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = check_number("decoder.temperature", temperature, low=0.01, high=100.0)

    def __call__(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        """Decodes posteriors (B, K), probabilities that sum to 1, to latitude and longitude in degrees (B, 2).

        Unit vectors of the class points are (K, 3), or (B, K, 3) if they differ between places.
        """
        return from_unit(self._decode_vectors(self._apply_temperature(posterior), class_vectors))

    def decode_traceably(self, posterior: Tensor, class_vectors: Tensor, *, steps: int = FIXED_STEPS) -> Tensor:
        """Decodes as `__call__`, in float64 and by the same operations for all values.

        `steps` is the number of steps of the search for a geometric median.
        """
        posterior, class_vectors = posterior.double(), class_vectors.double()
        return from_unit(self._decode_vectors_traceably(self._apply_temperature(posterior), class_vectors, steps))

    def _apply_temperature(self, posterior: Tensor) -> Tensor:
        return posterior if self.temperature == 1.0 else torch.softmax(posterior.log() / self.temperature, dim=-1)

    @abstractmethod
    def _decode_vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        """Returns vectors (B, 3) of any length in the direction of the answers."""

    def _decode_vectors_traceably(self, posterior: Tensor, class_vectors: Tensor, steps: int) -> Tensor:
        """Returns the vectors of `_decode_vectors`. To be overridden if their operations depend on values."""
        return self._decode_vectors(posterior, class_vectors)

    def state(self) -> dict[str, Any]:
        """Returns plain values from which `from_state` makes the same decoder."""
        return {"kind": self.kind, "temperature": self.temperature}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(**{key: value for key, value in state.items() if key != "kind"})


class MeanDecoder(Decoder):
    """Mean of the class points on the sphere, weighted by probability."""

    kind = "mean"

    def _decode_vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        # A matrix product would lose kilometres under mixed precision or TF32.
        return (posterior[..., None] * class_vectors).sum(dim=-2)


class ArgmaxDecoder(Decoder):
    """Class point of the most probable cell. The temperature makes no difference."""

    kind = "argmax"

    def _decode_vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        return select_vectors(class_vectors, posterior.argmax(dim=-1, keepdim=True))[:, 0]


class TopKDecoder(Decoder):
    """Mean of the class points of the `k` most probable cells, weighted by probability."""

    kind = "top_k"

    def __init__(self, *, k: int = 5, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature)
        self.k = check_int("decoder.k", k, low=1)

    def _decode_vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        top = posterior.topk(min(self.k, posterior.shape[-1]), dim=-1)
        return (top.values[..., None] * select_vectors(class_vectors, top.indices)).sum(dim=-2)

    def state(self) -> dict[str, Any]:
        return super().state() | {"k": self.k}


class MedianDecoder(Decoder):
    """Geometric median of the posterior on the sphere: the point of least expected great-circle distance."""

    kind = "median"

    def _decode_vectors(self, posterior: Tensor, class_vectors: Tensor) -> Tensor:
        return spherical_median(posterior, class_vectors)

    def _decode_vectors_traceably(self, posterior: Tensor, class_vectors: Tensor, steps: int) -> Tensor:
        return fixed_step_median(posterior, class_vectors, steps=steps)


DECODERS: dict[str, type[Decoder]] = {
    decoder.kind: decoder for decoder in (MeanDecoder, ArgmaxDecoder, TopKDecoder, MedianDecoder)
}


def restore_decoder(state: dict[str, Any]) -> Decoder:
    """Makes the decoder of a `Decoder.state`.

    Version 0.1 recorded the kind "auto" in checkpoints of unfinished runs, which decoded like "median" until the
    end of training.
    """
    kind = "median" if state["kind"] == "auto" else state["kind"]
    return look_up_kind("decoder", DECODERS, kind).from_state(state)
