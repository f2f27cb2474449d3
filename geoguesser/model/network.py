"""GeoNetwork: backbone + fusion + head. Plain torch; it takes uint8 views and normalises them itself."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from geoguesser.geo.region import Region
from geoguesser.model.backbone import TimmBackbone, restore_backbone
from geoguesser.model.fusion import Fusion, restore_fusion
from geoguesser.model.heads.classification import Head
from geoguesser.model.heads.registry import restore_head


class GeoNetwork(nn.Module):
    """Four views of a place to a head's output.

    Args:
        backbone: Images to features.
        fusion: Features of four views to one vector.
        head: That vector to an output, a loss, a point.

    Attributes:
        train_batchnorm: Whether the statistics of unlocked BatchNorm layers move in training. Those of
            locked ones never do.
    """

    def __init__(self, backbone: TimmBackbone, fusion: Fusion, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.fusion = fusion
        self.head = head
        self.train_batchnorm = False
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor, mask: Tensor) -> Tensor:
        """Runs the backbone on all views at once, as one batch of 4 B.

        Args:
            images: (B, 4, 3, H, W) uint8 views, headings 0, 90, 180, 270.
            mask: (B, 4) bool, true where there is a view; features of the others are zero.

        Returns:
            (B, 4, D) features.
        """
        features = self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return features * mask[..., None]

    def from_features(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, 4, D) features and (B, 4) mask -> (B, output_size) the head's output."""
        out: Tensor = self.head(self.fusion(features, mask))
        return out

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """(B, 4, 3, H, W) uint8 views and (B, 4) mask -> (B, output_size) the head's output."""
        return self.from_features(self.embed(images, mask), mask)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but what is locked stays in evaluation: no dropout, no moving statistics."""
        super().train(mode)
        if not mode:
            return self
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
            return self
        for module in self.backbone.modules():  # parents come first
            own = [parameter.requires_grad for parameter in module.parameters()]
            if own and not any(own):
                module.eval()
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(module.training and self.train_batchnorm)
        return self

    def state(self) -> dict[str, Any]:
        """Plain values and arrays from which `restore_network` makes the same network, without weights."""
        return {
            "backbone": self.backbone.state(),
            "fusion": self.fusion.state(),
            "head": self.head.state(),
        }


def restore_network(region: Region, state: dict[str, Any]) -> GeoNetwork:
    """Makes the network that `GeoNetwork.state` described, without its weights."""
    backbone = restore_backbone(state["backbone"])
    fusion = restore_fusion(state["fusion"], backbone.feature_size)
    return GeoNetwork(backbone, fusion, restore_head(region, state["head"]))
