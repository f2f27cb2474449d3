"""Views of one folder, as for prediction."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.place_roots import write_views

from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.views import read_folder, read_place
from geoguesser.errors import DataError

SPEC = ImageSpec(size=24)


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
