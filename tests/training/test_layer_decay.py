"""Layer decay: rates decrease from block to block towards the stem, and each parameter is in one group."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.toy_run import STAGED, LearningRateRecorder, ToyData, toy_module, toy_network, toy_trainer

from geoguesser.errors import CheckpointError, ConfigError
from geoguesser.model.network import GeoNetwork
from geoguesser.training.callbacks import LastCheckpoint
from geoguesser.training.finetuning import Finetuning, ParameterGroup
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Cosine

ALL = [{"epoch": 0, "from": "all"}]
DEEP = [*STAGED[:2], {"epoch": 3, "from": "all", "lr": 1e-4}]
SPEC = OptimizerSpec("SGD", lr=1e-2, backbone_lr=1e-3, momentum=0.9)


@pytest.fixture(scope="module")
def network() -> GeoNetwork:
    return toy_network()


def make_groups(network: GeoNetwork, stages: list[dict[str, Any]], decay: float) -> list[ParameterGroup]:
    return Finetuning(stages=stages, layer_decay=decay).make_groups(network)


def compute_base_rates(network: GeoNetwork, stages: list[dict[str, Any]], decay: float) -> dict[str, float]:
    return {group.name: SPEC.base_rate(group) for group in make_groups(network, stages, decay)}


def test_full(network: GeoNetwork) -> None:
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


@pytest.mark.parametrize("model", ["test_resnet", "mobilenetv3_small_050", "test_vit", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("start", ["all", "last_2"])
def test_every_parameter_is_in_one_group_with_the_rate_of_its_block(model: str, start: str) -> None:
    network = toy_network(model)
    stages = [{"epoch": 0, "from": "head"}, {"epoch": 1, "from": "last_1"}, {"epoch": 3, "from": start}]
    groups = make_groups(network, stages, 0.7)
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
        assert sorted(factors) in ([], [pytest.approx(0.7**behind)])


@pytest.mark.parametrize("stages", [ALL, STAGED, DEEP])
def test_a_decay_of_one_does_not_split_groups(network: GeoNetwork, stages: list[dict[str, Any]]) -> None:
    groups = make_groups(network, stages, 1.0)
    assert groups == Finetuning(stages=stages).make_groups(network)
    assert all("." not in group.name and group.factor == 1.0 for group in groups)
    optimizer = SPEC.make(network, groups)
    assert len(optimizer.param_groups) == len(groups)


def make_module(decay: float) -> GeoLightningModule:
    module = toy_module(stages=DEEP, schedule=Cosine(final_factor=0.0), optimizer=SPEC)
    return GeoLightningModule(
        module.network,
        targets=module.targets,
        optimizer=SPEC,
        schedule=module.schedule,
        finetuning=Finetuning(stages=DEEP, layer_decay=decay),
        diagonal_km=module.diagonal_km,
        record=module.record,
    )


def test_a_resume_keeps_its_decay(tmp_path: Path) -> None:
    folder, steps = str(tmp_path / "c"), LearningRateRecorder()

    def fit(decay: float, epochs: int, **options: Any) -> None:
        trainer = toy_trainer(tmp_path, epochs=epochs, callbacks=[LastCheckpoint(dirpath=folder), steps])
        trainer.fit(make_module(decay), datamodule=ToyData(batch_size=8), **options)

    fit(0.5, 1)
    resume = {"ckpt_path": f"{folder}/last.ckpt", "weights_only": True}
    for decay, message in ((0.6, "keeps its learning rates"), (1.0, "other stages of fine-tuning")):
        with pytest.raises(CheckpointError, match=message):
            fit(decay, 2, **resume)
    fit(0.5, 2, **resume)
    assert len(steps.rates) == 4


def test_a_backbone_of_one_block(network: GeoNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for block in network.backbone.blocks() for name in block]
    monkeypatch.setattr(network.backbone, "blocks", lambda: [names])
    with pytest.raises(ConfigError, match=r"^finetune\.layer_decay must be 1 for test_resnet.*got 0\.5"):
        make_groups(network, ALL, 0.5)
