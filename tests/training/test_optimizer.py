"""Optimizers: torch's own, with groups and base rates of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import compose
from support.toy_run import HEAD_ONLY, STAGED, toy_network

from geoguesser.commands.configs import instantiate_node, resolve_run_config
from geoguesser.errors import ConfigError
from geoguesser.training.finetuning import Finetuning, collect_parameters
from geoguesser.training.optimizer import NAMES, OptimizerSpec


def test_groups_names_and_base_rates() -> None:
    network = toy_network()
    spec = OptimizerSpec("Adam", lr=0.1, backbone_lr=0.02)
    groups = Finetuning(stages=STAGED).make_groups(network)
    optimizer = spec.make(network, groups)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [
        ("head", 0.1),
        ("backbone@1", 3e-3),  # the stage's own rate
        ("backbone@3", 0.02),
        ("locked", 0.0),
    ]
    for group, optimizer_group in zip(groups, optimizer.param_groups, strict=True):
        assert [id(item) for item in optimizer_group["params"]] == [
            id(item) for item in collect_parameters(network, group)
        ]
    assert len({id(p) for group in optimizer.param_groups for p in group["params"]}) == len(
        list(network.parameters())
    )


def test_the_heads_stage_rate_wins_over_the_optimizers() -> None:
    groups = Finetuning(stages=[{"epoch": 0, "from": "head", "lr": 0.5}]).make_groups(toy_network())
    assert [OptimizerSpec("Adam", lr=0.1).base_rate(group) for group in groups] == [0.5, 0.0]


@pytest.mark.parametrize(
    ("spec", "kind", "expected"),
    [
        (
            OptimizerSpec("Adam", betas=[0.85, 0.95], weight_decay=0.1),
            torch.optim.Adam,
            {"betas": (0.85, 0.95), "weight_decay": 0.1},
        ),
        (
            OptimizerSpec("AdamW", weight_decay=0.2),
            torch.optim.AdamW,
            {"betas": (0.9, 0.999), "weight_decay": 0.2},
        ),
        (
            OptimizerSpec("SGD", momentum=0.8, nesterov=True, weight_decay=0.3),
            torch.optim.SGD,
            {"momentum": 0.8, "nesterov": True, "weight_decay": 0.3},
        ),
    ],
)
def test_values_reach_torchs_optimizer(spec: OptimizerSpec, kind: type, expected: dict[str, Any]) -> None:
    network = toy_network()
    optimizer = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected


def test_adam_and_adamw_differ_as_torch_says() -> None:
    steps = {}
    for spec in (OptimizerSpec(name, lr=0.1, weight_decay=0.5) for name in ("Adam", "AdamW")):
        network = toy_network()
        optimizer = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
        bias = network.head.linear.bias
        torch.nn.init.ones_(bias)
        bias.grad = torch.full_like(bias, 2.0)
        optimizer.step()
        steps[spec.name] = float(bias.detach()[0])

    # The first step has the size of the rate.
    assert steps["Adam"] == pytest.approx(1 - 0.1, abs=1e-6)
    assert steps["AdamW"] == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Adam", {"lr": "fast"}, "lr must be a number above 0, got 'fast'"),
        ("AdamW", {"backbone_lr": -1.0}, "backbone_lr must be a number above 0, got -1.0"),
        ("SGD", {"weight_decay": -1, "momentum": 0.9}, "weight_decay must be a number from 0, got -1"),
        ("Adam", {"betas": 0.9}, "betas must be two numbers, got 0.9"),
        ("Adam", {"betas": [0.9]}, r"betas must be two numbers, got \[0.9\]"),
        ("AdamW", {"betas": [0.9, 1.0]}, "betas must be below 1, got 1.0"),
        ("AdamW", {"betas": [0.9, "a"]}, "betas must be a number from 0 to 1, got 'a'"),
        ("SGD", {"momentum": 1.0}, "momentum must be below 1, got 1.0"),
        ("SGD", {"momentum": 1.5}, "momentum must be a number from 0 to 1, got 1.5"),
        ("SGD", {"nesterov": "yes", "momentum": 0.9}, "nesterov must be true or false, got 'yes'"),
        ("SGD", {"nesterov": True, "momentum": 0.0}, "nesterov must be false without momentum, got True"),
        ("Adam", {"eps": -1}, r"eps must be a value that torch\.optim\.Adam takes .*, got -1"),
        (
            "SGD",
            {"dampening": 0.5, "momentum": 0.9, "nesterov": True},
            r"nesterov must be a value that torch\.optim\.SGD takes .*, got True",
        ),
    ],
)
def test_wrong_values(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^optimizer\.{message}"):
        OptimizerSpec(name, **options)


def test_an_unknown_class_and_an_unknown_argument_name_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name must be one of ASGD, .*NAdam.*, got 'LBFGS'"):
        OptimizerSpec("LBFGS")
    with pytest.raises(ConfigError, match=r"optimizer\.momentum is not a key of Adam\. Its keys: .*betas.*name"):
        OptimizerSpec("Adam", momentum=0.9)
    with pytest.raises(ConfigError, match=r"optimizer\.params is not a key of Adam"):
        OptimizerSpec("Adam", params=[])


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
