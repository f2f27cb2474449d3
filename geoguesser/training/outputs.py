"""Head outputs of all places of a split, and the input scaling of a new head."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import Batch, FeatureBatch
from geoguesser.data.datamodule import PlacesData
from geoguesser.model.network import GeoNetwork

MAX_SCALING_PLACES = 512


class SplitOutputs(NamedTuple):
    """(N, C) float32 head outputs of a split on the CPU, and their (N,) rows in the table of places."""

    rows: Tensor
    out: Tensor


@torch.no_grad()
def compute_outputs(network: GeoNetwork, loader: DataLoader[Any]) -> SplitOutputs:
    """Computes the head outputs of all batches of pixels or features, in evaluation mode on its device."""
    was_training = network.training
    network.eval()

    rows, out = [], []
    for batch in loader:
        rows.append(batch.index)
        out.append(network.head(_fuse(network, batch)).float().cpu())

    network.train(was_training)
    return SplitOutputs(torch.cat(rows), torch.cat(out))


@torch.no_grad()
def scale_head(network: GeoNetwork, data: PlacesData, device: torch.device) -> None:
    """Fits the centring and scaling of the head's inputs to training places.

    With cached features these are all training places, otherwise about `MAX_SCALING_PLACES`. The network is left
    on the CPU in evaluation mode.
    """
    network.eval().to(device)
    must_embed = data.features is None

    fused, count = [], 0
    for batch in data.loader("train", shuffle=must_embed, whole=True):
        fused.append(_fuse(network, batch).float().cpu())
        count += len(batch.index)
        if must_embed and count >= MAX_SCALING_PLACES:
            break

    network.cpu()
    network.head.fit_scaling(torch.cat(fused))


def _fuse(network: GeoNetwork, batch: Batch | FeatureBatch) -> Tensor:
    """Returns the fused features of a batch, which are the head's inputs."""
    device = next(network.head.parameters()).device
    mask = batch.mask.to(device)
    if isinstance(batch, FeatureBatch):
        return network.fusion(batch.features.to(device), mask)
    return network.fusion(network.embed(batch.images.to(device), mask), mask)
