"""Views: pixels by row, from memory and from files; thumbnails; what is broken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.pictures import encode_image
from support.place_roots import write_root, write_views

from geoguesser.data.checks.image_stats import BROKEN, MISSING, OK
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.view_loading import load_views
from geoguesser.data.views import FileViews, MemoryViews, read_folder, read_place
from geoguesser.errors import DataError

SPEC = ImageSpec(size=24)
IDS = [f"place {at}" for at in range(9)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[PlaceFiles]:
    root = write_root(tmp_path_factory.mktemp("views"), IDS)
    return [PlaceFiles(str(root / "images" / one)) for one in IDS]


def by_pil(files: PlaceFiles) -> np.ndarray:
    """(4, 3, 24, 24); the files are of that size, so there is nothing to resize."""
    pixels = [np.asarray(Image.open(Path(files.folder) / f"{heading}.jpg")) for heading in (0, 90, 180, 270)]
    return np.stack(pixels).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("memory_gib", "kind"), [(1.0, MemoryViews), (0.0, FileViews)])
def test_views_are_kept_by_row(memory_gib: float, kind: type, folders: list[PlaceFiles]) -> None:
    loaded = load_views(folders, SPEC, memory_gib=memory_gib)
    assert type(loaded.views) is kind
    assert loaded.findings == []
    rows = np.array([7, 0, 3, 3])
    got = loaded.views.gather(rows)
    assert (got.shape, got.dtype) == ((4, 4, 3, 24, 24), torch.uint8)
    expected = np.stack([by_pil(folders[row]) for row in rows])
    np.testing.assert_allclose(got.numpy().astype(int), expected.astype(int), atol=2)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_memory_and_files_give_the_same(data: st.DataObject, folders: list[PlaceFiles]) -> None:
    a_row = st.integers(0, len(IDS) - 1)
    rows = np.array(data.draw(st.lists(a_row, min_size=1, max_size=12)))
    taken = np.array(data.draw(st.lists(a_row, min_size=1, max_size=12)))
    again = np.array(data.draw(st.lists(st.integers(0, len(taken) - 1), min_size=1, max_size=5)))
    memory, files = (load_views(folders, SPEC, memory_gib=gib).views for gib in (1.0, 0.0))
    assert torch.equal(memory.gather(rows), files.gather(rows))
    for views in (memory, files):
        assert torch.equal(views.take(taken).gather(again), files.gather(taken[again]))


def test_the_limit_of_memory_is_that_of_all_views(folders: list[PlaceFiles]) -> None:
    gib = len(folders) * 4 * 3 * 24 * 24 / 2**30
    assert isinstance(load_views(folders, SPEC, memory_gib=gib).views, MemoryViews)
    assert isinstance(load_views(folders, SPEC, memory_gib=gib * 0.999).views, FileViews)


def test_no_places_are_no_views() -> None:
    loaded = load_views([], SPEC, memory_gib=1.0)
    assert loaded.stats.thumbnails.shape == (0, 4, 3, 8, 8)
    assert loaded.findings == []


# What is broken


@pytest.fixture
def damaged(tmp_path: Path) -> list[PlaceFiles]:
    """Nine places; rows 1, 4, 5 and 8 have an empty, a cut, a GIF and an absent view, and row 2 names two only."""
    root = write_root(tmp_path / "root", IDS)
    folders = [root / "images" / one for one in IDS]
    (folders[1] / "0.jpg").write_bytes(b"")
    cut = folders[4] / "90.jpg"
    cut.write_bytes(cut.read_bytes()[:-20])
    (folders[5] / "180.jpg").write_bytes(encode_image(Image.new("RGB", (30, 30)), "GIF"))
    (folders[8] / "270.jpg").unlink()
    places = [PlaceFiles(str(one)) for one in folders]
    places[2] = PlaceFiles(str(folders[2]), ("0.jpg", None, None, "270.jpg"))
    return places


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_broken_views_are_found_and_the_others_kept(memory_gib: float, damaged: list[PlaceFiles]) -> None:
    loaded = load_views(damaged, SPEC, memory_gib=memory_gib)
    assert [(row, heading) for row, heading, _ in loaded.findings] == [(1, 0), (4, 1), (5, 2), (8, 3)]
    assert [(finding.kind, finding.where) for _, _, finding in loaded.findings] == [
        ("broken_image", f"{damaged[row].folder}/{90 * heading}.jpg") for row, heading, _ in loaded.findings
    ]
    states = np.full((9, 4), OK)
    states[[1, 4, 5, 8], [0, 1, 2, 3]] = BROKEN
    states[2, 1:3] = MISSING
    np.testing.assert_array_equal(loaded.stats.views["state"], states)
    pixels = loaded.views.gather(np.arange(9)).numpy().astype(int)
    assert not pixels[states != OK].any()
    assert not loaded.stats.thumbnails[states != OK].any()
    for row, heading in np.argwhere(states == OK):
        shown = np.asarray(Image.open(damaged[row].path(heading))).transpose(2, 0, 1).astype(int)
        np.testing.assert_allclose(pixels[row, heading], shown, atol=2)
        assert loaded.stats.thumbnails[row, heading].any()
    some = np.array([7, 0, 2, 3])
    assert torch.equal(loaded.views.take(some).gather(np.arange(4)), loaded.views.gather(some))


# A folder by itself, as for prediction


def test_a_folder_is_read_with_its_mask(tmp_path: Path) -> None:
    write_views(tmp_path / "a", "a")
    pixels, mask = read_folder(str(tmp_path / "a"), SPEC)
    np.testing.assert_array_equal(pixels, read_place(PlaceFiles(str(tmp_path / "a")), SPEC))
    assert mask.tolist() == [True] * 4
    (tmp_path / "a/90.jpg").rename(tmp_path / "a/90.jpeg")
    again, mask = read_folder(str(tmp_path / "a"), SPEC)
    np.testing.assert_array_equal(again, pixels)
    (tmp_path / "a/270.jpg").unlink()
    with pytest.raises(DataError, match=rf"^{tmp_path}/a lacks 270\.jpg\. With missing_views=mask"):
        read_folder(str(tmp_path / "a"), SPEC)
    masked, mask = read_folder(str(tmp_path / "a"), SPEC, mask=True)
    assert mask.tolist() == [True, True, True, False]
    assert not masked[3].any()
    np.testing.assert_array_equal(masked[:3], pixels[:3])


def test_a_folder_that_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_views(tmp_path / "two", "two")
    (tmp_path / "two/0.png").write_bytes(b"")
    messages = {
        "empty": "lacks 0.jpg, 90.jpg, 180.jpg, 270.jpg.",
        "two": "must hold one file for each heading, got ['0.jpg', '0.png'].",
        "none": "cannot be read (No such file or directory).",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=re.escape(f"{tmp_path}/{name} {message}")):
            read_folder(str(tmp_path / name), SPEC, mask=True)
