"""Decoders: a posterior over cells becomes one point. They work on the sphere and need no projection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoguesser.errors import check_int, check_number
from geoguesser.geo.distance import from_unit, haversine_km
from geoguesser.geo.median import STEADY_STEPS, spherical_median, spherical_median_fixed_steps

TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0)  # what `decoder=auto` tries
TOP_KS = (3, 5, 10)


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

    def steady(self, posterior: Tensor, class_vectors: Tensor, *, steps: int = STEADY_STEPS) -> Tensor:
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
        """Plain values from which `decoder_from_state` makes the same decoder."""
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
        return spherical_median_fixed_steps(posterior, class_vectors, steps=steps)


def _of_columns(class_vectors: Tensor, columns: Tensor) -> Tensor:
    """(K, 3) or (B, K, 3) vectors, (B, M) columns -> (B, M, 3)."""
    if class_vectors.dim() == 2:
        return class_vectors[columns]
    return class_vectors.gather(1, columns[..., None].expand(-1, -1, 3))


class AutoDecoder(MedianDecoder):
    """The geometric median until training is over; then what validation places say is best.

    `choose` tries every kind at several temperatures. The median at temperature 1 stays unless another is better
    by more than the standard error of the difference: of many choices on few places one is always better by luck.
    """

    kind = "auto"

    def __init__(self) -> None:
        super().__init__()

    def choose(self, posterior: Tensor, class_vectors: Tensor, coords_deg: Tensor) -> Choice:
        """Chooses by the mean error of places.

        Args:
            posterior: (N, K) of the places, at no temperature.
            class_vectors: (K, 3), or (N, K, 3).
            coords_deg: (N, 2) float64 true places.
        """
        tried: list[tuple[float, Decoder, Tensor]] = []
        for temperature in TEMPERATURES:
            for decoder in _candidates(temperature):
                found = decoder(posterior, class_vectors).double().cpu()
                error_km = haversine_km(found, coords_deg)
                tried.append((float(error_km.mean()), decoder, error_km))
        usual = next(one for one in tried if one[1].state() == MedianDecoder().state())
        best = min(tried, key=lambda one: one[0])
        gain = usual[2] - best[2]
        noise = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
        taken = best if float(gain.mean()) > noise else usual
        return Choice(taken[1], taken[0], usual[0], len(tried), len(gain))

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind}


class Choice(NamedTuple):
    """What `AutoDecoder.choose` came to.

    Attributes:
        decoder: The decoder to use.
        error_km: Its mean error over the places that it was chosen on.
        usual_km: That of the median at temperature 1.
        tried: How many decoders were tried.
        places: On how many places.
    """

    decoder: Decoder
    error_km: float
    usual_km: float
    tried: int
    places: int


def _candidates(temperature: float) -> list[Decoder]:
    made: list[Decoder] = [MedianDecoder(temperature=temperature), MeanDecoder(temperature=temperature)]
    made += [TopKDecoder(k=k, temperature=temperature) for k in TOP_KS]
    return [*made, ArgmaxDecoder()] if temperature == 1.0 else made


DECODERS: dict[str, type[Decoder]] = {
    one.kind: one for one in (MeanDecoder, ArgmaxDecoder, TopKDecoder, MedianDecoder, AutoDecoder)
}


def decoder_from_state(state: dict[str, Any]) -> Decoder:
    """Makes the decoder again that `Decoder.state` described."""
    values = {key: value for key, value in state.items() if key != "kind"}
    return DECODERS[state["kind"]](**values)
