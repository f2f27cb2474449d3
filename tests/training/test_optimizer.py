"""Optimizers: torch's own, with groups and base rates of ours."""

from __future__ import annotations

import pytest
import torch
from conftest import compose
from support.toy_run import HEAD_ONLY, STAGED, toy_network

from geoguesser.commands.configs import instantiate_node, resolve_run_config
from geoguesser.training.finetuning import Finetuning, collect_parameters
from geoguesser.training.optimizer import NAMES, OptimizerSpec


def test_groups_names_and_base_rates() -> None:
    network = toy_network()
    spec = OptimizerSpec("Adam", lr=0.1, backbone_lr=0.02, betas=[0.85, 0.95])
    groups = Finetuning(stages=STAGED).make_groups(network)
    optimizer = spec.make(network, groups)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [
        ("head", 0.1),
        ("backbone@1", 3e-3),  # the stage's own rate
        ("backbone@3", 0.02),
        ("locked", 0.0),
    ]
    assert {group["betas"] for group in optimizer.param_groups} == {(0.85, 0.95)}
    for group, optimizer_group in zip(groups, optimizer.param_groups, strict=True):
        assert [id(item) for item in optimizer_group["params"]] == [
            id(item) for item in collect_parameters(network, group)
        ]


def test_the_heads_stage_rate_wins_over_the_optimizers() -> None:
    groups = Finetuning(stages=[{"epoch": 0, "from": "head", "lr": 0.5}]).make_groups(toy_network())
    assert [OptimizerSpec("Adam", lr=0.1).base_rate(group) for group in groups] == [0.5, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_any_optimizer_of_torch_trains_a_step(name: str) -> None:
    network = toy_network()
    optimizer = OptimizerSpec(name, lr=0.1).make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
    weight = network.head.linear.weight
    weight.grad = torch.ones_like(weight)
    before = weight.detach().clone()
    optimizer.step()
    assert type(optimizer) is getattr(torch.optim, name)
    assert (weight.detach() < before).all()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["optimizer=adam"], torch.optim.Adam),
        (["optimizer=adamw"], torch.optim.AdamW),
        (["optimizer=sgd", "+optimizer.nesterov=true"], torch.optim.SGD),
        (["optimizer=adam", "optimizer.name=NAdam", "+optimizer.momentum_decay=0.01"], torch.optim.NAdam),
        (["optimizer=adam", "optimizer.name=Rprop", "~optimizer.weight_decay"], torch.optim.Rprop),
    ],
)
def test_the_config_names_any_optimizer_of_torch(words: list[str], kind: type) -> None:
    config = resolve_run_config(compose(words))
    spec = instantiate_node(config["optimizer"], "optimizer")
    network = toy_network()
    optimizer = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == config["optimizer"]["lr"]
    for key in set(config["optimizer"]) - {"_target_", "name", "lr", "backbone_lr"}:
        assert optimizer.param_groups[0][key] == config["optimizer"][key]
