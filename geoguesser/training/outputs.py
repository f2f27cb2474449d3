"""Head outputs of all places of a split, and the scaling of the head's inputs before training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import Batch, FeatureBatch
from geoguesser.data.datamodule import PlacesData
from geoguesser.model.network import GeoNetwork

MAX_SCALING_PLACES = 512  # places at most, where each must be embedded first


class SplitOutputs(NamedTuple):
    """What the head put out.

    Attributes:
        rows: (N,) rows of the table of places, in the loader's order.
        out: (N, C) float32, on the CPU.
    """

    rows: Tensor
    out: Tensor


@torch.no_grad()
def compute_outputs(network: GeoNetwork, loader: DataLoader[Any]) -> SplitOutputs:
    """Runs a network in evaluation over every batch, on the device where it lies.

    Args:
        network: Its mode is put back afterwards.
        loader: Batches of pixels or of features.
    """
    was_training = network.training
    network.eval()
    rows, out = [], []
    for batch in loader:
        rows.append(batch.index)
        out.append(network.head(_fused(network, batch)).float().cpu())
    network.train(was_training)
    return SplitOutputs(torch.cat(rows), torch.cat(out))


def _fused(network: GeoNetwork, batch: Batch | FeatureBatch) -> Tensor:
    device = next(network.head.parameters()).device
    mask = batch.mask.to(device)
    if isinstance(batch, FeatureBatch):
        return network.fusion(batch.features.to(device), mask)
    return network.fusion(network.embed(batch.images.to(device), mask), mask)


@torch.no_grad()
def scale_head(network: GeoNetwork, data: PlacesData, device: torch.device) -> None:
    """Lets the head learn from training places how to centre and scale what it is given.

    From all of them where features are there, else from some, which are embedded for it.

    Args:
        network: A new one; it is left on the CPU, in evaluation.
        data: The places; their views or features are ready.
        device: Where to run.
    """
    network.eval().to(device)
    fused, count = [], 0
    for batch in data.loader("train", shuffle=data.features is None, whole=True):
        fused.append(_fused(network, batch).float().cpu())
        count += len(batch.index)
        if data.features is None and count >= MAX_SCALING_PLACES:
            break
    network.cpu()
    network.head.scale_by(torch.cat(fused))
