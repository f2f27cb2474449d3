"""Outputs: what a trained network says of places, all at once, for what is learnt or told after training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import FeatureBatch
from geoguesser.model.network import GeoNetwork


class Outputs(NamedTuple):
    """What the head put out.

    Attributes:
        rows: (N,) rows of the table of places, in the loader's order.
        out: (N, C) float32, on the CPU.
    """

    rows: Tensor
    out: Tensor


@torch.no_grad()
def outputs_of(network: GeoNetwork, loader: DataLoader[Any]) -> Outputs:
    """Runs a network in evaluation over every batch, on the device where it lies.

    Args:
        network: Its mode is put back afterwards.
        loader: Batches of pixels or of features.
    """
    was_training = network.training
    network.eval()
    device = next(network.head.parameters()).device
    rows, out = [], []
    for batch in loader:
        mask = batch.mask.to(device)
        if isinstance(batch, FeatureBatch):
            found = network.from_features(batch.features.to(device), mask)
        else:
            found = network(batch.images.to(device), mask)
        rows.append(batch.index)
        out.append(found.float().cpu())
    network.train(was_training)
    return Outputs(torch.cat(rows), torch.cat(out))
