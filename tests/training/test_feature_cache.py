"""Features in memory, in a file without a name, and in the disk cache that processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import slow_network
from support.slow_network import COUNT, WIDTH, SlowNetwork, make_loader
from support.waiting import wait_until
from torch import nn

from geoguesser.system.disk_cache import Cache
from geoguesser.training import feature_cache as module
from geoguesser.training.feature_cache import (
    compute_weights_digest,
    embed_all,
    list_key_parts,
    load_cached_features,
)

CPU = torch.device("cpu")
PRINT = {"places": 3, "masks": "m", "views": "v", "image": "px32-crop", "decoder": "d", "ids": "i", "splits": "s"}


def load(cache: Cache, network: Any, parts: dict[str, Any] | None = None) -> tuple[torch.Tensor, bool]:
    entry = cache.entry("features", parts or {})
    loaded = load_cached_features(network, make_loader(), CPU, entry=entry, cache=cache)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("limit", [0, 2**30], ids=["mapped", "in memory"])
def test_each_row_has_its_features(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", limit)
    network: Any = SlowNetwork()
    batches, expected = make_loader(), network.expected()
    batches.dataset.mask[3, 2] = False
    expected[3, 2] = 0

    # Features of a folder that does not exist are in memory.
    for folder in (tmp_path, tmp_path / "nowhere"):
        features = embed_all(network, batches, CPU, folder)
        assert (features.shape, features.dtype) == ((COUNT, 4, WIDTH), torch.float32)
        assert torch.equal(features, expected)
    assert list(tmp_path.iterdir()) == []
    assert not network.training


def test_cached_features_are_not_embedded_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, network = Cache(tmp_path, limit_gib=1), SlowNetwork()
    with caplog.at_level("INFO"):
        first, cached = load(cache, network)
        assert (cached, network.embedded) == (False, COUNT)
        again, cached = load(cache, network)
    assert (cached, network.embedded) == (True, COUNT)
    assert torch.equal(first, again)
    assert torch.equal(first, network.expected())
    assert f"embedded {4 * COUNT} views once" in caplog.text
    assert f"cached in {tmp_path / 'features'} (0.0 MiB)" in caplog.text

    # The map is private: writes do not reach the file.
    again.zero_()
    assert torch.equal(load(cache, network)[0], first)


@pytest.mark.parametrize("damage", ["bits", "cut", "empty", "no json"])
def test_a_damaged_file_is_computed_again(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, network = Cache(tmp_path, limit_gib=1), SlowNetwork()
    load(cache, network)
    (file,) = tmp_path.rglob("*.bin")
    data = bytearray(file.read_bytes())
    if damage == "no json":
        file.with_suffix(".json").unlink()
    else:
        data[33] ^= 1
        file.write_bytes({"bits": bytes(data), "cut": bytes(data[:-4]), "empty": b""}[damage])
    again, cached = load(cache, network)
    assert (cached, network.embedded) == (False, 2 * COUNT)
    assert torch.equal(again, network.expected())
    assert ("is damaged" in caplog.text) == (damage != "no json")
    assert load(cache, network)[1]


def test_features_above_the_limit_are_not_cached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path, limit_gib=1e-9)
    with caplog.at_level("INFO"):
        loaded = load_cached_features(
            SlowNetwork(), make_loader(), CPU, entry=cache.entry("features", {}), cache=cache
        )
    assert loaded is None
    assert "more than features.limit_gib=1e-09: they are not cached" in caplog.text
    assert list(tmp_path.rglob("*.bin")) == []


def test_new_features_take_the_place_of_the_oldest(tmp_path: Path) -> None:
    network = SlowNetwork()
    size = 4 * network.expected().numel()
    cache = Cache(tmp_path, limit_gib=2.9 * size / 2**30)
    for at in range(3):
        load(cache, network, {"at": at})
        (about,) = (file for file in tmp_path.rglob("*.json") if f'"at": {at}' in file.read_text())
        os.utime(about, (at, at))
    assert [cache.entry("features", {"at": at}).read() is not None for at in range(3)] == [False, True, True]


@pytest.mark.parametrize("where", ["folder", "room", "keeping"])
def test_a_cache_that_cannot_be_written_is_no_error(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    if where == "folder":
        (tmp_path / "cache").write_text("")
    elif where == "room":
        monkeypatch.setattr(module, "allocate_file", full)
    else:
        monkeypatch.setattr(module.Entry, "keep", full)
    cache, network = Cache(tmp_path / "cache", limit_gib=1), SlowNetwork()
    loaded = load_cached_features(network, make_loader(), CPU, entry=cache.entry("features", {}), cache=cache)

    # Features that cannot be kept in the end are those of this run only.
    if where == "keeping":
        assert loaded is not None
        assert torch.equal(loaded[0], network.expected())
    else:
        assert loaded is None
    assert caplog.text.count("nothing is kept for later runs") == 1
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_an_error_while_embedding_leaves_nothing_and_is_not_swallowed(tmp_path: Path) -> None:
    cache, network = Cache(tmp_path, limit_gib=1), SlowNetwork(fails=True)
    with pytest.raises(OSError, match="from the network"):
        load(cache, network)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def make_small_network() -> Any:
    network = nn.Module()
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.backbone.name = "small"  # type: ignore[assignment]
    return network


def test_the_key_depends_on_all_that_features_depend_on() -> None:
    torch.manual_seed(0)
    network = make_small_network()
    first = list_key_parts(network, PRINT, CPU)
    for part in ("masks", "views", "image", "decoder", "places"):
        assert list_key_parts(network, PRINT | {part: "other"}, CPU) != first
    first_gpu, second_gpu = (list_key_parts(network, PRINT, torch.device("cuda", number)) for number in (0, 1))
    assert first_gpu == second_gpu != first
    digests = {compute_weights_digest(network.backbone)}
    network.backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    assert {compute_weights_digest(network.backbone)} == digests

    # Each weight and each buffer counts.
    for tensor in network.backbone.state_dict().values():
        tensor[(0,) * tensor.dim()] += 1
        digests.add(compute_weights_digest(network.backbone))
    assert len(digests) == 1 + len(network.backbone.state_dict())


def start(cache: Path, seconds: float, *gate: Path) -> subprocess.Popen[str]:
    """Starts a process that computes the features, with a delay per batch or until a file exists."""
    file = Path(slow_network.__file__)
    root = str(Path(module.__file__).parents[2])
    words = [sys.executable, str(file), str(cache), str(seconds), *map(str, gate)]
    env = os.environ | {"PYTHONPATH": root}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_one_process_embeds_while_another_waits(tmp_path: Path) -> None:
    cache, gate = tmp_path / "cache", tmp_path / "go"
    first = start(cache, 0, gate)
    wait_until(lambda: list(cache.rglob("*.part")))
    second = start(cache, 0)
    assert second.stdout is not None
    line = second.stdout.readline()
    gate.touch()
    embedding, waiting = first.communicate(timeout=120)[0], line + second.communicate(timeout=120)[0]
    assert (first.returncode, second.returncode) == (0, 0), embedding + waiting
    assert f"embedded {4 * COUNT} views once" in embedding
    assert f"{COUNT} places embedded, False" in embedding
    assert "waiting for another process that embeds" in waiting
    assert "0 places embedded, True" in waiting
    assert sorted(file.suffix for file in cache.rglob("*") if file.is_file()) == [".bin", ".json"]


@pytest.mark.slow
def test_the_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    killed = start(tmp_path, 30)
    wait_until(lambda: list(tmp_path.rglob("*.part")))
    waiting = start(tmp_path, 0)
    assert waiting.stdout is not None
    wait_until(lambda: "waiting" in waiting.stdout.readline())  # type: ignore[union-attr]
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    output = waiting.communicate(timeout=60)[0]
    assert f"{COUNT} places embedded, False" in output
    assert sorted(file.suffix for file in tmp_path.rglob("*") if file.is_file()) == [".bin", ".json"]
    network = SlowNetwork()
    again, cached = load(Cache(tmp_path, limit_gib=1), network)
    assert cached
    assert torch.equal(again, network.expected())
