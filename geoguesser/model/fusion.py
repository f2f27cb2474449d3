"""Fusion: the features of four views become one vector per place. Absent views never count.

Views are ordered by compass heading: 0 looks north, 90 east, 180 south, 270 west. `concat` and `attention`
distinguish headings, `mean` does not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from geoguesser.errors import ConfigError, check_int, check_number, look_up_kind

NUM_VIEWS = 4
MAX_WIDTH, MAX_LAYERS = 16_384, 64

# Initial size of the attention branch, for hidden values of size 1.
BRANCH_INIT_SIZE = 0.01

# Size of a projected view, so that the network distinguishes headings from the start.
HEADING_INIT_SIZE = 0.5


class Fusion(nn.Module, ABC):
    """Fusion of view features (B, 4, D), with a mask (B, 4), to (B, output_size).

    Args:
        feature_size: Number D of features per view.
        output_size: Number of features per place.
        view_dropout: Probability of dropping each view in training, from 0 to below 1. The training loop calls
            `drop_views`, because the draw must follow from the run's seed and step.

    Attributes:
        kind: Name of the class in checkpoints, a key of `FUSIONS`.
        linear: The fused vector is a linear function of the features, given the mask.
    """

    kind: str
    linear = False

    def __init__(self, feature_size: int, output_size: int, view_dropout: float) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.output_size = output_size
        self.view_dropout = check_number("fusion.view_dropout", view_dropout, low=0.0, high=1.0)
        if self.view_dropout == 1.0:
            raise ConfigError.at("fusion.view_dropout", "must be below 1", found=view_dropout)

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Fuses features (B, 4, D) of views that are present where `mask` (B, 4) is true."""

    def split_fused(self, fused: Tensor, mask: Tensor) -> Tensor:
        """Returns features (4, D) of views that fuse to `fused` (output_size,) for a place with all views.

        Only linear fusions have them. For a place with fewer views (`mask` (4,)), the factor by which the fusion
        multiplies the features of present views is divided out.
        """
        raise NotImplementedError(f"fusion {self.kind} is not linear")

    def condense(self, features: Tensor, mask: Tensor) -> Tensor | None:
        """Returns one vector per place (B, 1, D) that fuses to the same as its views, or None if there is none.

        A fusion without parameters and random draws has one. Training on it reads a quarter of the memory.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Returns plain values from which `from_state` makes the same fusion, without weights."""
        return {"kind": self.kind, "view_dropout": self.view_dropout}

    @classmethod
    def from_state(cls, feature_size: int, state: dict[str, Any]) -> Self:
        options: dict[str, Any] = {key: value for key, value in state.items() if key != "kind"}
        return cls(feature_size, **options)


class ConcatFusion(Fusion):
    """Concatenation of the four views' features, with zeros for absent views: (B, 4 D).

    With view dropout, features of present views are multiplied by 4 / (number of present views), in training and
    in prediction. A logit is a sum over views: without the factor, a place with one view would get about a quarter
    of the logits that the head learnt for four views, and a posterior that is too flat. This is the usual inverse
    scaling of dropout, by the actual share of present views in place of the expected one.
    """

    kind = "concat"
    linear = True

    def __init__(self, feature_size: int, *, view_dropout: float = 0.0) -> None:
        super().__init__(feature_size, NUM_VIEWS * feature_size, view_dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        present = _zero_absent(features, mask)
        if self.view_dropout:
            counts = mask.sum(1).clamp(min=1).to(present.dtype)
            present = present * (NUM_VIEWS / counts)[:, None, None]
        return present.flatten(1)

    def split_fused(self, fused: Tensor, mask: Tensor) -> Tensor:
        views = fused.reshape(NUM_VIEWS, self.feature_size)
        return views * (mask.sum().clamp(min=1) / NUM_VIEWS) if self.view_dropout else views


class MeanFusion(Fusion):
    """Mean of the features of present views: (B, D). A place without views gets zeros."""

    kind = "mean"
    linear = True

    def __init__(self, feature_size: int, *, view_dropout: float = 0.0) -> None:
        super().__init__(feature_size, feature_size, view_dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        # Condensed features are the mean already.
        return features[:, 0] if features.shape[1] == 1 else _compute_mean(features, mask)

    def split_fused(self, fused: Tensor, mask: Tensor) -> Tensor:
        return fused.expand(NUM_VIEWS, self.feature_size)

    def condense(self, features: Tensor, mask: Tensor) -> Tensor | None:
        return None if self.view_dropout else _compute_mean(features, mask)[:, None]


class AttentionFusion(Fusion):
    """Mean of the features plus a transformer branch over the views: (B, D). A place without views gets zeros.

    The features z_v of a view are normalised, projected to `width`, and added to a learnt vector h_v of its
    heading. Pre-norm transformer layers let present views attend to each other. Their mean is projected back to D:

        mean_v z_v + W mean_v Transformer(P LayerNorm(z_v) + h_v)

    W starts near zero, so that training starts as `fusion=mean`, which does best with few places. There is no
    dropout inside: it would draw from torch's global generator, and a resumed run would differ from an
    uninterrupted one. `view_dropout` is the regulariser.

    Args:
        width: Width of the transformer, a multiple of `heads`; None for D.
        layers: Number of transformer layers.
        heads: Number of attention heads.

    Sources: A. Vaswani et al., arXiv 1706.03762; pre-norm layers: R. Xiong et al., arXiv 2002.04745; a branch that
    starts near zero: T. Bachlechner et al. (ReZero), arXiv 2003.04887.
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
        self.width = feature_size if width is None else check_int("fusion.width", width, low=1, high=MAX_WIDTH)
        self.layers = check_int("fusion.layers", layers, low=1, high=MAX_LAYERS)
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

        # TransformerEncoder copies one layer: each copy needs weights of its own.
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

        # Without a bias, a place without views gets zeros.
        self.back = nn.Linear(self.width, feature_size, bias=False)
        nn.init.normal_(self.back.weight, std=BRANCH_INIT_SIZE / math.sqrt(self.width))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        tokens = self.project(_zero_absent(features, mask)) + self.headings

        # The softmax over no views is undefined: a place without views attends to all of its zeros.
        attended = mask | ~mask.any(dim=1, keepdim=True)
        hidden = self.encoder(tokens, src_key_padding_mask=~attended)

        branch: Tensor = self.back(_compute_mean(hidden, mask))
        return _compute_mean(features, mask) + branch

    def state(self) -> dict[str, Any]:
        return super().state() | {"width": self.width, "layers": self.layers, "heads": self.heads}


# Subclasses take the feature size and keyword options.
FUSIONS: dict[str, type[Fusion]] = {fusion.kind: fusion for fusion in (ConcatFusion, MeanFusion, AttentionFusion)}


def restore_fusion(state: dict[str, Any] | str, feature_size: int) -> Fusion:
    """Makes the fusion of a `Fusion.state`, also of an older checkpoint, without its weights."""
    state = complete_fusion_state(state)
    return look_up_kind("fusion", FUSIONS, state["kind"]).from_state(feature_size, state)


def complete_fusion_state(state: dict[str, Any] | str) -> dict[str, Any]:
    """Returns a recorded state in the current form: older checkpoints hold only the kind, as a string."""
    return {"kind": state, "view_dropout": 0.0} if isinstance(state, str) else dict(state)


def drop_views(mask: Tensor, share: float, seed: int) -> Tensor:
    """Drops views at random, but never all views of a place. The result is the same on every device.

    Each present view draws u from the uniform distribution on [0, 1) and is kept if u >= share, or if its u is the
    largest of the place. Of four views, each is thus kept with probability 1 - share + share^4 / 4: all four are
    dropped with probability share^4, and each is then the largest in a quarter of the cases.

    The mask (B, 4) is true for views that are present; the share is from 0 to below 1. A run uses a seed per step.
    """
    draws = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    draws = draws.to(mask.device, non_blocking=True).masked_fill(~mask, -1.0)
    is_largest = draws == draws.amax(dim=1, keepdim=True)
    return mask & ((draws >= share) | is_largest)


def _zero_absent(features: Tensor, mask: Tensor) -> Tensor:
    """Returns features with zeros for absent views, even if they hold NaN or infinity."""
    return features.masked_fill(~mask[..., None], 0.0)


def _compute_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean (B, D) over present views, zeros if there are none."""
    counts = mask.sum(1, keepdim=True).clamp(min=1).to(features.dtype)
    return _zero_absent(features, mask).sum(1) / counts
