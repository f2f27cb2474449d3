"""Losses against their definitions in NumPy, gradients against finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support.geodesics import compute_geod_km
from support.toy_run import REGION, draw_places

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import from_unit, to_unit
from geoguesser.geo.grid import Grid, SquareGrid
from geoguesser.model.losses import (
    CellLoss,
    CrossEntropy,
    ExpectedDistance,
    SmoothedCrossEntropy,
    compute_arcs_km,
    compute_smoothed_targets,
)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return SquareGrid(size=90).fit(REGION, draw_places(1000))


def compute_log_softmax(logits: torch.Tensor) -> np.ndarray[Any, Any]:
    return torch.log_softmax(logits.double(), dim=1).numpy()


def compute_loss(loss: CellLoss, grid: Grid, coords_deg: np.ndarray[Any, Any], logits: torch.Tensor) -> float:
    vectors = torch.from_numpy(to_unit(grid.class_points_deg)).to(logits.dtype)
    return float(loss(logits, loss.targets(grid, coords_deg), vectors))


def draw_logits(grid: Grid, count: int) -> torch.Tensor:
    return 2.0 * torch.randn(count, grid.num_cells, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_label_smoothing_spreads_its_share_over_all_cells(grid: Grid, share: float) -> None:
    places, logits = draw_places(20, 1), draw_logits(grid, 20)
    targets = (1 - share) * np.eye(grid.num_cells)[grid.assign(places)] + share / grid.num_cells
    expected = -(targets * compute_log_softmax(logits)).sum(axis=1).mean()
    loss = compute_loss(CrossEntropy(label_smoothing=share), grid, places, logits)
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0, 5.0])
def test_smoothed_targets_are_those_of_pigeon(grid: Grid, tau: float) -> None:
    places, logits = draw_places(50, 2), draw_logits(grid, 50)
    distance = compute_geod_km(places[:, None], grid.class_points_deg)
    to_class_point = distance[np.arange(50), grid.assign(places)][:, None]
    q = np.exp(-(distance - to_class_point) / (tau * grid.cells.side_km))
    q /= q.sum(axis=1, keepdims=True)
    expected = -(q * compute_log_softmax(logits)).sum(axis=1).mean()
    # Cells beyond the nearest ones may have a share of a few 1e-4 in total.
    loss = compute_loss(SmoothedCrossEntropy(tau=tau), grid, places, logits)
    assert loss == pytest.approx(expected, rel=2e-3)


def test_with_a_short_reach_the_target_is_the_nearest_class_point(grid: Grid) -> None:
    places, logits = draw_places(30, 3), draw_logits(grid, 30)
    nearest = compute_geod_km(places[:, None], grid.class_points_deg).argmin(axis=1)
    expected = -compute_log_softmax(logits)[np.arange(30), nearest].mean()
    loss = compute_loss(SmoothedCrossEntropy(tau=1e-3), grid, places, logits)
    assert loss == pytest.approx(expected, rel=1e-3)


def test_expected_distance_is_the_mean_under_the_posterior(grid: Grid) -> None:
    places, logits = draw_places(40, 4), draw_logits(grid, 40)
    distance_km = compute_geod_km(places[:, None], grid.class_points_deg)
    expected = (np.exp(compute_log_softmax(logits)) * distance_km).sum(axis=1).mean()
    loss = compute_loss(ExpectedDistance(), grid, places, logits)
    assert loss * grid.cells.side_km == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [CrossEntropy(label_smoothing=0.1), SmoothedCrossEntropy(), ExpectedDistance()])
def test_gradients_agree_with_finite_differences(grid: Grid, loss: CellLoss) -> None:
    places = draw_places(3, 6)
    vectors = torch.from_numpy(to_unit(grid.class_points_deg)).double()
    target = {
        name: value.double() if value.is_floating_point() else value
        for name, value in loss.targets(grid, places).items()
    }
    logits = draw_logits(grid, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss.compute_losses(x, target, vectors).sum(), logits)


def test_balance_gives_cells_the_same_weight(grid: Grid) -> None:
    counts = np.array([1.0, 10.0, 100.0])
    assert CrossEntropy().class_weights(counts) is None
    weights = CrossEntropy(class_balance=1.0).class_weights(counts)
    np.testing.assert_allclose(weights * counts, (weights * counts)[0])
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    half = CrossEntropy(class_balance=0.5).class_weights(counts)
    np.testing.assert_allclose(half[0] / half[2], 10.0)
    logits = draw_logits(grid, 4)
    target = {"cell": torch.tensor([0, 1, 2, 2]), "weight": torch.tensor([2.0, 1.0, 0.5, 0.5])}
    losses = -compute_log_softmax(logits)[np.arange(4), [0, 1, 2, 2]]
    loss = float(CrossEntropy(class_balance=1.0)(logits, target, torch.zeros(grid.num_cells, 3)))
    assert loss == pytest.approx((losses * [2.0, 1.0, 0.5, 0.5]).mean(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 80])
@pytest.mark.parametrize("reach_km", [0.1, 100.0, 30_000.0])
def test_shares_of_near_points(count: int, reach_km: float) -> None:
    random = np.random.default_rng(0)
    places, points_deg = from_unit(random.normal(size=(6, 3))), from_unit(random.normal(size=(count, 3)))
    near, share = compute_smoothed_targets(places, points_deg, np.full(6, reach_km))
    np.testing.assert_allclose(share.sum(axis=1), 1.0, rtol=1e-5)

    distance_km = compute_geod_km(places[:, None], points_deg)
    expected = np.exp(-(distance_km - distance_km.min(axis=1, keepdims=True)) / reach_km)
    expected /= expected.sum(axis=1, keepdims=True)
    full = np.zeros_like(expected)
    np.add.at(full, (np.arange(6)[:, None], near), share)
    np.testing.assert_allclose(full, expected, atol=1e-3)


def test_arcs_resolve_metres_in_float32() -> None:
    rng = np.random.default_rng(0)
    centre = np.array([45.8, 16.0])
    a = centre + rng.normal(0, 1, (50, 2)) * 10.0 ** rng.uniform(-5, 1, (50, 1))
    b = centre + rng.normal(0, 1, (60, 2)) * 10.0 ** rng.uniform(-5, 1, (60, 1))
    b = np.concatenate((b, from_unit(rng.normal(size=(60, 3)))))
    vectors = [torch.from_numpy(to_unit(points)).float() for points in (a, b)]
    arcs_km = compute_arcs_km(*vectors)
    np.testing.assert_allclose(arcs_km.numpy(), compute_geod_km(a[:, None], b), atol=0.002, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compute_arcs_km(*vectors), arcs_km)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(label_smoothing=1.0), "label_smoothing must be below 1, got 1.0."),
        (lambda: CrossEntropy(label_smoothing=math.nan), "label_smoothing must be a number from 0 to 1, got nan."),
        (lambda: CrossEntropy(class_balance=2.0), "class_balance must be a number from 0 to 1, got 2.0."),
        (lambda: SmoothedCrossEntropy(tau=0), "tau must be a number above 0 to 100, got 0."),
        (lambda: SmoothedCrossEntropy(tau=True), "tau must be a number above 0 to 100, got True."),
    ],
)
def test_wrong_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^loss.{message}"):
        make()
