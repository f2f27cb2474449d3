"""The game's places: from a root and from a store, and where they are no longer there."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import compose
from PIL import Image

from geoguesser.app.game_places import find_game_places, make_data_label
from geoguesser.commands.prepare import run_prepare
from geoguesser.data.images import ImageSpec
from geoguesser.errors import DataError


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "store"
    run_prepare(compose([f"data.roots=[{photos.parent}]", f"out={out}", "image.size=32"], "prepare"))
    return out


def test_places_of_a_root(trained, photos):
    table = pd.read_csv(trained / "predictions_test.csv", dtype={"uuid": str})
    found = find_game_places(trained, {"data": {"roots": [str(photos.parent)]}})
    assert found.uuid == table["uuid"].tolist()
    np.testing.assert_array_equal(found.true_deg, table[["true_latitude", "true_longitude"]])
    np.testing.assert_array_equal(found.predicted_deg, table[["latitude", "longitude"]])
    assert found.find_views(0) == [True] * 4
    image = np.asarray(Image.open(io.BytesIO(found.read_photo(0, 3))))
    own = np.asarray(Image.open(photos / found.uuid[0] / "270.jpg"))
    assert image.shape == own.shape
    assert np.abs(image.astype(int) - own).mean() < 6  # encoded once more


def test_places_of_a_store_have_its_pixels(trained, store, photos):
    config = {"data": {"path": str(store)}}
    found = find_game_places(trained, config)
    assert len(found) == len(pd.read_csv(trained / "predictions_test.csv"))
    image = np.asarray(Image.open(io.BytesIO(found.read_photo(1, 2)))).transpose(2, 0, 1)
    own = ImageSpec(size=32).read(photos / found.uuid[1] / "180.jpg")
    assert image.shape == own.shape
    assert np.abs(image.astype(int) - own).mean() < 12
    assert found.find_views(1) == [True] * 4
    assert make_data_label(config) == ""


def test_photos_are_bounded_and_without_notes(trained, photos, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(photos.parent, root)
    found = find_game_places(trained, {"data": {"roots": [str(root)]}})
    place = root / "images" / found.uuid[0]
    notes = Image.Exif()
    notes[0x010E] = "taken at 45.1, 15.2"
    Image.new("RGB", (2000, 1000), "teal").save(place / "0.jpg", exif=notes)
    (place / "90.jpg").write_bytes(b"\xff\xd8\xff broken")
    (place / "180.jpg").unlink()
    photo = found.read_photo(0, 0)
    assert Image.open(io.BytesIO(photo)).size == (640, 320)
    assert b"45.1" not in photo
    assert found.read_photo(0, 1) is None
    assert found.read_photo(0, 2) is None
    assert found.find_views(0) == [True, True, False, True]
    shutil.rmtree(place)
    assert found.find_views(0) == [False] * 4
    assert len(find_game_places(trained, {"data": {"roots": [str(root)]}})) == len(found) - 1


def test_where_there_are_none(trained, tmp_path):
    with pytest.raises(DataError, match=r"^The run has no predictions_test\.csv, so there are no test places\.$"):
        find_game_places(tmp_path, {})
    with pytest.raises(DataError, match="no longer where they were") as error:
        find_game_places(trained, {"data": {"roots": ["/home/alice/photos"]}})
    assert "alice" not in str(error.value)
    (tmp_path / "predictions_test.csv").write_text("uuid,latitude\na,1\n")
    with pytest.raises(DataError, match=r"predictions_test\.csv cannot be read"):
        find_game_places(tmp_path, {})
    (tmp_path / "predictions_test.csv").write_text("uuid,latitude,longitude,true_latitude,true_longitude\n")
    with pytest.raises(DataError, match="no longer where they were"):
        find_game_places(tmp_path, {})
