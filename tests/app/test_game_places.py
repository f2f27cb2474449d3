"""Tests of the places for the game, read from a root or a store, or no longer available."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import compose
from PIL import Image

from geoguesser.app.game_places import PREDICTION_COLUMNS, find_game_places
from geoguesser.commands.prepare import run_prepare
from geoguesser.data.images import ImageSpec
from geoguesser.errors import DataError
from geoguesser.runs.run_images import find_label


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "store"
    run_prepare(compose([f"data.roots=[{photos.parent}]", f"out={out}", "image.size=32"], "prepare"))
    return out


def find_in_root(trained: Path, root: Path):
    return find_game_places(trained, {"data": {"roots": [str(root)]}})


def decode(photo: bytes | None) -> np.ndarray:
    assert photo is not None
    return np.asarray(Image.open(io.BytesIO(photo)), dtype=int)


def test_places_of_a_root(trained, photos):
    table = pd.read_csv(trained / "predictions_test.csv", dtype={"uuid": str})
    places = find_in_root(trained, photos.parent)
    assert places.uuid == table["uuid"].tolist()
    np.testing.assert_array_equal(places.true_deg, table[["true_latitude", "true_longitude"]])
    np.testing.assert_array_equal(places.predicted_deg, table[["latitude", "longitude"]])
    assert places.find_views(0) == [True] * 4

    # The photo has been encoded once more.
    image = decode(places.read_photo(0, 3))
    original = np.asarray(Image.open(photos / places.uuid[0] / "270.jpg"))
    assert image.shape == original.shape
    assert np.abs(image - original).mean() < 6


def test_places_of_a_store_have_its_pixels(trained, store, photos):
    config = {"data": {"path": str(store)}}
    places = find_game_places(trained, config)
    assert len(places) == len(pd.read_csv(trained / "predictions_test.csv"))
    assert places.find_views(1) == [True] * 4
    assert find_label(config) == ""

    image = decode(places.read_photo(1, 2)).transpose(2, 0, 1)
    original = ImageSpec(size=32).read(photos / places.uuid[1] / "180.jpg")
    assert image.shape == original.shape
    assert np.abs(image - original).mean() < 12


def test_photos_are_small_and_without_metadata(trained, photos, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(photos.parent, root)
    places = find_in_root(trained, root)
    place = root / "images" / places.uuid[0]

    exif = Image.Exif()
    exif[0x010E] = "taken at 45.1, 15.2"
    Image.new("RGB", (2000, 1000), "teal").save(place / "0.jpg", exif=exif)
    photo = places.read_photo(0, 0)
    assert decode(photo).shape == (320, 640, 3)
    assert b"45.1" not in photo

    (place / "90.jpg").write_bytes(b"\xff\xd8\xff broken")
    (place / "180.jpg").unlink()
    assert places.read_photo(0, 1) is None
    assert places.read_photo(0, 2) is None
    assert places.find_views(0) == [True, True, False, True]

    shutil.rmtree(place)
    assert places.find_views(0) == [False] * 4
    assert len(find_in_root(trained, root)) == len(places) - 1


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, "has no predictions_test.csv"),
        ("uuid,latitude\na,1\n", "predictions_test.csv cannot be read"),
        (",".join(PREDICTION_COLUMNS), "no longer where they were"),
        (",".join(PREDICTION_COLUMNS) + "\na,45,16,45,16\n", "no longer where they were"),
    ],
)
def test_predictions_that_cannot_be_used(text, rule, tmp_path):
    if text is not None:
        (tmp_path / "predictions_test.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(rule)) as error:
        find_in_root(tmp_path, Path("/home/alice/photos"))
    assert "alice" not in str(error.value)
