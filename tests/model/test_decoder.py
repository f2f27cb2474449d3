"""Decoders against answers found by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.model.decoder import (
    DECODERS,
    ArgmaxDecoder,
    MeanDecoder,
    MedianDecoder,
    TopKDecoder,
    restore_decoder,
)


def vectors_of(points_deg: list[tuple[float, float]]) -> torch.Tensor:
    return torch.from_numpy(to_unit(np.array(points_deg))).float()


def test_mean_of_two_points_on_the_equator_lies_between_them() -> None:
    found = MeanDecoder()(torch.tensor([[0.5, 0.5]]), vectors_of([(0, 10), (0, 30)]))
    assert found[0].tolist() == pytest.approx([0.0, 20.0], abs=1e-4)


def test_weighted_mean_by_hand() -> None:
    # 0.75 (1, 0, 0) + 0.25 (0, 1, 0) points to atan(0.25 / 0.75) east on the equator.
    found = MeanDecoder()(torch.tensor([[0.75, 0.25]]), vectors_of([(0, 0), (0, 90)]))
    assert found[0].tolist() == pytest.approx([0.0, math.degrees(math.atan2(1, 3))], abs=1e-4)
    # 0.5 to the north pole, 0.5 to (0, 0): 45 degrees north.
    found = MeanDecoder()(torch.tensor([[0.5, 0.5]]), vectors_of([(90, 0), (0, 0)]))
    assert found[0].tolist() == pytest.approx([45.0, 0.0], abs=1e-4)


def test_mean_across_the_date_line() -> None:
    found = MeanDecoder()(torch.tensor([[0.5, 0.5], [0.9, 0.1]]), vectors_of([(10, 179), (10, -179)]))
    assert abs(found[0, 1]) == pytest.approx(180.0, abs=1e-4)
    assert 178.9 < found[1, 1] < 179.9


def test_argmax_is_the_likeliest_class_point() -> None:
    points = [(45.0, 15.0), (46.0, 16.0), (-33.0, 151.0)]
    posterior = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    found = ArgmaxDecoder()(posterior, vectors_of(points))
    np.testing.assert_allclose(found.numpy(), [points[1], points[2], points[0]], atol=1e-4)


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_a_sure_posterior_gives_its_class_point(kind: str) -> None:
    points = [(45.123, 15.456), (46.0, 16.0)]
    decoder = DECODERS[kind]()
    assert decoder.kind == kind
    found = decoder(torch.eye(2), vectors_of(points))
    np.testing.assert_allclose(found.numpy(), points, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_mixed_precision_loses_no_kilometres(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = vectors_of([(45 + row / 100, 15 + row / 50) for row in range(40)])
    posterior = torch.softmax(torch.randn(8, 40, generator=generator), dim=-1)
    exact = DECODERS[kind]()(posterior.double(), vectors.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = DECODERS[kind]()(posterior, vectors)
    assert float(haversine_km(found.double(), exact).max()) < 0.01


def test_top_k_is_the_mean_of_the_likeliest_alone() -> None:
    points = [(0.0, 0.0), (0.0, 20.0), (0.0, 100.0), (60.0, 0.0)]
    posterior = torch.tensor([[0.3, 0.3, 0.2, 0.2]])
    found = TopKDecoder(k=2)(posterior, vectors_of(points))
    assert found[0].tolist() == pytest.approx([0.0, 10.0], abs=1e-4)
    every = TopKDecoder(k=9)(posterior, vectors_of(points))
    np.testing.assert_allclose(every, MeanDecoder()(posterior, vectors_of(points)), atol=1e-4)
    one = TopKDecoder(k=1)(torch.tensor([[0.1, 0.2, 0.4, 0.3]]), vectors_of(points))
    np.testing.assert_allclose(one, [points[2]], atol=1e-4)


def test_the_median_answers_least_expected_distance() -> None:
    points = np.array([(45.0, 15.0), (45.0, 16.0), (45.5, 15.5), (43.0, 18.0)])
    posterior = torch.tensor([[0.3, 0.25, 0.25, 0.2]])
    vectors = vectors_of([tuple(point) for point in points])
    costs = {}
    for kind, decoder in DECODERS.items():
        at = decoder()(posterior, vectors).double().numpy()[0]
        costs[kind] = float(posterior[0].double().numpy() @ haversine_km(points, at))
    assert costs["median"] == min(costs.values())
    assert costs["median"] < costs["mean"] - 1


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_temperature_is_that_of_the_logits(temperature: float) -> None:
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).double() * 3
    vectors = vectors_of([(45 + row / 3, 15 + row / 2) for row in range(9)]).double()
    for kind in ("mean", "median", "top_k"):
        warm = DECODERS[kind](temperature=temperature)(torch.softmax(logits, -1), vectors)
        plain = DECODERS[kind]()(torch.softmax(logits / temperature, -1), vectors)
        np.testing.assert_allclose(warm, plain, atol=1e-6)
    sure = torch.tensor([[1.0, 0.0]])
    found = MeanDecoder(temperature=3.0)(sure, vectors_of([(45, 15), (46, 16)]))
    np.testing.assert_allclose(found, [(45, 15)], atol=1e-4)  # the logarithm of 0 harms nobody


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanDecoder(temperature=0), "decoder.temperature must be a number from 0.01 to 100, got 0."),
        (
            lambda: MedianDecoder(temperature=101),
            "decoder.temperature must be a number from 0.01 to 100, got 101.",
        ),
        (lambda: TopKDecoder(k=0), "decoder.k must be a positive integer, got 0."),
        (lambda: TopKDecoder(k=2.0), "decoder.k must be a positive integer, got 2.0."),
    ],
)
def test_values_that_are_none(make: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message


def test_a_decoder_is_made_again_from_its_state() -> None:
    for decoder in (MeanDecoder(temperature=2.0), TopKDecoder(k=3), MedianDecoder(), ArgmaxDecoder()):
        again = restore_decoder(decoder.state())
        assert type(again) is type(decoder)
        assert again.state() == decoder.state()


def test_a_checkpoint_of_an_unfinished_run_with_the_removed_auto_decodes_by_the_median() -> None:
    assert restore_decoder({"kind": "auto"}).state() == MedianDecoder().state()


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_points_that_differ_by_place(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    posterior = torch.softmax(torch.randn(3, 7, generator=generator), dim=-1)
    vectors = torch.from_numpy(to_unit(np.random.default_rng(0).uniform((42, 13), (46, 19), (3, 7, 2)))).float()
    together = DECODERS[kind]()(posterior, vectors)
    for row in range(3):
        alone = DECODERS[kind]()(posterior[row : row + 1], vectors[row])[0]
        assert float(haversine_km(together[row].double(), alone.double())) < 0.005
