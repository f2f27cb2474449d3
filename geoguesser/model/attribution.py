"""Attribution: what each view, and each part of it, had to do with a network's answer. Plain torch; draws nothing.

The score that is explained is the logit of a cell less the mean of all cells' logits: a number that all logits
gain together would change no posterior. Where the backbone's last map is pooled by its mean and the fusion is
linear (concat, mean), the score is a sum over positions of the views, and the maps here are exact. Else they are
Grad-CAM's, which says where a view speaks for the cell, and not how much.

Sources: class-activation maps, B. Zhou et al., "Learning Deep Features for Discriminative Localization",
arXiv 1512.04150; Grad-CAM, R. R. Selvaraju et al., arXiv 1610.02391. Views are left out as in M. D. Zeiler and
R. Fergus, "Visualizing and Understanding Convolutional Networks", arXiv 1311.2901.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from geoguesser.errors import CheckpointError
from geoguesser.geo.distance import haversine_km
from geoguesser.model.fusion import ConcatFusion, MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.network import GeoNetwork

EXACT_METHOD, GRADIENT_METHOD = "CAM", "Grad-CAM"
MAX_POOLING_ERROR = 1e-4  # of the largest feature: how near to its mean a map must be pooled to count as a mean


@dataclass(frozen=True)
class LastMap:
    """A backbone's last map of N images, and how its features follow from it.

    Attributes:
        leaf: What the rest of the backbone is a function of; gradients end here.
        features: (N, D), a function of `leaf`.
        spatial: Brings `leaf`, or a gradient by it, to (N, C, h, w).
    """

    leaf: Tensor
    features: Tensor
    spatial: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """Where the views of one place speak for a cell.

    Attributes:
        cell: The class that is explained.
        method: `CAM` (exact, with signs) or `Grad-CAM` (from 0 up).
        maps: (4, h, w) what each position adds to the score, against the average of the training places' views; of
            Grad-CAM, in no unit. Zeros for absent views.
        score: The cell's logit less the mean logit.
        average: The score of a place whose views are all the average one; None for Grad-CAM. An exact map's sum
            is its view's share, and the shares of all views and `average` sum to `score`.
    """

    cell: int
    method: str
    maps: Tensor
    score: float
    average: float | None


@dataclass(frozen=True)
class LeaveOneOut:
    """What changes where one view of a place is left out. NaN where there is no such view, or no other.

    Attributes:
        moved_km: (B, 4) how far the answer moves.
        coords_deg: (B, 4, 2) the answers without each view.
        lost: (B, 4) what the score of the cell answered with all views loses; None for a head without cells.
    """

    moved_km: Tensor
    coords_deg: Tensor
    lost: Tensor | None


def find_last_map(network: GeoNetwork, images: Tensor) -> LastMap:
    """Runs the backbone up to its last map, and on from there.

    For transformers that is the input of the last block: behind it only the class token may reach the features.

    Args:
        network: In evaluation.
        images: (N, 3, H, W) uint8.

    Raises:
        CheckpointError: The backbone has no map that can be found.
    """
    model = cast(Any, network.backbone.model)
    with torch.no_grad():
        normal = network.backbone.normalise(images)
    kept: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(given[0].detach().requires_grad_())
        return (kept[0], *given[1:])

    if hasattr(model, "num_prefix_tokens") and hasattr(model, "blocks"):
        with model.blocks[-1].register_forward_pre_hook(keep):
            features = model(normal)
        leaf = kept[0]
    else:
        with torch.no_grad():
            reached = model.forward_features(normal)
        leaf = reached.detach().requires_grad_()
        features = model.forward_head(leaf, pre_logits=True)
    return LastMap(leaf, features, _layout(model, leaf, network.backbone.name))


def _layout(model: Any, leaf: Tensor, name: str) -> Callable[[Tensor], Tensor]:
    """How the last map lies in memory: channels first, channels last, or tokens behind some without a place."""
    if leaf.dim() == 4:
        last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        return (lambda values: values.permute(0, 3, 1, 2)) if last else (lambda values: values)
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    side = math.isqrt(leaf.shape[1] - prefix) if leaf.dim() == 3 else 0
    if leaf.dim() != 3 or side * side != leaf.shape[1] - prefix:
        raise CheckpointError(
            f"The last map of {name} has shape {tuple(leaf.shape)}: no rows and columns are in it."
        )
    return lambda values: values[:, prefix:].transpose(1, 2).reshape(len(values), -1, side, side)


def compute_activation(network: GeoNetwork, images: Tensor, mask: Tensor, cell: int | None = None) -> Activation:
    """Where the views of one place speak for a cell.

    Args:
        network: In evaluation, with a head that has cells.
        images: (4, 3, H, W) uint8.
        mask: (4,) bool, true where there is a view; at least one.
        cell: The class; None for the most probable one.

    Raises:
        CheckpointError: The head has no cells, or the backbone no map.
    """
    head = network.head
    if not isinstance(head, ClassificationHead):
        raise CheckpointError("A head without cells has no class-activation maps.")
    found = find_last_map(network, images)
    features = found.features[None] * mask[None, :, None]
    logits = head.logits(network.from_features(features, mask[None]))[0]
    chosen = int(logits.argmax()) if cell is None else cell
    score = logits[chosen] - logits.mean()
    gradient, at_features = torch.autograd.grad(score, (found.leaf, found.features))
    values, whole = found.spatial(found.leaf).detach(), float(score.detach())
    if is_linear(network) and _pooled_by_mean(values, found.features.detach()):
        centre = share_views_on_average(network, mask)
        weights = at_features[:, :, None, None]
        maps = (weights * (values - centre[:, :, None, None])).sum(dim=1) / values[0, 0].numel()
        maps = maps * mask[:, None, None]
        return Activation(chosen, EXACT_METHOD, maps, whole, whole - float(maps.sum()))
    weights = found.spatial(gradient).mean(dim=(2, 3), keepdim=True)
    maps = torch.relu((weights * values).sum(dim=1)) * mask[:, None, None]
    return Activation(chosen, GRADIENT_METHOD, maps, whole, None)


def is_linear(network: GeoNetwork) -> bool:
    """Whether logits are a linear function of the views' features, at a given mask."""
    return isinstance(network.fusion, ConcatFusion | MeanFusion)


def share_views_on_average(network: GeoNetwork, mask: Tensor) -> Tensor:
    """(4, D) the views whose fused vector is the mean of the training places', as the head knows it.

    Args:
        network: With a linear fusion.
        mask: (4,) bool; what a fusion multiplies the views of a place with fewer by is divided out.
    """
    size = network.fusion.feature_size
    centre = network.head.centre.reshape(-1, size).expand(len(mask), size)
    if not (isinstance(network.fusion, ConcatFusion) and network.fusion.view_dropout):
        return centre
    return centre * (mask.sum().clamp(min=1) / len(mask))


def _pooled_by_mean(values: Tensor, features: Tensor) -> bool:
    """Whether (N, D) features are the means of the (N, C, h, w) map."""
    pooled = values.mean(dim=(2, 3))
    if pooled.shape != features.shape:
        return False
    return bool((pooled - features).abs().max() <= MAX_POOLING_ERROR * features.abs().max().clamp(min=1e-12))


@torch.no_grad()
def compute_view_shares(network: GeoNetwork, features: Tensor, mask: Tensor, cells: Tensor) -> Tensor | None:
    """What each view adds to the score of a cell against the average view; None where fusion is not linear.

    Args:
        network: In evaluation.
        features: (B, 4, D) of the views.
        mask: (B, 4) bool.
        cells: (B,) the classes explained.

    Returns:
        (B, 4), zeros for absent views. With the score of the average views they sum to the place's score.
    """
    if not is_linear(network) or not isinstance(network.head, ClassificationHead):
        return None
    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        score = _scores(network, network.from_features(leaf, mask), cells).sum()
        (gradient,) = torch.autograd.grad(score, leaf)
    centres = torch.stack([share_views_on_average(network, one) for one in mask])
    return (gradient * (features - centres)).sum(dim=-1) * mask


def _scores(network: GeoNetwork, out: Tensor, cells: Tensor) -> Tensor:
    """(B,) the logit of a cell each less the mean logit."""
    logits = cast(ClassificationHead, network.head).logits(out)
    return logits.gather(1, cells[:, None])[:, 0] - logits.mean(dim=1)


@torch.no_grad()
def leave_one_out(network: GeoNetwork, features: Tensor, mask: Tensor) -> LeaveOneOut:
    """Answers with each view left out in turn, as if it were absent.

    Args:
        network: In evaluation.
        features: (B, 4, D) of the views.
        mask: (B, 4) bool.
    """
    head = network.head
    whole = network.from_features(features, mask)
    answers = head.decode(whole).double()
    cells = head.logits(whole).argmax(dim=1) if isinstance(head, ClassificationHead) else None
    moved, coords, lost = [], [], []
    for view in range(mask.shape[1]):
        without = mask.clone()
        without[:, view] = False
        out = network.from_features(features * without[..., None], without)
        possible = mask[:, view] & without.any(dim=1)
        nowhere = torch.full((len(mask),), math.nan, dtype=torch.float64, device=mask.device)
        other = torch.where(possible[:, None], head.decode(out).double(), nowhere[:, None])
        coords.append(other)
        moved.append(torch.where(possible, haversine_km(answers, other), nowhere))
        if cells is not None:
            change = (_scores(network, whole, cells) - _scores(network, out, cells)).double()
            lost.append(torch.where(possible, change, nowhere))
    return LeaveOneOut(torch.stack(moved, 1), torch.stack(coords, 1), torch.stack(lost, 1) if lost else None)


def get_first_filters(network: GeoNetwork) -> Tensor | None:
    """(F, 3, k, k) the weights of the first convolution, which sees the pixels; None where there is none."""
    for module in network.backbone.model.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach() if module.weight.shape[1] == 3 else None
    return None
