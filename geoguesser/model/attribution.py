"""Attribution: contribution of each view, and of each position in it, to a network's prediction.

The explained score is the logit of a cell minus the mean of all logits. A number that is added to all logits
changes no posterior, and does not change this score either.

Exact maps. Let z_v be the features of view v, m_vij the last feature map at position (i, j), with z_v = mean_ij
m_vij, and let the fusion be linear. The head is linear, so that the score is S = b + sum_v w_v . z_v, where w_v is
the gradient of S by z_v. Let c_v be features of average views: views that fuse to the mean of the training places,
and A = b + sum_v w_v . c_v the score of a place with such views. Then, with n positions,

    S = A + sum_v w_v . (z_v - c_v) = A + sum_vij w_v . (m_vij - c_v) / n.                                      (1)

The terms w_v . (m_vij - c_v) / n are the map of view v (class-activation maps), their sum is the view's share.

Grad-CAM. For other backbones and fusions, positions have no exact share. With the gradient g of S by the map,

    relu(sum_k mean_ij(g_vkij) m_vkij),   k over channels,                                                      (2)

shows where a view supports the cell, but not by how much.

Sources:
    B. Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150: equation (1), here
        relative to average views.
    R. R. Selvaraju et al., "Grad-CAM", arXiv 1610.02391: equation (2).
    M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", arXiv 1311.2901: leaving
        out a part of the input.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from geoguesser.errors import CheckpointError
from geoguesser.geo.distance import haversine_km
from geoguesser.model.network import GeoNetwork

EXACT_METHOD, GRADIENT_METHOD = "CAM", "Grad-CAM"

# Features count as the mean of a map if they differ from it by at most this share of the largest feature.
MAX_POOLING_ERROR = 1e-4


class Activation(NamedTuple):
    """Positions in the views of one place that support a cell.

    Attributes:
        cell: Explained class.
        method: `CAM` (exact, with signs) or `Grad-CAM` (from 0 up).
        maps: (4, h, w) contribution of each position to the score, relative to average views; without a unit for
            Grad-CAM. Zeros for absent views.
        score: Logit of the cell minus the mean logit.
        average: Score of a place whose views are all average; None for Grad-CAM. Score minus `average` is the sum
            of an exact map.
    """

    cell: int
    method: str
    maps: Tensor
    score: float
    average: float | None


class LeaveOneOut(NamedTuple):
    """Change of the prediction without one view of a place. NaN for absent views and for a place's only view.

    Attributes:
        moved_km: (B, 4) distance between the predictions with and without the view.
        coords_deg: (B, 4, 2) predictions without the view.
        lost: (B, 4) decrease of the score of the most probable cell; None for a head without cells.
    """

    moved_km: Tensor
    coords_deg: Tensor
    lost: Tensor | None


def compute_activation(network: GeoNetwork, images: Tensor, mask: Tensor, cell: int | None = None) -> Activation:
    """Computes the maps of the views of one place for a cell. The network must be in evaluation mode.

    Takes views (4, 3, H, W) uint8, and a mask (4,) of the views present, at least one. `cell` is the class to
    explain, None for the most probable one. Raises CheckpointError if the head has no cells.
    """
    last_map = network.backbone.find_last_map(images)
    features = last_map.features[None] * mask[None, :, None]
    batch_logits = network.head.logits(network.from_features(features, mask[None]))
    if batch_logits is None:
        raise CheckpointError("A head without cells has no class-activation maps.")

    logits = batch_logits[0]
    cell = int(logits.argmax()) if cell is None else cell
    score = logits[cell] - logits.mean()
    leaf_gradient, feature_gradient = torch.autograd.grad(score, (last_map.leaf, last_map.features))
    values, score_value = last_map.to_spatial(last_map.leaf).detach(), float(score.detach())

    # Equation (1). The backbone must end with the mean over the positions of its last map.
    if network.fusion.linear and _is_mean_pooled(values, last_map.features.detach()):
        centre = network.fusion.split_fused(network.head.centre, mask)
        difference = values - centre[:, :, None, None]
        maps = (feature_gradient[:, :, None, None] * difference).sum(dim=1) / values[0, 0].numel()
        maps = maps * mask[:, None, None]
        return Activation(cell, EXACT_METHOD, maps, score_value, score_value - float(maps.sum()))

    # Equation (2).
    weights = last_map.to_spatial(leaf_gradient).mean(dim=(2, 3), keepdim=True)
    maps = torch.relu((weights * values).sum(dim=1)) * mask[:, None, None]
    return Activation(cell, GRADIENT_METHOD, maps, score_value, None)


def _is_mean_pooled(values: Tensor, features: Tensor) -> bool:
    """Returns True if features (N, D) are the means of a map (N, C, h, w)."""
    pooled = values.mean(dim=(2, 3))
    if pooled.shape != features.shape:
        return False
    return bool((pooled - features).abs().max() <= MAX_POOLING_ERROR * features.abs().max().clamp(min=1e-12))


@torch.no_grad()
def compute_view_shares(network: GeoNetwork, features: Tensor, mask: Tensor, cells: Tensor) -> Tensor | None:
    """Returns each view's share (B, 4) of the score of a cell, or None without cells or a linear fusion.

    The shares are the terms w_v . (z_v - c_v) of equation (1), zeros for absent views. Takes a network in
    evaluation mode, features (B, 4, D), the mask (B, 4) of views that are present, and explained classes (B,).
    """
    if not network.fusion.linear:
        return None

    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        scores = _compute_scores(network.head.logits(network.from_features(leaf, mask)), cells)
        if scores is None:
            return None
        (gradient,) = torch.autograd.grad(scores.sum(), leaf)

    centres = torch.stack([network.fusion.split_fused(network.head.centre, row) for row in mask])
    return (gradient * (features - centres)).sum(dim=-1) * mask


def _compute_scores(logits: Tensor | None, cells: Tensor | None) -> Tensor | None:
    """Returns the scores (B,) of one cell per place (B,), or None without logits."""
    if logits is None or cells is None:
        return None
    return logits.gather(1, cells[:, None])[:, 0] - logits.mean(dim=1)


@torch.no_grad()
def leave_one_out(network: GeoNetwork, features: Tensor, mask: Tensor) -> LeaveOneOut:
    """Predicts without each view in turn, as if the view were absent.

    Takes a network in evaluation mode, features (B, 4, D) of the views, and the mask (B, 4) of views that are
    present.
    """
    head = network.head
    out = network.from_features(features, mask)
    coords_deg, logits = head.decode(out).double(), head.logits(out)
    cells = None if logits is None else logits.argmax(dim=1)
    scores = _compute_scores(logits, cells)
    nan = torch.full((len(mask),), math.nan, dtype=torch.float64, device=mask.device)

    moved_km, other_coords, lost = [], [], []
    for view in range(mask.shape[1]):
        other_mask = mask.clone()
        other_mask[:, view] = False
        other_out = network.from_features(features * other_mask[..., None], other_mask)

        possible = mask[:, view] & other_mask.any(dim=1)
        other_deg = torch.where(possible[:, None], head.decode(other_out).double(), nan[:, None])
        other_coords.append(other_deg)
        moved_km.append(torch.where(possible, haversine_km(coords_deg, other_deg), nan))

        other_scores = _compute_scores(head.logits(other_out), cells)
        if scores is not None and other_scores is not None:
            lost.append(torch.where(possible, (scores - other_scores).double(), nan))
    return LeaveOneOut(
        torch.stack(moved_km, 1), torch.stack(other_coords, 1), torch.stack(lost, 1) if lost else None
    )


def get_first_filters(network: GeoNetwork) -> Tensor | None:
    """Returns the weights (F, 3, k, k) of the first convolution, or None if no convolution sees the pixels."""
    for module in network.backbone.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach() if module.weight.shape[1] == 3 else None
    return None
