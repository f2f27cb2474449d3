"""Loading of views: pixels by row, broken views, and findings of an earlier run, the same as anew."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from support.place_roots import make_places_data, write_root

from geoguesser.data import view_loading as module
from geoguesser.data.checks.image_stats import BROKEN, MISSING, ImageStats
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.view_loading import LazyViews, LoadedViews, load_known_views, load_views
from geoguesser.data.views import FileViews, MemoryViews
from geoguesser.errors import DataError
from geoguesser.system.disk_cache import Cache

PX = 16
SPEC = ImageSpec(size=PX)
IDS = [f"place {at}" for at in range(30)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Thirty places; some broken, absent, alike, grey or tiny views among them."""
    root = write_root(tmp_path / "root", IDS, px=PX)
    images = root / "images"
    (images / IDS[0] / "0.jpg").write_bytes(b"")
    (images / IDS[1] / "90.jpg").write_bytes((images / IDS[1] / "90.jpg").read_bytes()[:-30])
    (images / IDS[2] / "180.jpg").unlink()
    shutil.copy(images / IDS[3] / "0.jpg", images / IDS[4] / "0.jpg")
    grey = simplejpeg.encode_jpeg(np.full((PX, PX, 1), 99, dtype=np.uint8), colorspace="GRAY")
    (images / IDS[5] / "270.jpg").write_bytes(grey)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit_gib=1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts places that are examined."""
    counts = [0]
    whole = module.inspect_in_order

    def counted(places: Any, specs: Any) -> Any:
        counts[0] += len(places)
        return whole(places, specs)

    monkeypatch.setattr(module, "inspect_in_order", counted)
    return counts


@pytest.mark.parametrize(("memory_gib", "kind"), [(1.0, MemoryViews), (0.0, FileViews)])
def test_broken_views_are_found_and_the_others_kept_by_row(memory_gib: float, kind: type, root: Path) -> None:
    places = [PlaceFiles(str(root / "images" / one)) for one in IDS]
    places[7] = PlaceFiles(places[7].folder, ("0.jpg", None, None, "270.jpg"))
    loaded = load_views(places, SPEC, memory_gib=memory_gib)
    assert type(loaded.views) is kind
    assert [(row, heading, one.where) for row, heading, one in loaded.findings if one.kind == "broken_image"] == [
        (at, at, places[at].path(at)) for at in range(3)
    ]
    states = loaded.stats.views["state"]
    assert np.argwhere(states == BROKEN).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert np.argwhere(states == MISSING).tolist() == [[7, 1], [7, 2]]

    rows = np.array([7, 0, 29, 1, 3, 3, 2])
    pixels = loaded.views.gather(rows)
    assert (pixels.shape, pixels.dtype) == ((7, 4, 3, PX, PX), torch.uint8)
    for row, views in zip(rows, pixels.numpy(), strict=True):
        for heading, view in enumerate(views):
            if states[row, heading] in (BROKEN, MISSING):
                assert not view.any()
                assert not loaded.stats.thumbnails[row, heading].any()
                continue

            # The files are of that size, so there is nothing to resize.
            shown = np.asarray(Image.open(places[row].path(heading))).transpose(2, 0, 1)
            np.testing.assert_allclose(view.astype(int), shown.astype(int), atol=2)
            assert loaded.stats.thumbnails[row, heading].any()
    assert torch.equal(loaded.views.take(rows).gather(np.array([4, 1])), pixels[[4, 1]])


def test_the_limit_of_memory_is_that_of_all_views(root: Path) -> None:
    places = [PlaceFiles(str(root / "images" / one)) for one in IDS[6:]]
    gib = len(places) * 4 * 3 * PX**2 / 2**30
    assert isinstance(load_views(places, SPEC, memory_gib=gib).views, MemoryViews)
    assert isinstance(load_views(places, SPEC, memory_gib=gib * 0.999).views, FileViews)


def test_no_places_are_no_views() -> None:
    loaded = load_views([], SPEC, memory_gib=1.0)
    assert loaded.stats.thumbnails.shape == (0, 4, 3, 8, 8)
    assert loaded.findings == []


def make_data(root: Path, cache: Cache | None, **options: Any) -> PlacesDataModule:
    skips = {"broken_image": "skip", "missing_view": "skip"}
    defaults = {"image": SPEC, "on_bad": skips, "batch_size": 4, "num_workers": 0}
    data = make_places_data(root, **{**defaults, **options})
    data.cache = cache
    return data


@pytest.mark.parametrize("missing", ["drop", "mask"])
@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_all_is_the_same(missing: str, memory_gib: float, root: Path, cache: Cache, decoded: list[int]) -> None:
    """With findings of an earlier run, and without."""
    options = {"missing_views": missing, "memory_gib": memory_gib}
    plain, first, again = (make_data(root, one, **options) for one in (None, cache, cache))
    plain.read_views()
    first.read_views()
    looked = decoded[0]
    again.read_views()
    assert decoded[0] == looked
    assert (plain.decoded, first.decoded, again.decoded) == (True, True, False)
    assert isinstance(again.views, LazyViews if memory_gib else FileViews)
    for data in (first, again):
        assert data.table.equals(plain.table)
        assert data.findings.to_table().equals(plain.findings.to_table())
        assert torch.equal(data.mask, plain.mask)
        assert data.fingerprint() == plain.fingerprint()
        for field in fields(ImageStats):
            stats = (getattr(one.image_stats, field.name) for one in (data, plain))
            np.testing.assert_array_equal(*stats)
        rows = np.arange(len(plain.table))
        assert torch.equal(data.views.gather(rows), plain.views.gather(rows))
    assert len(plain.findings.to_table()) > 3


def known(root: Path, cache: Cache, image: ImageSpec = SPEC, memory_gib: float = 1.0) -> LoadedViews:
    places = [PlaceFiles(str(root / "images" / one)) for one in IDS[6:]]
    return load_known_views(places, image, memory_gib=memory_gib, cache=cache)


def later(file: Path) -> None:
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", ["time", "byte and time back", "name", "size of views", "rules", "decoder"])
def test_any_change_is_a_miss(change: str, root: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known(root, cache).decoded
    assert not known(root, cache).decoded
    file = root / "images" / IDS[20] / "90.jpg"
    image = SPEC
    if change == "time":
        later(file)
    elif change == "byte and time back":  # what a careless copy would not show: ctime does
        stat, data = file.stat(), bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "name":
        (root / "images" / IDS[20]).rename(root / "images" / "elsewhere")
        (root / "images" / IDS[20]).symlink_to("elsewhere")
        later(root / "images" / "elsewhere" / "90.jpg")
    elif change == "size of views":
        image = ImageSpec(size=24)
    elif change == "rules":
        monkeypatch.setattr(module, "INSPECTION_VERSION", 77)
    else:
        monkeypatch.setattr(module, "describe_decoder", lambda: "another")
    assert known(root, cache, image).decoded


def test_a_file_that_cannot_be_read_is_tried_again(root: Path, cache: Cache) -> None:
    assert known(root, cache).findings == []
    (root / "images" / IDS[9] / "90.jpg").unlink()
    for _ in range(2):
        gone = known(root, cache)
        assert gone.decoded
        assert "cannot be read" in gone.findings[0][2].reason


def test_an_entry_of_another_shape_is_made_anew(root: Path, cache: Cache, caplog: Any) -> None:
    first = known(root, cache)
    (file,) = (cache.folder / "examined").glob("*.bin")
    load_known_views([PlaceFiles(str(root / "images" / IDS[7]))], SPEC, memory_gib=1, cache=cache)
    (other,) = (one for one in file.parent.glob("*.bin") if one != file)
    own, others = (json.loads(one.with_suffix(".json").read_text()) for one in (file, other))
    own |= {name: others[name] for name in ("bytes", "checksum")}
    file.write_bytes(other.read_bytes())
    file.with_suffix(".json").write_text(json.dumps(own))

    again = known(root, cache)
    assert again.decoded
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(again.stats.views, first.stats.views)
    assert not known(root, cache).decoded


def test_lazy_views_are_read_once_and_only_those_taken(root: Path, cache: Cache, decoded: list[int]) -> None:
    plain = known(root, cache).views
    assert isinstance(plain, MemoryViews)
    lazy = known(root, cache).views
    decoded[0] = 0
    assert not lazy.benefits_from_workers
    taken = lazy.take(np.array([3, 1, 7]))
    assert decoded[0] == 0
    for rows in (np.array([0, 2]), np.array([1])):
        assert torch.equal(taken.gather(rows), plain.gather(np.array([3, 1, 7])[rows]))
    assert decoded[0] == 3
    assert torch.equal(taken.take(np.array([2])).gather(np.array([0])), plain.gather(np.array([7])))
    assert decoded[0] == 3


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_a_file_that_breaks_before_it_is_read_is_named(root: Path, cache: Cache, memory_gib: float) -> None:
    known(root, cache)
    views = [known(root, cache, memory_gib=memory_gib).views for _ in range(2)]
    file = root / "images" / IDS[8] / "180.jpg"
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(DataError, match=rf"^{file} cannot be read \(No such file or directory\)\.$"):
        views[0].gather(np.arange(5))
    file.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=rf"^{file} is not a complete image"):
        views[1].gather(np.arange(5))
    if memory_gib:
        shutil.copy(root / "images" / IDS[7] / "180.jpg", file)
        with pytest.raises(DataError, match=rf"^{file} has changed since this run looked at it\. Start the run"):
            views[0].gather(np.arange(5))


def test_findings_above_the_limit_are_not_kept(root: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_gib=0)
    assert known(root, cache).decoded
    assert known(root, cache).decoded
    assert [one for one in (tmp_path / "cache").rglob("*") if one.is_file()] == []
