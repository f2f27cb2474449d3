"""Fusion: the features of four views and their mask become one vector. Absent views never count.

Views stand by compass heading: 0 looks north, 90 east, 180 south, 270 west. `concat` and `attention` tell
headings apart, `mean` does not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from geoguesser.errors import ConfigError, check_int, check_number

NUM_VIEWS = 4
BRANCH_INIT_SIZE = 0.01  # how large attention's own part is at the start, for hidden values of size 1
HEADING_INIT_SIZE = 0.5  # the size of a projected view, so that headings can be told apart at once


class Fusion(nn.Module, ABC):
    """(B, 4, D) features and (B, 4) mask -> (B, `output_size`).

    Args:
        feature_size: D.
        output_size: The width of the fused vector.
        view_dropout: In training each view is dropped with this probability, see `drop_views`; from 0 to
            below 1. Whoever trains draws the mask, for the draw must follow from the run's seed and step.

    Attributes:
        kind: The name under which a checkpoint records it.

    Raises:
        ConfigError: `fusion.view_dropout` breaks its rule.
    """

    kind: str

    def __init__(self, feature_size: int, output_size: int, view_dropout: float) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.output_size = output_size
        self.view_dropout = check_number("fusion.view_dropout", view_dropout, low=0.0, high=1.0)
        if self.view_dropout == 1.0:
            raise ConfigError.at("fusion.view_dropout", "must be below 1", found=view_dropout)

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Fuses; `mask` is true where there is a view."""

    def condense(self, features: Tensor, mask: Tensor) -> Tensor | None:
        """(B, 1, D) a vector per place that fuses to the same as its views, where a fusion learns nothing of them.

        None where the views are needed. Training on one vector reads a quarter of the memory.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Plain values from which `restore_fusion` makes the same fusion, without weights."""
        return {"kind": self.kind, "view_dropout": self.view_dropout}


class ConcatFusion(Fusion):
    """The four vectors side by side, absent ones as zeros: (B, 4 D). As the predecessor.

    Trained with view dropout, the views that are there are multiplied by 4 / their number, in training
    and in prediction alike. A logit is a sum over the views, so without this a place with one view would
    get about a quarter of the logits that the head learnt for four, and a posterior as flat. It is
    dropout's usual inverse scaling, by the place's own share of views instead of the expected one.
    Without view dropout nothing is multiplied.

    Args:
        feature_size: D.
        view_dropout: See Fusion.
    """

    kind = "concat"

    def __init__(self, feature_size: int, *, view_dropout: float = 0.0) -> None:
        super().__init__(feature_size, NUM_VIEWS * feature_size, view_dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        present = _present(features, mask)
        if self.view_dropout:
            counts = mask.sum(1).clamp(min=1).to(present.dtype)
            present = present * (NUM_VIEWS / counts)[:, None, None]
        return present.flatten(1)


class MeanFusion(Fusion):
    """The mean of the views that are there: (B, D). A place without any view gives zeros.

    Args:
        feature_size: D.
        view_dropout: See Fusion.
    """

    kind = "mean"

    def __init__(self, feature_size: int, *, view_dropout: float = 0.0) -> None:
        super().__init__(feature_size, feature_size, view_dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        if features.shape[1] == 1:  # condensed: the mean is there already
            return features[:, 0]
        return _mean(features, mask)

    def condense(self, features: Tensor, mask: Tensor) -> Tensor | None:
        return None if self.view_dropout else _mean(features, mask)[:, None]


class AttentionFusion(Fusion):
    """The mean, and what views say together: (B, D). A place without any view gives zeros.

    Each view's features are normalised, projected to `width` and marked with a learnt vector of its
    heading; pre-norm transformer layers let the views that are there look at each other; their mean is
    projected back to D and added to the plain mean. That last projection starts near zero, so training
    starts as fusion=mean, which does best on few places, and headings and pairs of views come in as far
    as they lower the loss. There is no dropout inside, for that is drawn from torch's global numbers and a
    resumed run would differ from one that never stopped; `view_dropout` is the regulariser.

    Args:
        feature_size: D.
        width: Of the projected views; None for D. A multiple of `heads`.
        layers: How many transformer layers.
        heads: Attention heads of each.
        view_dropout: See Fusion.

    Raises:
        ConfigError: A value breaks its rule.

    Source: A. Vaswani et al., arXiv 1706.03762; pre-norm: R. Xiong et al., arXiv 2002.04745; a branch
    that starts near zero: T. Bachlechner et al. (ReZero), arXiv 2003.04887.
    """

    kind = "attention"

    def __init__(
        self,
        feature_size: int,
        *,
        width: int | None = 256,
        layers: int = 1,
        heads: int = 4,
        view_dropout: float = 0.0,
    ) -> None:
        super().__init__(feature_size, feature_size, view_dropout)
        self.width = feature_size if width is None else check_int("fusion.width", width, low=1)
        self.layers = check_int("fusion.layers", layers, low=1)
        self.heads = check_int("fusion.heads", heads, low=1)
        if self.width % self.heads:
            raise ConfigError.at("fusion.width", f"must be a multiple of fusion.heads={heads}", found=self.width)
        self.project = nn.Sequential(nn.LayerNorm(feature_size), nn.Linear(feature_size, self.width))
        self.headings = nn.Parameter(HEADING_INIT_SIZE * torch.randn(NUM_VIEWS, self.width))
        layer = nn.TransformerEncoderLayer(
            self.width,
            self.heads,
            dim_feedforward=2 * self.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, self.layers, norm=nn.LayerNorm(self.width), enable_nested_tensor=False
        )
        for parameter in self.encoder.parameters():  # its layers are copies of one another
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.back = nn.Linear(self.width, feature_size, bias=False)  # no bias: no views stay zeros
        nn.init.normal_(self.back.weight, std=BRANCH_INIT_SIZE / math.sqrt(self.width))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        tokens = self.project(_present(features, mask)) + self.headings
        seen = mask | ~mask.any(dim=1, keepdim=True)  # a softmax over no view would be no number
        together = self.encoder(tokens, src_key_padding_mask=~seen)
        branch: Tensor = self.back(_mean(together, mask))
        return _mean(features, mask) + branch

    def state(self) -> dict[str, Any]:
        return super().state() | {"width": self.width, "layers": self.layers, "heads": self.heads}


FUSIONS: dict[str, type[ConcatFusion] | type[MeanFusion] | type[AttentionFusion]] = {
    "concat": ConcatFusion,
    "mean": MeanFusion,
    "attention": AttentionFusion,
}


def restore_fusion(state: dict[str, Any] | str, feature_size: int) -> Fusion:
    """Makes the fusion that `Fusion.state` described, without its weights.

    Args:
        state: What `Fusion.state` gave, or what an older checkpoint holds.
        feature_size: D, of the backbone.
    """
    values = complete_fusion_state(state)
    return FUSIONS[values.pop("kind")](feature_size, **values)


def complete_fusion_state(state: dict[str, Any] | str) -> dict[str, Any]:
    """A recorded fusion as it would be recorded now: older checkpoints hold its kind alone."""
    return {"kind": state, "view_dropout": 0.0} if isinstance(state, str) else dict(state)


def drop_views(mask: Tensor, share: float, seed: int) -> Tensor:
    """Drops views at random, but never all of a place: its last view stays.

    The numbers are drawn on the CPU from the seed, so they are the same on every device.

    Args:
        mask: (B, 4) bool, true where there is a view.
        share: The probability that a view is dropped, from 0 to below 1. As the last one stays, each of
            four views is kept with probability 1 - share + share ** 4 / 4.
        seed: Names the draw; a run uses one per step.

    Returns:
        (B, 4) bool, new: true where there is a view that was not dropped.
    """
    draws = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    draws = draws.to(mask.device, non_blocking=True).masked_fill(~mask, -1.0)
    last = draws == draws.amax(dim=1, keepdim=True)
    return mask & ((draws >= share) | last)


def _present(features: Tensor, mask: Tensor) -> Tensor:
    """Features with zeros for absent views, whatever stands there."""
    return features.masked_fill(~mask[..., None], 0.0)


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    """The mean over the views that are there, zeros where there are none."""
    counts = mask.sum(1, keepdim=True).clamp(min=1).to(features.dtype)
    return _present(features, mask).sum(1) / counts
