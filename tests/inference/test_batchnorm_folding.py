"""Folding: the same features from fewer layers, for several families of models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geoguesser.inference import batchnorm_folding as folding
from geoguesser.inference.batchnorm_folding import fold_batchnorm
from geoguesser.model.backbone import TimmBackbone


def backbone(name: str) -> TimmBackbone:
    """Random weights, and BatchNorm statistics as after training: none is 0 or 1."""
    torch.manual_seed(0)
    made = TimmBackbone(name=name, pretrained=False).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return made


def norms(module: nn.Module) -> int:
    return sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in module.modules())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18", "tf_efficientnet_lite0"])
def test_features_stay_and_norms_go(name: str):
    own = backbone(name)
    before = copy.deepcopy(own.state_dict())
    made = fold_batchnorm(own)
    assert norms(made) == 0 < norms(own)
    views = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted, found = own(views), made(views)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    for key, value in own.state_dict().items():  # the one that was given is as it was
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_a_model_whose_layers_run_in_another_order_is_left_alone():
    own = backbone("mobilenetv3_small_050")

    class Crossed(nn.Module):
        """Registers a BatchNorm behind a convolution and runs it before."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.conv, self.norm, self.inner = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3).eval(), inner
            self.norm.running_mean.fill_(0.7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.conv(self.norm(x)))

    own.model = Crossed(own.model).eval()
    assert fold_batchnorm(own) is own


def test_a_model_without_norms_stays_as_it_is():
    own = backbone("mobilenetv3_small_050")
    own.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    views = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(fold_batchnorm(own)(views), own(views))
    assert folding.MAX_RELATIVE_ERROR < 1e-3
