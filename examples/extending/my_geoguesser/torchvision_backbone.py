"""Backbone that timm does not have: ShuffleNet of torchvision, with 0.3 million parameters."""

import torch
from torch import nn
from torchvision.models import ShuffleNet_V2_X0_5_Weights, shufflenet_v2_x0_5

from geoguesser.model.backbone import BACKBONES, LastMap

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class ShuffleNetBackbone(nn.Module):
    """Feature maps of ShuffleNet, averaged over the image."""

    kind = "shufflenet"
    name = "shufflenet_v2_x0_5"
    prefix = "body."
    feature_size = 1024

    def __init__(self, *, pretrained=False):
        super().__init__()
        model = shufflenet_v2_x0_5(weights=ShuffleNet_V2_X0_5_Weights.DEFAULT if pretrained else None)
        self.body = nn.Sequential(*list(model.children())[:-1])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images):
        return self.body(self.normalise(images)).mean(dim=(2, 3))

    def normalise(self, images):
        return (images.to(self.mean.dtype) / 255.0 - self.mean) / self.std

    def set_normalisation(self, mean, std):
        self.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, 3, 1, 1))

    def check_size(self, size):
        """Accepts every size: the network has only convolutions and a mean."""

    def blocks(self):
        stages = [
            [f"{number}.{key}" for key, _ in part.named_parameters()] for number, part in enumerate(self.body)
        ]
        return [names for names in stages if names]

    def find_last_map(self, images):
        with torch.no_grad():
            leaf = self.body(self.normalise(images))
        leaf.requires_grad_()
        return LastMap(leaf, features=leaf.mean(dim=(2, 3)), to_spatial=lambda values: values)

    def state(self):
        return {"kind": self.kind, "name": self.name}

    @classmethod
    def from_state(cls, state):
        return cls()


BACKBONES[ShuffleNetBackbone.kind] = ShuffleNetBackbone
