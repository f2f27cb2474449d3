"""Decoders against results by hand and against each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.model.decoder import (
    DECODERS,
    ArgmaxDecoder,
    Decoder,
    MeanDecoder,
    MedianDecoder,
    TopKDecoder,
    restore_decoder,
)

KINDS = sorted(DECODERS)


def to_vectors(points_deg: list[tuple[float, float]]) -> Tensor:
    return torch.from_numpy(to_unit(np.array(points_deg, dtype=float))).float()


def draw_posterior(places: int, cells: int) -> Tensor:
    return torch.softmax(torch.randn(places, cells, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.mark.parametrize(
    ("posterior", "points_deg", "expected"),
    [
        # 0.75 (1, 0, 0) + 0.25 (0, 1, 0) lies atan(0.25 / 0.75) east on the equator.
        ([0.75, 0.25], [(0, 0), (0, 90)], (0.0, math.degrees(math.atan2(1, 3)))),
        ([0.5, 0.5], [(90, 0), (0, 0)], (45.0, 0.0)),
    ],
)
def test_the_mean_by_hand(posterior: list[float], points_deg: list[tuple[float, float]], expected: tuple) -> None:
    decoded = MeanDecoder()(torch.tensor([posterior]), to_vectors(points_deg))
    assert decoded[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_mean_across_the_date_line() -> None:
    decoded = MeanDecoder()(torch.tensor([[0.5, 0.5], [0.9, 0.1]]), to_vectors([(10, 179), (10, -179)]))
    assert abs(decoded[0, 1]) == pytest.approx(180.0, abs=1e-4)
    assert 178.9 < decoded[1, 1] < 179.9


def test_argmax_is_the_most_probable_class_point() -> None:
    points_deg = [(45.0, 15.0), (46.0, 16.0), (-33.0, 151.0)]
    posterior = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    decoded = ArgmaxDecoder()(posterior, to_vectors(points_deg))
    np.testing.assert_allclose(decoded, [points_deg[1], points_deg[2], points_deg[0]], atol=1e-4)


def test_top_k_is_the_mean_of_the_most_probable_cells() -> None:
    points_deg = [(0.0, 0.0), (0.0, 20.0), (0.0, 100.0), (60.0, 0.0)]
    vectors, posterior = to_vectors(points_deg), torch.tensor([[0.3, 0.3, 0.2, 0.2]])
    assert TopKDecoder(k=2)(posterior, vectors)[0].tolist() == pytest.approx([0.0, 10.0], abs=1e-4)
    np.testing.assert_allclose(TopKDecoder(k=9)(posterior, vectors), MeanDecoder()(posterior, vectors), atol=1e-4)


def test_the_median_has_the_least_expected_distance() -> None:
    points_deg = [(45.0, 15.0), (45.0, 16.0), (45.5, 15.5), (43.0, 18.0)]
    posterior = torch.tensor([[0.3, 0.25, 0.25, 0.2]])
    costs = {}
    for kind, decoder in DECODERS.items():
        decoded = decoder()(posterior, to_vectors(points_deg)).double().numpy()[0]
        costs[kind] = float(posterior[0].double().numpy() @ haversine_km(np.array(points_deg), decoded))
    assert costs["median"] == min(costs.values())
    assert costs["median"] < costs["mean"] - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_certain_posterior_gives_its_class_point(kind: str) -> None:
    points_deg = [(45.123, 15.456), (46.0, 16.0)]
    decoded = DECODERS[kind]()(torch.eye(2), to_vectors(points_deg))
    np.testing.assert_allclose(decoded.numpy(), points_deg, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_and_traceable_decoding_give_the_same_points(kind: str) -> None:
    vectors = to_vectors([(45 + row / 100, 15 + row / 50) for row in range(40)])
    posterior = draw_posterior(8, 40)
    decoder = DECODERS[kind](temperature=0.8)
    exact = decoder(posterior.double(), vectors.double())

    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = decoder(posterior, vectors)
    assert float(haversine_km(decoded.double(), exact).max()) < 0.01

    traced = decoder.decode_traceably(posterior, vectors)
    assert traced.dtype == torch.float64
    assert float(haversine_km(traced, exact).max()) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_points_may_differ_between_places(kind: str) -> None:
    posterior = draw_posterior(3, 7)
    vectors = torch.from_numpy(to_unit(np.random.default_rng(0).uniform((42, 13), (46, 19), (3, 7, 2)))).float()
    together = DECODERS[kind]()(posterior, vectors)
    for row in range(3):
        single = DECODERS[kind]()(posterior[row : row + 1], vectors[row])[0]
        assert float(haversine_km(together[row].double(), single.double())) < 0.005


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_the_temperature_divides_the_logits(temperature: float) -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double() * 3
    vectors = to_vectors([(45 + row / 3, 15 + row / 2) for row in range(9)]).double()
    for kind in ("mean", "median", "top_k"):
        decoded = DECODERS[kind](temperature=temperature)(torch.softmax(logits, -1), vectors)
        expected = DECODERS[kind]()(torch.softmax(logits / temperature, -1), vectors)
        np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_probabilities_of_zero_have_a_temperature() -> None:
    decoded = MeanDecoder(temperature=3.0)(torch.tensor([[1.0, 0.0]]), to_vectors([(45, 15), (46, 16)]))
    np.testing.assert_allclose(decoded, [(45, 15)], atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanDecoder(temperature=0), "temperature must be a number from 0.01 to 100, got 0."),
        (lambda: MedianDecoder(temperature=101), "temperature must be a number from 0.01 to 100, got 101."),
        (lambda: TopKDecoder(k=0), "k must be a positive integer, got 0."),
        (lambda: TopKDecoder(k=2.0), "k must be a positive integer, got 2.0."),  # type: ignore[arg-type]
    ],
)
def test_wrong_values_are_refused(make: Callable[[], Decoder], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^decoder.{message}"):
        make()


@pytest.mark.parametrize(
    "decoder", [MeanDecoder(temperature=2.0), TopKDecoder(k=3), MedianDecoder(), ArgmaxDecoder()]
)
def test_a_decoder_is_restored_from_its_state(decoder: Decoder) -> None:
    restored = restore_decoder(decoder.state())
    assert type(restored) is type(decoder) is DECODERS[decoder.kind]
    assert restored.state() == decoder.state()
