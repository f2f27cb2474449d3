"""EXIF and GPano tags of files written by Pillow."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image
from support.photo_files import make_gpano, save_photo

from geoguesser.collecting.panorama import RowBand
from geoguesser.collecting.photos.exif import PhotoTags, find_row_band, read_tags
from geoguesser.errors import DataError

GREY = Image.new("RGB", (40, 30), "grey")


def write_and_read(folder: Path, **tags: object) -> PhotoTags:
    return read_tags(save_photo(folder / "a.jpg", GREY, **tags).read_bytes())


@pytest.mark.parametrize("position", [(45.81444, 15.97798), (-33.5, -70.25), (90.0, -180.0), (0.0, 1e-4)])
def test_positions_come_back(tmp_path: Path, position: tuple[float, float]) -> None:
    assert write_and_read(tmp_path, position=position).position_deg == pytest.approx(position, abs=1e-5)


def test_direction_and_time_come_back(tmp_path: Path) -> None:
    tags = write_and_read(tmp_path, direction=271.5, taken="2024:05:06 07:08:09")
    assert (tags.direction_deg, tags.reference) == (271.5, "true")
    assert tags.taken == datetime(2024, 5, 6, 7, 8, 9)
    assert not tags.is_panorama


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = save_photo(tmp_path / f"a.{suffix}", GREY, position=(45.0, 16.0), direction=10.0)
    assert read_tags(path.read_bytes()).direction_deg == 10.0


@pytest.mark.parametrize(
    ("gps", "why"),
    [
        ({1: "N", 2: (45.0, 0.0, 0.0)}, "no longitude"),
        ({2: (45.0, 0.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)}, "no hemisphere"),
        ({1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)}, "beyond the pole"),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, "what cameras write that do not know"),
        ({1: "X", 2: (45.0, 0.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)}, "no such hemisphere"),
    ],
)
def test_positions_that_make_no_sense_are_none(tmp_path: Path, gps: dict, why: str) -> None:
    assert write_and_read(tmp_path, gps=gps).position_deg is None, why


@pytest.mark.parametrize(
    ("direction", "reference", "expected"),
    [
        (10.0, "M", (10.0, "magnetic")),
        (10.0, None, (10.0, "unstated")),
        (360.0, "T", (0.0, "true")),
        (361.0, "T", (None, "true")),
    ],
)
def test_directions(tmp_path: Path, direction: float, reference: str | None, expected: tuple) -> None:
    tags = write_and_read(tmp_path, direction=direction, reference=reference)
    assert (tags.direction_deg, tags.reference) == expected


def test_the_heading_of_a_sphere_wins_over_the_direction(tmp_path: Path) -> None:
    xmp = make_gpano(PoseHeadingDegrees=33.5, PoseRollDegrees=-2)
    tags = write_and_read(tmp_path, direction=10.0, reference="M", xmp=xmp)
    assert (tags.direction_deg, tags.reference) == (33.5, "true")
    assert tags.is_panorama
    assert tags.is_tilted
    assert not write_and_read(tmp_path, xmp=make_gpano(PosePitchDegrees=0.5)).is_tilted


def test_damaged_tags_are_no_tags() -> None:
    stream = io.BytesIO()
    GREY.save(stream, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert read_tags(stream.getvalue()) == PhotoTags()
    assert read_tags(b"no image") == PhotoTags()


def area(**more: object) -> PhotoTags:
    names = {"CroppedAreaImageWidthPixels": 8000, "FullPanoWidthPixels": 8000, "FullPanoHeightPixels": 4000}
    return PhotoTags(gpano={name: str(value) for name, value in {**names, **more}.items()})


def test_the_cropped_area_is_a_band_of_the_picture_as_it_is_now() -> None:
    assert find_row_band(PhotoTags(), 2000, "p") is None
    assert find_row_band(area(CroppedAreaTopPixels=400), 8000, "p") == RowBand(400, 4000)
    assert find_row_band(area(CroppedAreaTopPixels=400), 2000, "p") == RowBand(100, 1000)


def test_a_part_of_the_horizon_is_refused() -> None:
    with pytest.raises(DataError, match=r"^p\.jpg must hold all of the horizon, holds 180 of 360 degrees"):
        find_row_band(area(CroppedAreaImageWidthPixels=4000), 4000, "p.jpg")
    with pytest.raises(DataError, match=r"^p\.jpg must have a cropped area of positive numbers"):
        find_row_band(area(FullPanoHeightPixels=-1), 4000, "p.jpg")
