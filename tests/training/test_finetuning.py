"""Fine-tuning: the stages of parameters, and learning rates that decrease from block to block."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support.toy_run import HEAD_ONLY, STAGED, toy_network

from geoguesser.errors import ConfigError
from geoguesser.model.network import GeoNetwork
from geoguesser.training.finetuning import Finetuning, ParameterGroup
from geoguesser.training.optimizer import OptimizerSpec

ALL = [{"epoch": 0, "from": "all"}]
DEEP = [*STAGED[:2], {"epoch": 3, "from": "all", "lr": 1e-4}]
SPEC = OptimizerSpec("SGD", lr=1e-2, backbone_lr=1e-3, momentum=0.9)
HEAD_NAMES = {"head.linear.weight", "head.linear.bias"}


@pytest.fixture(scope="module")
def network() -> GeoNetwork:
    return toy_network()


def names_below(network: GeoNetwork, *prefixes: str) -> set[str]:
    full = tuple(f"backbone.model.{prefix}" for prefix in prefixes)
    return {name for name, _ in network.named_parameters() if name.startswith(full)}


def as_table(network: GeoNetwork, stages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    groups = Finetuning(stages=stages).make_groups(network)
    return [(group.name, set(group.names), group.unlock_epoch, group.lr) for group in groups]


def test_groups_of_stages(network: GeoNetwork) -> None:
    head, backbone = ("head", HEAD_NAMES, 0, None), names_below(network, "")
    assert as_table(network, HEAD_ONLY) == [head, ("locked", backbone, None, 0.0)]
    assert as_table(network, ALL) == [head, ("backbone", backbone, 0, None)]

    # test_resnet's blocks: stem, layer1 to layer4.
    assert as_table(network, STAGED) == [
        head,
        ("backbone@1", names_below(network, "layer4"), 1, 3e-3),
        ("backbone@3", names_below(network, "layer3"), 3, None),
        ("locked", names_below(network, "conv1", "bn1", "layer1", "layer2"), None, 0.0),
    ]


@pytest.mark.parametrize(
    ("start", "prefixes"),
    [
        ("last_1", ["layer4"]),
        ("last_3", ["layer2", "layer3", "layer4"]),
        ("last_5", [""]),
        ("layer3", ["layer3", "layer4"]),
        ("layer2.0.bn2", ["layer2.0.bn2", "layer2.0.downsample", "layer3", "layer4"]),
        ("all", [""]),
    ],
)
def test_parts_that_each_start_unlocks(network: GeoNetwork, start: str, prefixes: list[str]) -> None:
    table = as_table(network, [*HEAD_ONLY, {"epoch": 1, "from": start}])
    names, expected = table[1][1], names_below(network, *prefixes)
    assert expected <= names
    if start.startswith("layer2"):
        # Parameters after the part within its block.
        assert names - expected <= names_below(network, "layer2.0")
    else:
        assert names == expected


def test_a_part_is_a_complete_name() -> None:
    network = toy_network("test_vit")
    table = as_table(network, [*HEAD_ONLY, {"epoch": 1, "from": "blocks.1"}])
    assert "backbone.model.blocks.0.norm1.weight" not in table[1][1]
    assert "backbone.model.blocks.1.norm1.weight" in table[1][1]
    assert "backbone.model.norm.weight" in table[1][1]


UNKNOWN = "head, last_N, all or a part of the backbone, got '{}'. Parts of test_resnet: conv1, bn1, layer1, layer2"


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        ("layer", "be " + UNKNOWN.format("layer")),
        ("last_x", "be " + UNKNOWN.format("last_x")),
        ("last_0", "be last_1 to last_5 for test_resnet, got 'last_0'"),
        ("last_6", "be last_1 to last_5 for test_resnet, got 'last_6'"),
        ("head", "unlock more than the stages before, got 'head'"),
        ("last_1", "unlock more than the stages before, got 'last_1'"),
    ],
)
def test_refused_starts(network: GeoNetwork, start: str, rule: str) -> None:
    first = ALL if start == "last_1" else HEAD_ONLY
    with pytest.raises(ConfigError, match=rf"^finetune\.stages\[1\]\.from must {rule}"):
        as_table(network, [*first, {"epoch": 1, "from": start}])


def make_groups(network: GeoNetwork, stages: list[dict[str, Any]], decay: float) -> list[ParameterGroup]:
    return Finetuning(stages=stages, layer_decay=decay).make_groups(network)


def compute_base_rates(network: GeoNetwork, stages: list[dict[str, Any]], decay: float) -> dict[str, float]:
    return {group.name: SPEC.base_rate(group) for group in make_groups(network, stages, decay)}


def test_rates_decrease_towards_the_stem(network: GeoNetwork) -> None:
    # Blocks of test_resnet: stem, layer1 to layer4.
    rates = {f"backbone.{block}": 1e-3 * 0.5 ** (4 - block) for block in range(5)}
    assert compute_base_rates(network, ALL, 0.5) == pytest.approx({"head": 1e-2, **rates})


def test_a_stages_rate_is_that_of_its_top_block(network: GeoNetwork) -> None:
    rates = {f"backbone@3.{block}": 1e-4 * 0.5 ** (3 - block) for block in range(4)}
    assert compute_base_rates(network, DEEP, 0.5) == pytest.approx({"head": 1e-2, "backbone@1.4": 3e-3, **rates})


def test_without_a_rate_the_depth_counts_from_the_last_block(network: GeoNetwork) -> None:
    assert compute_base_rates(network, STAGED, 0.5) == pytest.approx(
        {"head": 1e-2, "backbone@1.4": 3e-3, "backbone@3.3": 1e-3 / 2, "locked": 0.0}
    )


def test_a_block_in_two_stages(network: GeoNetwork) -> None:
    stages = [{"epoch": 0, "from": "layer3.0.bn2"}, {"epoch": 2, "from": "layer3"}]
    groups = make_groups(network, stages, 0.5)
    assert [group.name for group in groups] == ["head", "backbone.3", "backbone.4", "backbone@2.3", "locked"]
    assert [group.factor for group in groups] == [1.0, 0.5, 1.0, 0.5, 1.0]
    assert "backbone.model.layer3.0.conv1.weight" in groups[3].names


@pytest.mark.parametrize("decay", [1.0, 0.7])
@pytest.mark.parametrize("model", ["test_resnet", "mobilenetv3_small_050", "test_vit", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("start", ["all", "last_2"])
def test_every_parameter_is_in_one_group_with_the_rate_of_its_block(model: str, start: str, decay: float) -> None:
    network = toy_network(model)
    stages = [{"epoch": 0, "from": "head"}, {"epoch": 1, "from": "last_1"}, {"epoch": 3, "from": start}]
    groups = make_groups(network, stages, decay)
    counted = Counter(name for group in groups for name in group.names)
    assert set(counted) == {name for name, _ in network.named_parameters()}
    assert set(counted.values()) == {1}
    assert len({group.name for group in groups}) == len(groups)
    for number, block in enumerate(network.backbone.blocks()):
        factors = {
            group.factor
            for group in groups
            if group.name != "locked" and {f"backbone.model.{name}" for name in block} & set(group.names)
        }
        behind = len(network.backbone.blocks()) - 1 - number
        assert sorted(factors) in ([], [pytest.approx(decay**behind)])


def test_a_backbone_of_one_block_has_no_layer_decay(network: GeoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for block in network.backbone.blocks() for name in block]
    monkeypatch.setattr(network.backbone, "blocks", lambda: [names])
    with pytest.raises(ConfigError, match=r"^finetune\.layer_decay must be 1 for test_resnet.*got 0\.5"):
        make_groups(network, ALL, 0.5)
