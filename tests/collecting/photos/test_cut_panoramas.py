"""Folders of panoramas cut into views: headings, skipped files, and repeated runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.photo_files import make_gpano, make_panorama, read_pixels, save_photo
from support.pictures import make_picture

from geoguesser.collecting.photos.cut_panoramas import cut_panoramas
from geoguesser.errors import ConfigError, DataError

SPHERE = make_panorama(256)


def read_middle(path: Path) -> np.ndarray:
    pixels = read_pixels(path)
    return pixels[len(pixels) // 2, len(pixels) // 2] / 127.5 - 1


def test_views_look_where_the_tags_say(tmp_path: Path) -> None:
    photos, out = tmp_path / "p", tmp_path / "out"
    save_photo(photos / "a.jpg", SPHERE, xmp=make_gpano(PoseHeadingDegrees=30))
    save_photo(photos / "trip" / "a.png", SPHERE, direction=120.0, reference="M")
    report = cut_panoramas(photos, out, headings_deg=[30, 33.5], size=33)
    assert report == {"files": 2, "cut": 2, "there": 0, "tilted": 0, "magnetic": 1, "skipped": 0}
    np.testing.assert_allclose(read_middle(out / "a" / "30.jpg"), (0, 1, 0), atol=0.04)
    np.testing.assert_allclose(read_middle(out / "trip_a" / "30.jpg"), (-1, 0, 0), atol=0.04)
    assert (out / "a" / "33.5.jpg").is_file()
    assert cut_panoramas(photos, out, headings_deg=[30, 33.5], size=33)["there"] == 2


def test_what_cannot_be_cut_is_listed(tmp_path: Path) -> None:
    photos = tmp_path / "p"
    save_photo(photos / "unturned.jpg", SPHERE)
    save_photo(photos / "plain.jpg", make_picture(0, 60, 80), direction=0.0)
    part = {"CroppedAreaImageWidthPixels": 256, "FullPanoWidthPixels": 512, "FullPanoHeightPixels": 256}
    save_photo(photos / "part.jpg", make_picture(1, 256, 256), xmp=make_gpano(PoseHeadingDegrees=0, **part))
    (photos / "broken.jpg").write_bytes(b"")
    report = cut_panoramas(photos, tmp_path / "out", size=32)
    assert (report["cut"], report["skipped_no_direction"], report["skipped_not_cut"]) == (0, 1, 3)
    listed = pd.read_csv(tmp_path / "out" / "skipped.csv", index_col="file")["reason"]
    assert "panoramas.compass_deg=... gives one to all files" in listed["unturned.jpg"]
    assert listed["broken.jpg"] == "the file is empty"
    assert "plain.jpg must be a full equirectangular panorama" in listed["plain.jpg"]
    assert "holds 180 of 360 degrees" in listed["part.jpg"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        save_photo(tmp_path / "p" / name, SPHERE)
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png must not have one name for their views, got 'a'"):
        cut_panoramas(tmp_path / "p", tmp_path / "out")


def test_numbers_out_of_range_are_named(tmp_path: Path) -> None:
    bad = {"pitch_deg": 100.0, "fov_deg": 151.0, "size": 0, "quality": 101, "compass_deg": "north"}
    for key, value in (("headings_deg", []), ("headings_deg", [0, 360]), *bad.items()):
        with pytest.raises(ConfigError, match=rf"^panoramas\.{key} must "):
            cut_panoramas(tmp_path, tmp_path / "out", **{key: value})
