"""Sample photos: size, colour and the reasons for absent views."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from geoguesser.data.checks.inspection import BROKEN, MISSING, OK, PLACEHOLDER
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.sample_photos import list_skip_reasons, load_sample_photos


def test_photos_are_small_jpegs_of_what_is_in_the_files(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), (200, 30, 60)).save(tmp_path / "0.jpg", quality=95)
    Image.new("RGB", (80, 80), (0, 250, 0)).save(tmp_path / "90.jpg", quality=95)
    (tmp_path / "180.jpg").write_bytes(b"no image")
    files = PlaceFiles(str(tmp_path), ("0.jpg", "90.jpg", "180.jpg", None))
    north, east, south, west = load_sample_photos(files, "crop", ["", "placeholder", "", ""])
    assert north.jpeg is not None
    with Image.open(io.BytesIO(north.jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (160, 160))
        np.testing.assert_allclose(np.asarray(image).mean(axis=(0, 1)), (200, 30, 60), atol=4)
    assert [photo.jpeg for photo in (east, south, west)] == [None] * 3
    assert [photo.reason for photo in (east, south, west)] == ["placeholder", "broken", "missing"]


def test_photos_of_a_place_that_has_gone(tmp_path: Path) -> None:
    photos = load_sample_photos(PlaceFiles(str(tmp_path / "gone")), "crop")
    assert [photo.jpeg for photo in photos] == [None] * 4


def test_reasons_name_only_views_that_are_not_used() -> None:
    state = np.array([OK, MISSING, BROKEN, PLACEHOLDER], dtype=np.uint8)
    reasons = list_skip_reasons(state, np.zeros(4, dtype=bool))
    assert reasons == ["left out", "missing", "broken", "placeholder"]
    assert list_skip_reasons(state, np.ones(4, dtype=bool)) == [""] * 4
