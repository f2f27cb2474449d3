"""Optimizers: torch's own, with groups and base rates of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_run import HEAD_ONLY, STAGED, toy_network

from geoguesser.errors import ConfigError
from geoguesser.training.finetuning import Finetuning, collect_parameters
from geoguesser.training.optimizer import SGD, Adam, AdamW, OptimizerSpec


def test_groups_names_and_base_rates() -> None:
    network = toy_network()
    spec = Adam(lr=0.1, backbone_lr=0.02)
    groups = Finetuning(stages=STAGED).make_groups(network)
    made = spec.make(network, groups)
    assert [(group["name"], group["lr"]) for group in made.param_groups] == [
        ("head", 0.1),
        ("backbone@1", 3e-3),  # the stage's own rate
        ("backbone@3", 0.02),
        ("locked", 0.0),
    ]
    for group, made_group in zip(groups, made.param_groups, strict=True):
        assert [id(one) for one in made_group["params"]] == [id(one) for one in collect_parameters(network, group)]
    assert len({id(p) for group in made.param_groups for p in group["params"]}) == len(list(network.parameters()))


def test_the_heads_stage_rate_wins_over_the_optimizers() -> None:
    groups = Finetuning(stages=[{"epoch": 0, "from": "head", "lr": 0.5}]).make_groups(toy_network())
    assert [Adam(lr=0.1).base_rate(group) for group in groups] == [0.5, 0.0]


@pytest.mark.parametrize(
    ("spec", "kind", "expected"),
    [
        (
            Adam(betas=[0.85, 0.95], weight_decay=0.1),  # type: ignore[arg-type]  # as YAML gives it
            torch.optim.Adam,
            {"betas": (0.85, 0.95), "weight_decay": 0.1},
        ),
        (AdamW(weight_decay=0.2), torch.optim.AdamW, {"betas": (0.9, 0.999), "weight_decay": 0.2}),
        (
            SGD(momentum=0.8, nesterov=True, weight_decay=0.3),
            torch.optim.SGD,
            {"momentum": 0.8, "nesterov": True, "weight_decay": 0.3},
        ),
    ],
)
def test_values_reach_torchs_optimizer(spec: OptimizerSpec, kind: type, expected: dict[str, Any]) -> None:
    network = toy_network()
    made = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
    assert type(made) is kind
    for group in made.param_groups:
        assert {key: group[key] for key in expected} == expected


def test_adam_and_adamw_differ_as_torch_says() -> None:
    steps = {}
    for spec in (Adam(lr=0.1, weight_decay=0.5), AdamW(lr=0.1, weight_decay=0.5)):
        network = toy_network()
        made = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
        bias = network.head.linear.bias
        torch.nn.init.ones_(bias)
        bias.grad = torch.full_like(bias, 2.0)
        made.step()
        steps[type(spec)] = float(bias.detach()[0])
    assert steps[Adam] == pytest.approx(1 - 0.1, abs=1e-6)  # the first step has the size of the rate
    assert steps[AdamW] == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(lr=0), "optimizer.lr must be a number above 0, got 0."),
        (lambda: Adam(lr="fast"), "optimizer.lr must be a number above 0, got 'fast'."),
        (lambda: AdamW(backbone_lr=-1.0), "optimizer.backbone_lr must be a number above 0, got -1.0."),
        (lambda: SGD(weight_decay=-1), "optimizer.weight_decay must be a number from 0, got -1."),
        (lambda: Adam(betas=0.9), "optimizer.betas must be two numbers, got 0.9."),
        (lambda: Adam(betas=[0.9]), "optimizer.betas must be two numbers, got [0.9]."),
        (lambda: AdamW(betas=[0.9, 1.0]), "optimizer.betas must be below 1, got 1.0."),
        (lambda: AdamW(betas=[0.9, "a"]), "optimizer.betas must be a number from 0 to 1, got 'a'."),
        (lambda: SGD(momentum=1.0), "optimizer.momentum must be below 1, got 1.0."),
        (lambda: SGD(momentum=1.5), "optimizer.momentum must be a number from 0 to 1, got 1.5."),
        (lambda: SGD(nesterov="yes"), "optimizer.nesterov must be true or false, got 'yes'."),
        (lambda: SGD(momentum=0.0, nesterov=True), "optimizer.nesterov must be false without momentum, got True."),
    ],
)
def test_wrong_values(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
