"""Metrics: every place counts once, whatever its batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geoguesser.geo.distance import haversine_km
from geoguesser.model.metrics import PlaceErrors, summarise_errors


def test_places_are_gathered_over_batches_and_sorted_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(11, generator=generator)
    true = torch.rand(11, 2, generator=generator) * 50
    predicted = true + torch.rand(11, 2, generator=generator)
    hits = torch.rand(11, 2, generator=generator) > 0.5
    metric = PlaceErrors()
    for part in (slice(0, 8), slice(8, 10), slice(10, 11)):  # uneven batches
        metric.update(index[part], predicted[part], true[part], hits[part])
    results = metric.compute()

    order = torch.argsort(index)
    assert results.index.tolist() == list(range(11))
    assert torch.equal(results.predicted_deg, predicted[order])
    assert torch.equal(results.hits, hits[order])
    exact = haversine_km(predicted.double().numpy(), true.double().numpy())
    np.testing.assert_allclose(results.error_km.numpy(), exact[order.numpy()], rtol=1e-4)


def test_a_single_place_keeps_its_axes() -> None:
    metric = PlaceErrors()
    metric.update(torch.tensor([4]), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2).bool())
    results = metric.compute()
    assert tuple(results.error_km.shape) == (1,)
    assert tuple(results.predicted_deg.shape) == (1, 2)
    assert float(results.error_km[0]) == pytest.approx(2 * math.pi * 6371.0088 / 360, rel=1e-5)


def test_reset_removes_all_places_and_checkpoints_hold_none() -> None:
    metric = PlaceErrors()
    values = (torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 0).bool())
    metric.update(torch.tensor([1]), *values)
    metric.compute()
    assert metric.state_dict() == {}
    metric.reset()
    metric.update(torch.tensor([2]), *values)
    assert metric.compute().index.tolist() == [2]


def test_summary_by_hand() -> None:
    error_km = np.array([0.5, 1.0, 4.0, 30.0, 164.5])
    summary = summarise_errors(error_km, diagonal_km=500.0)
    assert summary["error_km_mean"] == pytest.approx(40.0)
    assert summary["error_km_median"] == 4.0
    # NumPy's linear percentile: position 0.9 * 4 = 3.6 between 30 and 164.5.
    assert summary["error_km_p90"] == pytest.approx(30 + 0.6 * 134.5)
    shares = {"1": 0.4, "5": 0.6, "10": 0.6, "25": 0.6, "50": 0.8, "100": 0.8, "200": 1.0}
    assert summary["share_within_km"] == shares
    scores = [5000 * math.exp(-error / 50) for error in error_km]
    assert summary["score_mean"] == pytest.approx(sum(scores) / 5)
