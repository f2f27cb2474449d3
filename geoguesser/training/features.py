"""Embeddings once: with a frozen backbone and no augmentation, its features never change."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from geoguesser.data.batches import Batch
from geoguesser.model.network import GeoNetwork

log = logging.getLogger(__name__)


def embed_all(network: GeoNetwork, loader: DataLoader[Any], device: torch.device) -> Tensor:
    """Runs the backbone once over every place.

    Args:
        network: It is left in evaluation mode, on the CPU.
        loader: Batches of all rows of the table, in order, with pixels.
        device: Where to run.

    Returns:
        (N, 4, D) float32 features by row, on the CPU.
    """
    start = time.perf_counter()
    network.eval().to(device)
    parts = []
    with (
        torch.no_grad(),
        tqdm(loader, desc="embedding views", unit=" batches", disable=None, leave=False) as bar,
    ):
        for batch in bar:
            assert isinstance(batch, Batch)
            parts.append(network.embed(batch.images.to(device), batch.mask.to(device)).cpu())
    network.cpu()
    features = torch.cat(parts)
    seconds = time.perf_counter() - start
    count = features.shape[0] * features.shape[1]
    log.info("embedded %d views once in %.1f s (%.0f a second)", count, seconds, count / seconds)
    return features
