"""Views: pixels by row, from memory and from files; thumbnails; what is broken."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoguesser.data import views as module
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import Finding
from geoguesser.data.views import FileViews, LoadedViews, MemoryViews, load_views, read_place
from geoguesser.errors import DataError

SPEC = ImageSpec(size=24)
IDS = [f"place {at}" for at in range(9)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write: SimpleNamespace) -> list[str]:
    root = write.root(tmp_path_factory.mktemp("views"), IDS)
    return [str(root / "images" / one) for one in IDS]


def by_pil(folder: str) -> np.ndarray:
    """(4, 3, 24, 24); the files are of that size, so there is nothing to resize."""
    pixels = [np.asarray(Image.open(Path(folder) / f"{heading}.jpg")) for heading in (0, 90, 180, 270)]
    return np.stack(pixels).transpose(0, 3, 1, 2)


def test_a_place_is_its_four_views_in_the_order_of_headings(folders: list[str]) -> None:
    views = read_place(folders[0], SPEC)
    assert (views.shape, views.dtype) == ((4, 3, 24, 24), np.uint8)
    np.testing.assert_allclose(views.astype(int), by_pil(folders[0]).astype(int), atol=2)


@pytest.mark.parametrize(("memory_gib", "kind"), [(1.0, MemoryViews), (0.0, FileViews)])
def test_views_are_kept_by_row(memory_gib: float, kind: type, folders: list[str]) -> None:
    loaded = load_views(folders, SPEC, memory_gib=memory_gib)
    assert type(loaded.views) is kind
    assert loaded.broken == []
    rows = np.array([7, 0, 3, 3])
    got = loaded.views.gather(rows)
    assert (got.shape, got.dtype) == ((4, 4, 3, 24, 24), torch.uint8)
    expected = np.stack([by_pil(folders[row]) for row in rows])
    np.testing.assert_allclose(got.numpy().astype(int), expected.astype(int), atol=2)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_memory_and_files_give_the_same(data: st.DataObject, folders: list[str]) -> None:
    a_row = st.integers(0, len(IDS) - 1)
    rows = np.array(data.draw(st.lists(a_row, min_size=1, max_size=12)))
    taken = np.array(data.draw(st.lists(a_row, min_size=1, max_size=12)))
    again = np.array(data.draw(st.lists(st.integers(0, len(taken) - 1), min_size=1, max_size=5)))
    memory, files = (load_views(folders, SPEC, memory_gib=gib).views for gib in (1.0, 0.0))
    assert torch.equal(memory.gather(rows), files.gather(rows))
    for views in (memory, files):
        assert torch.equal(views.take(taken).gather(again), files.gather(taken[again]))


def test_the_limit_of_memory_is_that_of_all_views(folders: list[str]) -> None:
    gib = len(folders) * 4 * 3 * 24 * 24 / 2**30
    assert isinstance(load_views(folders, SPEC, memory_gib=gib).views, MemoryViews)
    assert isinstance(load_views(folders, SPEC, memory_gib=gib * 0.999).views, FileViews)


@pytest.mark.parametrize("size", [16, 24, 56])
def test_thumbnails_are_means_of_blocks(size: int, folders: list[str]) -> None:
    """In each mode the same, rounded, on views larger and smaller than the files."""
    spec = ImageSpec(size=size)
    loaded = load_views(folders, spec, memory_gib=1.0)
    assert (loaded.thumbnails.shape, loaded.thumbnails.dtype) == ((9, 4, 3, 8, 8), np.uint8)
    step = size // 8
    pixels = loaded.views.gather(np.arange(9)).numpy().reshape(9, 4, 3, 8, step, 8, step)
    np.testing.assert_allclose(loaded.thumbnails, pixels.mean((4, 6)), atol=0.51)
    np.testing.assert_array_equal(load_views(folders, spec, memory_gib=0.0).thumbnails, loaded.thumbnails)


def test_no_places_are_no_views() -> None:
    loaded = load_views([], SPEC, memory_gib=1.0)
    assert loaded.thumbnails.shape == (0, 4, 3, 8, 8)
    assert loaded.broken == []


def test_rows_keep_their_order_whichever_thread_is_first(
    folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place waits a time of its own; 600 of them are more than two chunks."""
    many = [folders[at % len(folders)] for at in range(600)]
    once = {folder: read_place(folder, SPEC) for folder in folders}

    def slow(folder: str, _: ImageSpec) -> np.ndarray:
        time.sleep(np.random.default_rng().uniform(0, 0.002))
        return once[folder]

    monkeypatch.setattr(module, "read_place", slow)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    pixels = load_views(many, SPEC, memory_gib=1.0).views.gather(np.arange(600)).numpy()
    np.testing.assert_array_equal(pixels, np.stack([once[folder] for folder in many]))


# What is broken


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (30, 30)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def damaged(tmp_path: Path, write: SimpleNamespace) -> list[str]:
    """Nine places; rows 1, 4, 5 and 8 have an empty, a cut, a PNG and an absent view."""
    root = write.root(tmp_path / "root", IDS)
    folders = [str(root / "images" / one) for one in IDS]
    (Path(folders[1]) / "0.jpg").write_bytes(b"")
    cut = Path(folders[4]) / "90.jpg"
    cut.write_bytes(cut.read_bytes()[:-20])
    (Path(folders[5]) / "180.jpg").write_bytes(png())
    (Path(folders[8]) / "270.jpg").unlink()
    return folders


def check_findings(loaded: LoadedViews, folders: list[str]) -> None:
    assert [row for row, _ in loaded.broken] == [1, 4, 5, 8]
    starts = [
        f"{folders[1]}/0.jpg is no whole JPEG image (the file is empty).",
        f"{folders[4]}/90.jpg is no whole JPEG image (Premature end of JPEG file).",
        f"{folders[5]}/180.jpg is no whole JPEG image (",
        f"{folders[8]}/270.jpg cannot be read (No such file or directory).",
    ]
    for (_, finding), start in zip(loaded.broken, starts, strict=True):
        assert isinstance(finding, Finding)
        assert finding.kind == "broken_image"
        assert f"{finding.where}{finding.reason}".startswith(start)


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_broken_places_are_found_and_the_others_kept(memory_gib: float, damaged: list[str]) -> None:
    loaded = load_views(damaged, SPEC, memory_gib=memory_gib)
    check_findings(loaded, damaged)
    assert not loaded.thumbnails[[1, 4, 5, 8]].any()
    whole = np.array([0, 2, 3, 6, 7])
    assert loaded.thumbnails[whole].any(axis=(1, 2, 3, 4)).all()
    expected = np.stack([by_pil(damaged[row]) for row in whole])
    np.testing.assert_allclose(loaded.views.gather(whole).numpy().astype(int), expected.astype(int), atol=2)
    kept = loaded.views.take(whole)
    assert torch.equal(kept.gather(np.arange(5)), loaded.views.gather(whole))


def test_a_view_that_breaks_later_is_named(folders: list[str], tmp_path: Path, write: SimpleNamespace) -> None:
    root = write.root(tmp_path / "root", ["a"])
    views = load_views([str(root / "images/a")], SPEC, memory_gib=0.0).views
    (root / "images/a/180.jpg").unlink()
    with pytest.raises(DataError) as caught:
        views.gather(np.array([0]))
    assert str(caught.value) == f"{root}/images/a/180.jpg cannot be read (No such file or directory)."
