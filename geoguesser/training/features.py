"""Embeddings once: with a frozen backbone and no augmentation, its features never change."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from geoguesser.data.batches import Batch
from geoguesser.model.network import GeoNetwork

log = logging.getLogger(__name__)

IN_MEMORY_BYTES = 2**24


def embed_all(network: GeoNetwork, loader: DataLoader[Any], device: torch.device, folder: Path) -> Tensor:
    """Runs the backbone once over every place.

    Args:
        network: It is left in evaluation mode, on the CPU.
        loader: Batches of all rows of the table, in order, with pixels.
        device: Where to run.
        folder: Where a file for large features may lie; it has no name there and goes with the process.

    Returns:
        (N, 4, D) float32 features by row, on the CPU.
    """
    start = time.perf_counter()
    network.eval().to(device)
    count = len(cast(Sized, loader.dataset))
    features = _storage((count, 4, network.backbone.feature_size), folder)
    row = 0
    with (
        torch.no_grad(),
        tqdm(loader, desc="embedding views", unit=" batches", disable=None, leave=False) as bar,
    ):
        for batch in bar:
            assert isinstance(batch, Batch)
            features[row : row + len(batch.index)] = network.embed(batch.images.to(device), batch.mask.to(device))
            row += len(batch.index)
    network.cpu()
    seconds = time.perf_counter() - start
    log.info("embedded %d views once in %.1f s (%.0f a second)", 4 * count, seconds, 4 * count / seconds)
    return features


def _storage(shape: tuple[int, int, int], folder: Path) -> Tensor:
    """Room for features: in memory where they are few, else in a mapped file, so that memory stays flat."""
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY_BYTES:
        return torch.empty(shape)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk must say so here, not by a signal later
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="r+", shape=shape))
    except (OSError, AttributeError) as error:  # not every system and disk can do that
        log.info("features are kept in memory (%.2f GiB): %s", size / 2**30, error)
        return torch.empty(shape)
