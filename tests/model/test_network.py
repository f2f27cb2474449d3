"""GeoNetwork: embedding, prediction, locked parts in training, and restoring."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.toy_run import REGION, fit_head
from torch import nn

from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.fusion import FUSIONS
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.network import GeoNetwork, restore_network

PLACES = np.array([[45.1, 15.2], [45.6, 15.9], [45.3, 15.5]])


def make_network(fusion: str = "concat") -> GeoNetwork:
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_resnet", pretrained=False)
    fused = FUSIONS[fusion](backbone.feature_size)
    head = fit_head(fused.output_size, PLACES, RegressionHead)
    head.linear.reset_parameters()  # at zero no gradient would reach the backbone in the first step
    return GeoNetwork(backbone, fused, head)


def draw_views(places: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (places, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)


def copy_statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.named_buffers() if "running" in key or "batches" in key}


def lock(network: GeoNetwork, *, open_prefix: tuple[str, ...] = ()) -> None:
    for name, parameter in network.backbone.model.named_parameters():
        parameter.requires_grad_(name.startswith(open_prefix) if open_prefix else False)


def train_steps(network: GeoNetwork, count: int = 3) -> None:
    network.train()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01)
    target = network.head.targets(PLACES)
    for step in range(count):
        optimizer.zero_grad()
        loss = network.head.loss(network(draw_views(3, step), torch.ones(3, 4, dtype=torch.bool)), target)
        loss.backward()
        optimizer.step()


def test_embedding_all_views_at_once_equals_one_by_one() -> None:
    network = make_network().eval()
    images = draw_views(3)
    with torch.no_grad():
        together = network.embed(images, torch.ones(3, 4, dtype=torch.bool))
        assert tuple(together.shape) == (3, 4, network.backbone.feature_size)
        for place in range(3):
            for view in range(4):
                single = network.backbone(images[place, view][None])[0]
                torch.testing.assert_close(together[place, view], single, atol=1e-5, rtol=1e-4)


def test_features_of_absent_views_are_zero_and_their_pixels_do_not_count() -> None:
    network = make_network().eval()
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 1]], dtype=torch.bool)
    images = draw_views(2)
    other = images.clone()
    other[~mask] = 255 - other[~mask]
    with torch.no_grad():
        features = network.embed(images, mask)
        assert (features[~mask] == 0).all()
        assert (features[mask].abs().sum(dim=1) > 0).all()
        torch.testing.assert_close(network(images, mask), network(other, mask))


def test_a_locked_backbone_stays_in_evaluation_mode_and_does_not_change() -> None:
    network = make_network()
    lock(network)
    before = copy.deepcopy(network.state_dict())
    network.train_batchnorm = True  # only unlocked layers are affected
    train_steps(network)
    assert not network.backbone.training
    assert not any(module.training for module in network.backbone.modules())
    assert network.head.training
    after = network.state_dict()
    for name, tensor in before.items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])


def test_statistics_do_not_change_while_weights_learn() -> None:
    network = make_network()
    before = copy_statistics(network)
    weight = network.backbone.model.get_parameter("layer4.0.conv1.weight").detach().clone()
    train_steps(network)
    after = copy_statistics(network)
    assert before
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert not torch.equal(weight, network.backbone.model.get_parameter("layer4.0.conv1.weight"))


def test_train_batchnorm_moves_only_the_statistics_of_unlocked_layers() -> None:
    network = make_network()
    lock(network, open_prefix=("layer4.",))
    network.train_batchnorm = True
    before = copy_statistics(network)
    train_steps(network)
    moved = {name for name, tensor in copy_statistics(network).items() if not torch.equal(tensor, before[name])}
    expected = {name for name in before if name.startswith("backbone.model.layer4.")}
    assert moved == expected
    assert 0 < len(expected) < len(before)


def test_dropout_of_locked_blocks_is_off() -> None:
    network = make_network()
    network.backbone.model.layer1.add_module("drop", nn.Dropout())  # type: ignore[union-attr,operator]
    network.backbone.model.layer4.add_module("drop", nn.Dropout())  # type: ignore[union-attr,operator]
    lock(network, open_prefix=("layer4.",))
    network.train()
    modes = {key: m.training for key, m in network.backbone.model.named_modules() if isinstance(m, nn.Dropout)}
    assert modes == {"layer1.drop": False, "layer4.drop": True}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_state_makes_the_same_network(fusion: str) -> None:
    network = make_network(fusion).eval()
    restored = restore_network(REGION, network.state()).eval()
    restored.load_state_dict(network.state_dict())
    images, mask = draw_views(2), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(restored(images, mask), network(images, mask))
