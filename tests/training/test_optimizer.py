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
    made = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
    assert type(made) is kind
    for group in made.param_groups:
        assert {key: group[key] for key in expected} == expected


def test_adam_and_adamw_differ_as_torch_says() -> None:
    steps = {}
    for spec in (
        OptimizerSpec("Adam", lr=0.1, weight_decay=0.5),
        OptimizerSpec("AdamW", lr=0.1, weight_decay=0.5),
    ):
        network = toy_network()
        made = spec.make(network, Finetuning(stages=HEAD_ONLY).make_groups(network))
        bias = network.head.linear.bias
        torch.nn.init.ones_(bias)
        bias.grad = torch.full_like(bias, 2.0)
        made.step()
        steps[spec.name] = float(bias.detach()[0])
    assert steps["Adam"] == pytest.approx(1 - 0.1, abs=1e-6)  # the first step has the size of the rate
    assert steps["AdamW"] == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerSpec("Adam", lr=0), "optimizer.lr must be a number above 0, got 0."),
        (lambda: OptimizerSpec("Adam", lr="fast"), "optimizer.lr must be a number above 0, got 'fast'."),
        (
            lambda: OptimizerSpec("AdamW", backbone_lr=-1.0),
            "optimizer.backbone_lr must be a number above 0, got -1.0.",
        ),
        (
            lambda: OptimizerSpec("SGD", weight_decay=-1, momentum=0.9),
            "optimizer.weight_decay must be a number from 0, got -1.",
        ),
        (lambda: OptimizerSpec("Adam", betas=0.9), "optimizer.betas must be two numbers, got 0.9."),
        (lambda: OptimizerSpec("Adam", betas=[0.9]), "optimizer.betas must be two numbers, got [0.9]."),
        (lambda: OptimizerSpec("AdamW", betas=[0.9, 1.0]), "optimizer.betas must be below 1, got 1.0."),
        (
            lambda: OptimizerSpec("AdamW", betas=[0.9, "a"]),
            "optimizer.betas must be a number from 0 to 1, got 'a'.",
        ),
        (lambda: OptimizerSpec("SGD", momentum=1.0), "optimizer.momentum must be below 1, got 1.0."),
        (lambda: OptimizerSpec("SGD", momentum=1.5), "optimizer.momentum must be a number from 0 to 1, got 1.5."),
        (
            lambda: OptimizerSpec("SGD", nesterov="yes", momentum=0.9),
            "optimizer.nesterov must be true or false, got 'yes'.",
        ),
        (
            lambda: OptimizerSpec("SGD", momentum=0.0, nesterov=True),
            "optimizer.nesterov must be false without momentum, got True.",
        ),
        (
            lambda: OptimizerSpec("Adam", eps=-1),
            "optimizer.eps must be a value that torch.optim.Adam takes (Invalid epsilon value: -1.0), got -1.0.",
        ),
        (
            lambda: OptimizerSpec("SGD", dampening=0.5, momentum=0.9, nesterov=True),
            "optimizer.nesterov must be a value that torch.optim.SGD takes "
            "(Nesterov momentum requires a momentum and zero dampening), got True.",
        ),
    ],
)
def test_wrong_values(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


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
    optimizer = OptimizerSpec(name, lr=0.1).make(network, Finetuning(stages=HEAD_ONLY).groups(network))
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
    optimizer = spec.make(network, Finetuning(stages=HEAD_ONLY).groups(network))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == config["optimizer"]["lr"]
    for key in set(config["optimizer"]) - {"_target_", "name", "lr", "backbone_lr"}:
        assert optimizer.param_groups[0][key] == config["optimizer"][key]
