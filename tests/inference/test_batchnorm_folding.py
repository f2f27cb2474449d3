"""Folding of BatchNorm: the same features from fewer layers, for several families of models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geoguesser.inference.batchnorm_folding import fold_batchnorm
from geoguesser.model.backbone import TimmBackbone


def make_backbone(name: str) -> TimmBackbone:
    """Makes a backbone with random weights and BatchNorm statistics that are, as after training, not 0 or 1."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name, pretrained=False).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return backbone


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18", "tf_efficientnet_lite0"])
def test_features_stay_and_norms_go(name: str):
    backbone = make_backbone(name)
    before = copy.deepcopy(backbone.state_dict())
    folded = fold_batchnorm(backbone)
    assert count_norms(folded) == 0 < count_norms(backbone)

    views = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected, actual = backbone(views), folded(views)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    # The argument itself does not change.
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_a_model_whose_layers_run_in_another_order_is_not_folded():
    backbone = make_backbone("mobilenetv3_small_050")

    class Crossed(nn.Module):
        """Registers a BatchNorm after a convolution and runs it before."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.conv, self.norm, self.inner = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3).eval(), inner
            self.norm.running_mean.fill_(0.7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.conv(self.norm(x)))

    backbone.model = Crossed(backbone.model).eval()
    assert fold_batchnorm(backbone) is backbone


def test_a_model_without_norms_computes_the_same():
    backbone = make_backbone("mobilenetv3_small_050")
    backbone.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    views = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(fold_batchnorm(backbone)(views), backbone(views))
