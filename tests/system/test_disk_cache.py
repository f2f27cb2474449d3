"""Disk cache: complete entries, locks, and removal of the least recently used entries."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from geoguesser.system import disk_cache as module
from geoguesser.system.disk_cache import Cache, Entry, allocate_file, get_cache_folder

GIB = 2**30


def put(entry: Entry, payload: bytes) -> None:
    with entry.lock("makes it"), entry.writing() as replacement:
        replacement.stream.write(payload)
        entry.keep(replacement, word="kept")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEOGUESSER_CACHE", str(tmp_path / "own"))
    assert get_cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GEOGUESSER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert get_cache_folder() == tmp_path / "xdg" / "geoguesser"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_cache_folder() == tmp_path / ".cache" / "geoguesser"


def test_entries_are_read_back_with_their_values(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_gib=1)
    entry = cache.entry("features", {"a": 1})
    assert entry.read() is None
    put(entry, b"payload")
    read = cache.entry("features", {"a": 1}).read()
    assert read is not None
    assert (bytes(read[0]), read[1]["word"], read[1]["of"]) == (b"payload", "kept", {"a": 1})
    assert cache.entry("features", {"a": 2}).read() is None
    assert names(tmp_path) == [f"{entry.key}.bin", f"{entry.key}.json"]

    # The map is private to the process.
    read[0][0] = 0
    assert entry.file.read_bytes() == b"payload"


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        *((".bin", content) for content in (b"payloa", b"payload.", b"", b"pAyload")),
        *((".json", content) for content in (b"[1]", b'{"of": {"a": 1', b'{"of": {"a": 2}, "bytes": 7}')),
    ],
)
def test_a_damaged_entry_is_none_with_a_warning(suffix: str, content: bytes, tmp_path: Path, caplog: Any) -> None:
    entry = Cache(tmp_path, limit_gib=1).entry("features", {"a": 1})
    put(entry, b"payload")
    entry.file.with_suffix(suffix).write_bytes(content)
    assert entry.read() is None
    assert f"{entry.file} in the cache is damaged" in caplog.text
    put(entry, b"anew")
    read = entry.read()
    assert read is not None
    assert bytes(read[0]) == b"anew"


def test_a_payload_without_its_json_is_none(tmp_path: Path, caplog: Any) -> None:
    entry = Cache(tmp_path, limit_gib=1).entry("features", {"a": 1})
    put(entry, b"payload")
    entry.about.unlink()
    assert entry.read() is None
    put(entry, b"payload")
    entry.file.unlink()
    assert entry.read() is None
    assert caplog.text == ""


def test_the_least_recently_used_make_room(tmp_path: Path, caplog: Any) -> None:
    cache = Cache(tmp_path, limit_gib=10_000 / GIB)
    entries = [cache.entry(module.KINDS[at % 2], {"at": at}) for at in range(4)]
    for at, entry in enumerate(entries):
        put(entry, bytes([at]) * 2_000)
        os.utime(entry.about, (at, at))
    # Reading makes an entry the most recently used one.
    opened = entries[1].read()
    assert opened is not None
    assert time.time() - entries[1].about.stat().st_mtime < 60
    caplog.set_level("INFO")
    cache.make_room(1_000)
    assert [entry.file.exists() for entry in entries] == [True] * 4  # all fit
    assert caplog.text == ""
    cache.make_room(5_000)
    assert [entry.file.exists() for entry in entries] == [False, True, False, True]
    assert f"removed the 2 least recently used entries of {tmp_path}" in caplog.text
    cache.make_room(9_999)
    assert [entry.file.exists() for entry in entries] == [False] * 4
    assert bytes(opened[0]) == b"\1" * 2_000
    assert names(tmp_path) == []
    assert cache.fits(10_000)
    assert not cache.fits(10_001)


def test_only_parts_that_nobody_writes_any_more_are_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_gib=1)
    (tmp_path / "features").mkdir()
    for name in ("old-1.part", "old.bin", "new-1.part", "new.bin"):
        (tmp_path / "features" / name).write_bytes(b"1")
        if name.startswith("old"):
            os.utime(tmp_path / "features" / name, (1, 1))
    cache.make_room(1)
    assert names(tmp_path) == ["new-1.part", "new.bin"]


def test_giving_up_is_reported_once(tmp_path: Path, caplog: Any) -> None:
    cache = Cache(tmp_path, limit_gib=1)
    for _ in range(2):
        cache.give_up(OSError("Read-only file system"))
    assert not cache.usable
    assert caplog.text.count("nothing is kept for later runs") == 1


def test_reserving_without_fallocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    allocate_file(tmp_path / "file", 2**20 + 3)
    assert (tmp_path / "file").stat().st_size == 2**20 + 3
