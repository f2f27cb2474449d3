"""Embeddings once: with a frozen backbone and no augmentation, features never change, nor from run to run.

They lie in a mapped file of the cache (system/disk_cache.py), under a name that follows from everything they
depend on. Where nothing may be kept there, each run embeds its views once for itself.
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
import numpy.typing as npt
import timm
import torch
import xxhash
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from geoguesser.data.batches import Batch
from geoguesser.data.datamodule import PlacesData
from geoguesser.errors import check_bool, check_int, check_number
from geoguesser.model.network import GeoNetwork
from geoguesser.system.disk_cache import Cache, Entry, allocate_file
from geoguesser.system.memo import Memo

log = logging.getLogger(__name__)

EMBEDDING = 1  # raise it whenever the same weights and pixels give other features
IN_MEMORY_BYTES = 2**24
DATA_PARTS = ("places", "masks", "views", "image", "decoder")  # of a fingerprint: what pixels depend on


class FeatureCache:
    """How features of a frozen backbone are kept and served.

    Args:
        cache: Keep them for later runs, and what was found in the image files.
        limit_gib: What the cache may take of the disk, in GiB; the least recently used goes first.
        batch_size: Places per batch; None for a sixteenth of the training places, from 32 to 512.

    Raises:
        ConfigError: A value breaks its rule.
    """

    def __init__(self, *, cache: bool = True, limit_gib: float = 20.0, batch_size: int | None = None) -> None:
        check_bool("features.cache", cache)
        check_number("features.limit_gib", limit_gib, low=0.0)
        if batch_size is not None:
            check_int("features.batch_size", batch_size, low=1)
        self.cache = Cache(limit_gib=float(limit_gib)) if cache else None
        self.batch_size = batch_size

    def serve(
        self,
        network: GeoNetwork,
        data: PlacesData,
        fingerprint: dict[str, Any],
        device: torch.device,
        folder: Path,
        *,
        memo: Memo | None = None,
    ) -> dict[str, Any]:
        """Makes the data serve features: those of the cache, or of the network here and now.

        Args:
            network: It is left in evaluation mode, on the CPU.
            data: Its views are read only where they must be embedded.
            fingerprint: Of the data.
            device: Where to embed.
            folder: The run folder, for features that are not kept.
            memo: Cache shared by the runs of this process, so that features are mapped and checked once.

        Returns:
            For result.json: whether they were `cached`, and their `key` in the cache.
        """
        loader = data.loader("all", pixels=True)
        found, key = None, None
        if self.cache is not None and self.cache.usable:
            entry = self.cache.entry("features", list_key_parts(network, fingerprint, device))
            known = memo.get("features", entry.key) if memo else None
            found = (
                (known, True)
                if known is not None
                else load_cached_features(network, loader, device, entry=entry, cache=self.cache)
            )
            key = entry.key
            if memo and found:
                memo.put("features", key, found[0])
            if found and found[1]:
                what = "embedded" if data.decoded else "decoded or embedded"
                views = 4 * len(data.table)
                log.info("features of %d views from the cache %s: nothing was %s", views, entry.file, what)
        features, cached = found or (embed_all(network, loader, device, folder), False)
        network.eval()
        data.use_features(features, self.batch_size)
        return {"cached": cached, "key": key if found else None}


def list_key_parts(network: GeoNetwork, fingerprint: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """All that features depend on, and nothing else: no ids, coordinates or splits, nothing of the head."""
    return {
        **{name: fingerprint[name] for name in DATA_PARTS},
        "backbone": network.backbone.name,
        "weights": compute_weights_digest(network.backbone),
        "device": device.type,
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "embedding": EMBEDDING,
    }


def compute_weights_digest(module: nn.Module) -> str:
    """XXH3 of all parameters and buffers, mean and std included, by name, type and shape."""
    found = xxhash.xxh3_128()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(plain.view(torch.uint8).numpy())
    return found.hexdigest()


def load_cached_features(
    network: GeoNetwork,
    loader: DataLoader[Any],
    device: torch.device,
    *,
    entry: Entry,
    cache: Cache,
) -> tuple[Tensor, bool] | None:
    """The features of the cache; where they are not there, they are made and kept.

    Of several processes that need the same, one embeds and the others wait for it.

    Args:
        network: As for `embed_all`, like `device`.
        loader: As there; not touched where features are in the cache.
        device: As there.
        entry: Theirs in the cache.
        cache: The cache.

    Returns:
        As `embed_all`, but a map of a file that other processes may share, and whether it was there. None where
        nothing can be kept.
    """
    shape = _shape(network, loader)
    size = 4 * math.prod(shape)
    found = _mapped(entry, shape)
    if found is not None:
        return found, True
    if not cache.fits(size):
        log.info(
            "features take %.2f GiB, more than features.limit_gib=%g: they are not kept",
            size / 2**30,
            cache.limit_gib,
        )
        return None
    with ExitStack() as stack:
        try:
            stack.enter_context(entry.lock("embeds these views"))
            found = _mapped(entry, shape)
            if found is not None:
                return found, True
            cache.make_room(size)
            replacement = stack.enter_context(entry.writing())
            allocate_file(replacement.temporary, size)
            room = np.memmap(replacement.temporary, dtype=np.float32, mode="r+", shape=shape)
        except OSError as error:
            cache.give_up(error)
            return None
        features = torch.from_numpy(room)
        seconds = _embed(features, network, loader, device)
        try:
            room.flush()
            entry.keep(replacement, shape=list(shape), dtype="float32")
        except OSError as error:
            cache.give_up(error)
        else:
            _log(shape[0], seconds, f", kept in {entry.folder} ({size / 2**20:.1f} MiB)")
            kept = _open(entry, shape)
            features = features if kept is None else kept
        return features, False


def _mapped(entry: Entry, shape: tuple[int, int, int]) -> Tensor | None:
    """The features that are in the cache."""
    read = entry.read()
    if read is None:
        return None
    if read[0].nbytes != 4 * math.prod(shape):
        entry.warn(ValueError("it is of another shape"))
        return None
    return _tensor(read[0], shape)


def _open(entry: Entry, shape: tuple[int, int, int]) -> Tensor | None:
    """The file that was just kept, mapped so that no write to the tensor can reach it."""
    try:
        return _tensor(np.memmap(entry.file, dtype=np.uint8, mode="c"), shape)
    except OSError:  # removed already
        return None


def _tensor(payload: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> Tensor:
    return torch.from_numpy(np.asarray(payload).view(np.float32).reshape(shape))


def embed_all(network: GeoNetwork, loader: DataLoader[Any], device: torch.device, folder: Path) -> Tensor:
    """Runs the backbone once over every place, for this run alone.

    Args:
        network: It is left in evaluation mode, on the CPU.
        loader: Batches of all rows of the table, in order, with pixels.
        device: Where to run.
        folder: Where a file for large features may lie; it has no name there and goes with the process.

    Returns:
        (N, 4, D) float32 features by row, on the CPU.
    """
    features = _storage(_shape(network, loader), folder)
    _log(len(features), _embed(features, network, loader, device), "")
    return features


def _shape(network: GeoNetwork, loader: DataLoader[Any]) -> tuple[int, int, int]:
    return len(cast(Sized, loader.dataset)), 4, network.backbone.feature_size


def _embed(features: Tensor, network: GeoNetwork, loader: DataLoader[Any], device: torch.device) -> float:
    """Fills features by row; seconds that it took. Random numbers of the run stay as they were."""
    start = time.perf_counter()
    network.eval().to(device)
    row = 0
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),  # a loader draws one: a run must not depend on whether it embeds
        tqdm(loader, desc="embedding views", unit=" batches", disable=None, leave=False) as bar,
    ):
        for batch in bar:
            assert isinstance(batch, Batch)
            features[row : row + len(batch.index)] = network.embed(batch.images.to(device), batch.mask.to(device))
            row += len(batch.index)
    network.cpu()
    return time.perf_counter() - start


def _log(places: int, seconds: float, where: str) -> None:
    views = 4 * places
    log.info("embedded %d views once in %.1f s (%.0f a second)%s", views, seconds, views / seconds, where)


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
