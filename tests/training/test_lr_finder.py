"""Learning rate range test: the chosen rate is plausible, and the module stays as it was."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_run import REGION, STAGED, TRAIN, ToyData, toy_features, toy_module, toy_network, toy_places
from torch.optim import Optimizer

from geoguesser.errors import GeoguesserError
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.training import lr_finder
from geoguesser.training.lr_finder import MAX_RATE, MAX_STEPS, MIN_RATE, find_rate, find_steepest
from geoguesser.training.optimizer import OptimizerSpec

CPU = torch.device("cpu")
NEVER = "^lr_find found no rate at which the loss falls"


def test_the_steepest_rate_of_a_known_curve() -> None:
    rates = np.logspace(-6, 0, 61)
    # A fall around 1e-3 in the middle of the descent, then a blow-up beyond 1e-1.
    losses = 2.0 - np.tanh(np.log10(rates) + 3.0) + np.where(rates > 0.1, 50.0, 0.0)
    assert find_steepest(rates, losses) == pytest.approx(1e-3, rel=0.01)


def test_a_steep_fall_after_the_minimum_is_ignored() -> None:
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert find_steepest(rates, np.array([5.0, 3.0, 2.0, 9.0, 4.0])) == pytest.approx(1e-4)


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0], [2.0, 1.0, 3.0]])
def test_a_loss_that_never_falls(losses: list[float]) -> None:
    with pytest.raises(GeoguesserError, match=NEVER):
        find_steepest(np.logspace(-6, 0, len(losses)), np.array(losses))


def test_chosen_rate_lies_below_the_limit_of_stability_of_a_quadratic() -> None:
    # Mean squares of a linear layer: gradient descent diverges beyond 2 / (largest curvature).
    network = toy_network()
    coords_deg = toy_places()[0]
    size = network.fusion.output_size
    network.head = RegressionHead.fit(in_features=size, region=REGION, train_coords_deg=coords_deg[:TRAIN])
    features = torch.randn(len(coords_deg), 4, size, generator=torch.Generator().manual_seed(0)) * 4
    module = toy_module(network=network, optimizer=OptimizerSpec("SGD", momentum=0.0))
    batch = next(iter(ToyData(features=features, batch_size=TRAIN).train_dataloader()))
    fused = torch.cat([batch.features.mean(dim=1), torch.ones(TRAIN, 1)], dim=1).double().numpy()
    curvature = 2.0 * np.linalg.eigvalsh(fused.T @ fused / (TRAIN * 2)).max()
    limit = 2.0 / curvature
    assert 0.001 < limit < 0.3

    search = find_rate(module, [batch], CPU)
    np.testing.assert_allclose(search.rates, np.geomspace(MIN_RATE, MAX_RATE, MAX_STEPS)[: len(search.losses)])
    assert search.chosen in search.rates
    assert limit / 100 < search.chosen < limit
    assert search.losses.min() < search.losses[0] / 2

    # The search stops soon after the loss diverges.
    assert limit < search.rates[-1] < 10 * limit


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens searches through images, where 100 steps take seconds."""
    monkeypatch.setattr(lr_finder, "MAX_STEPS", 10)


@pytest.mark.usefixtures("few_steps")
def test_the_first_loss_is_that_of_the_network() -> None:
    module = toy_module()
    batch = next(iter(ToyData().train_dataloader()))
    with torch.no_grad():
        out = module.network.train()(batch.images, batch.mask)
        expected = torch.nn.functional.cross_entropy(out, module.targets["cell"][batch.index])
    search = find_rate(module, [batch], CPU)
    assert search.losses[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.usefixtures("few_steps")
def test_the_module_stays_as_it_was() -> None:
    module = toy_module(stages=[{"epoch": 0, "from": "last_1"}, {"epoch": 2, "from": "all"}], batchnorm="train")
    module.network.train()
    before = copy.deepcopy(module.network.state_dict())
    modes = [part.training for part in module.network.modules()]
    locks = [parameter.requires_grad for parameter in module.network.parameters()]
    base_rates = list(module.base_rates)
    random_state = torch.get_rng_state()

    find_rate(module, ToyData().train_dataloader(), CPU)
    for name, tensor in module.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [part.training for part in module.network.modules()] == modes
    assert [parameter.requires_grad for parameter in module.network.parameters()] == locks
    assert all(parameter.grad is None for parameter in module.network.parameters())
    assert module.base_rates == base_rates
    assert torch.equal(torch.get_rng_state(), random_state)


def test_views_are_dropped_as_in_training() -> None:
    network = toy_network()
    data = ToyData(features=toy_features(network))
    complete = find_rate(toy_module(network=network), data.train_dataloader(), CPU)
    network.fusion = MeanFusion(network.fusion.output_size, view_dropout=0.5)
    dropped = [find_rate(toy_module(network=network), data.train_dataloader(), CPU) for _ in range(2)]
    assert dropped[0].losses[5] != complete.losses[5]
    np.testing.assert_array_equal(dropped[0].losses, dropped[1].losses)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    ("stages", "ratios"),
    [
        ([{"epoch": 0, "from": "all"}], [1.0, 0.1]),
        (STAGED, [1.0, 0.0, 0.0, 0.0]),
        ([{"epoch": 0, "from": "head", "lr": 0.1}, {"epoch": 1, "from": "all"}], [1.0, 0.0]),
    ],
)
def test_other_groups_keep_their_ratio_and_locked_ones_have_rate_zero(
    stages: list[dict[str, Any]], ratios: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizers: list[Optimizer] = []
    original = OptimizerSpec.make

    def keep(self: OptimizerSpec, *args: Any) -> Optimizer:
        optimizers.append(original(self, *args))
        return optimizers[-1]

    monkeypatch.setattr(OptimizerSpec, "make", keep)
    module = toy_module(stages=stages, optimizer=OptimizerSpec("SGD", lr=1e-2, backbone_lr=1e-3, momentum=0.9))
    search = find_rate(module, list(itertools.islice(ToyData().train_dataloader(), 2)), CPU)
    rates = [group["lr"] for group in optimizers[0].param_groups]
    assert rates[0] >= search.rates[-1]
    assert [rate / rates[0] for rate in rates] == pytest.approx(ratios)
