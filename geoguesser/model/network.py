"""GeoNetwork: backbone, fusion and head. Takes uint8 views and normalises them itself."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from geoguesser.geo.region import Region
from geoguesser.model.backbone import Backbone, restore_backbone
from geoguesser.model.fusion import Fusion, restore_fusion
from geoguesser.model.heads.base import Head
from geoguesser.model.heads.registry import restore_head


class GeoNetwork(nn.Module):
    """Network from the four views of a place, at headings 0, 90, 180, 270, to the output of a head.

    Attributes:
        train_batchnorm: Statistics of BatchNorm layers whose parameters are unlocked are updated in training.
            Those of locked layers never are.
    """

    def __init__(self, backbone: Backbone, fusion: Fusion, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.fusion = fusion
        self.head = head
        self.train_batchnorm = False
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor, mask: Tensor) -> Tensor:
        """Returns features (B, 4, D) of uint8 views (B, 4, 3, H, W), zeros where the mask (B, 4) is false."""
        features = torch.unflatten(self.backbone(images.flatten(0, 1)), 0, images.shape[:2])
        return features * mask[..., None]

    def from_features(self, features: Tensor, mask: Tensor) -> Tensor:
        """Returns the head's output (B, output_size) for features (B, 4, D) and a mask (B, 4)."""
        out: Tensor = self.head(self.fusion(features, mask))
        return out

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Returns the head's output (B, output_size) for uint8 views (B, 4, 3, H, W) and a mask (B, 4)."""
        return self.from_features(self.embed(images, mask), mask)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as in torch, but keeps locked parts of the backbone in evaluation mode.

        Without this, dropout and moving statistics would change the output of parts that do not learn.
        """
        super().train(mode)
        if not mode:
            return self
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
            return self

        # `modules` lists parents before their children: a locked child of an unlocked parent is set last.
        for module in self.backbone.modules():
            learns = [parameter.requires_grad for parameter in module.parameters()]
            if learns and not any(learns):
                module.eval()
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(module.training and self.train_batchnorm)
        return self

    def state(self) -> dict[str, Any]:
        """Returns plain values and arrays from which `restore_network` makes the network, without weights."""
        return {name: getattr(self, name).state() for name in ("backbone", "fusion", "head")}


def restore_network(region: Region, state: dict[str, Any]) -> GeoNetwork:
    """Makes the network that `GeoNetwork.state` described, without its weights."""
    backbone = restore_backbone(state["backbone"])
    fusion = restore_fusion(state["fusion"], backbone.feature_size)
    return GeoNetwork(backbone, fusion, restore_head(region, state["head"]))
