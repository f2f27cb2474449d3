"""Features of a frozen backbone, computed once: without augmentation they are the same in each epoch and each run.

Features are in memory-mapped files of the disk cache (system/disk_cache.py), under a key that depends on
everything that features depend on. If the cache cannot be used, each run computes its features.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Sized
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import xxhash
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from geoguesser.arrays import ByteArray
from geoguesser.data.batches import Batch
from geoguesser.data.datamodule import PlacesData
from geoguesser.errors import check_bool, check_int, check_number
from geoguesser.model.network import GeoNetwork
from geoguesser.system.disk_cache import Cache, Entry, allocate_file
from geoguesser.system.memo import Memo

log = logging.getLogger(__name__)

# Increased whenever the same weights and pixels give other features.
EMBEDDING_VERSION = 1

# Larger features that are not cached are put in a temporary file.
MAX_IN_MEMORY_BYTES = 2**24

# Parts of the data's fingerprint that pixels depend on.
DATA_PARTS = ("places", "masks", "views", "image", "decoder")


class FeatureCache:
    """Computes the features of a frozen backbone, or reads them from the disk cache.

    Args:
        cache: Whether to keep features for later runs, and the findings of the data's image files (`data.cache`).
        limit_gib: Maximum size of the cache in GiB; the least recently used files are removed first.
        batch_size: Places per training batch; None for a sixteenth of the training places, from 32 to 512.
    """

    def __init__(self, *, cache: bool = True, limit_gib: float = 20.0, batch_size: int | None = None) -> None:
        check_bool("features.cache", cache)
        check_number("features.limit_gib", limit_gib, low=0.0)
        if batch_size is not None:
            check_int("features.batch_size", batch_size, low=1)
        self.cache = Cache(limit_gib=float(limit_gib)) if cache else None
        self.batch_size = batch_size

    def attach_features(
        self,
        network: GeoNetwork,
        data: PlacesData,
        fingerprint: dict[str, Any],
        device: torch.device,
        folder: Path,
        *,
        memo: Memo | None = None,
    ) -> dict[str, Any]:
        """Replaces the views that `data` loads by their features, from the cache or computed now.

        Views are read only if they must be embedded. After the call the network is on the CPU and in evaluation
        mode. `folder` is the run folder, for features that are not cached. `memo` is shared by the runs of this
        process, so that features are mapped and checked once.

        Returns:
            For result.json: whether features were `cached`, and their `key` in the cache.
        """
        loader = data.loader("all", pixels=True)
        features, cached, key = None, False, None
        if self.cache is not None and self.cache.usable:
            entry = self.cache.entry("features", list_key_parts(network, fingerprint, device))
            features = memo.get("features", entry.key) if memo else None
            cached = features is not None
            if features is None:
                loaded = load_cached_features(network, loader, device, entry=entry, cache=self.cache)
                features, cached = loaded or (None, False)

            if features is not None:
                key = entry.key
                if memo:
                    memo.put("features", key, features)
            if cached:
                work = "embedded" if data.decoded else "decoded or embedded"
                message = "features of %d views were read from the cache %s: no view was %s"
                log.info(message, 4 * len(data.table), entry.file, work)

        if features is None:
            features = embed_all(network, loader, device, folder)
        network.eval()
        data.use_features(features, self.batch_size)
        return {"cached": cached, "key": key}


def list_key_parts(network: GeoNetwork, fingerprint: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Returns everything that features depend on. Ids, coordinates, splits and the head are not part of it."""
    return {
        **{name: fingerprint[name] for name in DATA_PARTS},
        "backbone": network.backbone.name,
        "weights": compute_weights_digest(network.get_submodule("backbone")),
        "device": device.type,
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "embedding": EMBEDDING_VERSION,
    }


def compute_weights_digest(module: nn.Module) -> str:
    """Returns the XXH3 digest of all parameters and buffers, by name, type, shape and bytes."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def load_cached_features(
    network: GeoNetwork, loader: DataLoader[Any], device: torch.device, *, entry: Entry, cache: Cache
) -> tuple[Tensor, bool] | None:
    """Loads features from an entry of the cache, or computes and caches them.

    If several processes need the same features, one computes them and the others wait.

    Returns:
        (N, 4, D) float32 features, mapped from a file that other processes may share, and whether they were
        cached. None if they cannot be cached.
    """
    shape = _get_shape(network, loader)
    size = 4 * math.prod(shape)
    features = _read_entry(entry, shape)
    if features is not None:
        return features, True
    if not cache.fits(size):
        message = "features take %.2f GiB, more than features.limit_gib=%g: they are not cached"
        log.info(message, size / 2**30, cache.limit_gib)
        return None

    with ExitStack() as stack:
        try:
            stack.enter_context(entry.lock(activity="embeds these views"))

            # Another process may have cached them while this one waited for the lock.
            features = _read_entry(entry, shape)
            if features is not None:
                return features, True

            cache.make_room(size)
            replacement = stack.enter_context(entry.writing())
            allocate_file(replacement.temporary, size)
            mapped = np.memmap(replacement.temporary, dtype=np.float32, mode="r+", shape=shape)
        except OSError as error:
            cache.give_up(error)
            return None

        features = torch.from_numpy(mapped)
        seconds = _embed(features, network, loader, device)

        try:
            mapped.flush()
            entry.keep(replacement, shape=list(shape), dtype="float32")
        except OSError as error:
            cache.give_up(error)
            return features, False
        _log_speed(shape[0], seconds, f", cached in {entry.folder} ({size / 2**20:.1f} MiB)")

        # Mapped again with copy-on-write, so that changes of the tensor do not change the file. If another process
        # has already removed the file, the first map is used.
        try:
            return _to_tensor(np.memmap(entry.file, dtype=np.uint8, mode="c"), shape), False
        except OSError:
            return features, False


def embed_all(network: GeoNetwork, loader: DataLoader[Any], device: torch.device, folder: Path) -> Tensor:
    """Runs the frozen backbone over every place, for this run only; returns (N, 4, D) float32 features by row.

    The loader gives batches of all rows of the table, in order, with pixels. The network is left on the CPU in
    evaluation mode. Large features are in an unnamed temporary file in the folder.
    """
    features = _allocate(_get_shape(network, loader), folder)
    _log_speed(len(features), _embed(features, network, loader, device), "")
    return features


def _get_shape(network: GeoNetwork, loader: DataLoader[Any]) -> tuple[int, int, int]:
    return len(cast(Sized, loader.dataset)), 4, network.backbone.feature_size


def _read_entry(entry: Entry, shape: tuple[int, int, int]) -> Tensor | None:
    if (read := entry.read()) is None:
        return None
    if read[0].nbytes != 4 * math.prod(shape):
        entry.warn(ValueError("its size does not match the table of places"))
        return None
    return _to_tensor(read[0], shape)


def _to_tensor(payload: ByteArray, shape: tuple[int, int, int]) -> Tensor:
    return torch.from_numpy(np.asarray(payload).view(np.float32).reshape(shape))


def _embed(features: Tensor, network: GeoNetwork, loader: DataLoader[Any], device: torch.device) -> float:
    """Writes the features of all rows into a tensor, and returns the time in seconds."""
    start = time.perf_counter()
    network.eval().to(device)
    row = 0
    with (
        torch.no_grad(),
        # Iterating a DataLoader draws a random number. The state is restored, so that results do not depend on
        # whether features are cached.
        torch.random.fork_rng(devices=[]),
        tqdm(loader, desc="embedding views", unit=" batches", disable=None, leave=False) as bar,
    ):
        for batch in bar:
            assert isinstance(batch, Batch)
            features[row : row + len(batch.index)] = network.embed(batch.images.to(device), batch.mask.to(device))
            row += len(batch.index)
    network.cpu()
    return time.perf_counter() - start


def _log_speed(places: int, seconds: float, suffix: str) -> None:
    views = 4 * places
    log.info("embedded %d views once in %.1f s (%.0f a second)%s", views, seconds, views / seconds, suffix)


def _allocate(shape: tuple[int, int, int], folder: Path) -> Tensor:
    """Returns a tensor in memory, or in a memory-mapped file if it is large."""
    size = 4 * math.prod(shape)
    if size <= MAX_IN_MEMORY_BYTES:
        return torch.empty(shape)

    # posix_fallocate reports a full disk as an error. Without it, a later write to the map would end the process
    # with SIGBUS. Not every system and disk supports it.
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="r+", shape=shape))
    except (OSError, AttributeError) as error:
        log.info("features are kept in memory (%.2f GiB): %s", size / 2**30, error)
        return torch.empty(shape)
