"""Names and links in folders that the server, the game and the report read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient
from support.app_server import build_app, make_toy_models
from support.image_attacks import encode

from geoguesser.app.game_places import PREDICTION_COLUMNS, find_game_places
from geoguesser.app.registry import ServedModel
from geoguesser.app.uploads import show_name
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import find_place, find_views_folder
from geoguesser.errors import DataError
from geoguesser.runs.run_images import load_arrays, load_photos, load_pixels

PHOTO = encode(Image.new("RGB", (64, 48), "olive"))
SECRET = encode(Image.new("RGB", (64, 48), "red"))
UNDECODABLE = os.fsdecode(b"caf\xe9")


def write_place(folder: Path, data: bytes = PHOTO) -> Path:
    folder.mkdir(parents=True)
    for heading in (0, 90, 180, 270):
        (folder / f"{heading}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    """Root with a place, and links out of its images folder to a place and to a view."""
    images = tmp_path / "root" / "images"
    outside = write_place(tmp_path / "outside" / "place", SECRET)
    write_place(images / "good")
    write_place(images / "linked_view")
    (images / "linked_view" / "0.jpg").unlink()
    (images / "linked_view" / "0.jpg").symlink_to(outside / "0.jpg")
    (images / "linked_place").symlink_to(outside)
    write_place(images / "..data", SECRET)
    write_place(images.parent / "secret", SECRET)
    for name in ("0.jpg", "90.jpg"):
        shutil.copy(outside / name, images.parent)
    return images.parent


ESCAPES = ("linked_place", "..", "../secret", ".", "", "/", "good/../../secret", "a\0b")


@pytest.mark.parametrize("uuid", ESCAPES)
def test_no_id_leads_out_of_the_images_folder(root, uuid):
    assert find_views_folder(root, uuid) is None
    assert find_place(root, uuid) is None
    assert load_photos(uuid, [root]) is None
    assert load_pixels(uuid, [root], ImageSpec(size=32)) is None
    assert load_arrays(uuid, [root], 32) is None


def test_links_of_views_are_refused(root):
    with pytest.raises(DataError, match="must not lead out of its folder"):
        find_place(root, "linked_view")
    assert load_photos("linked_view", [root]) is None
    assert load_pixels("linked_view", [root], ImageSpec(size=32)) is None

    # A link to another view of the images folder is followed, as in training.
    (root / "images" / "linked_view" / "0.jpg").unlink()
    (root / "images" / "linked_view" / "0.jpg").symlink_to(root / "images" / "good" / "90.jpg")
    assert load_pixels("linked_view", [root], ImageSpec(size=32))[1].all()


@given(st.text(max_size=8) | st.lists(st.sampled_from(["..", ".", "/", "good", "a", "\\"])).map("".join))
def test_ids_are_names_of_folders(tmp_path_factory, uuid):
    root = tmp_path_factory.getbasetemp() / "ids"
    if not root.is_dir():
        write_place(root / "images" / "good")
        write_place(root / "good")
    folder = find_views_folder(root, uuid)
    assert folder is None or folder == root / "images" / uuid
    assert (folder is not None) == (uuid == "good")


def write_predictions(run: Path, uuids: list[str], values: str = "45.2,15.4,45.2,15.4") -> None:
    run.mkdir(exist_ok=True)
    lines = [",".join(PREDICTION_COLUMNS), *(f"{uuid},{values}" for uuid in uuids)]
    (run / "predictions_test.csv").write_text("\n".join(lines))


def test_the_game_shows_nothing_outside(root, tmp_path):
    write_predictions(tmp_path / "run", ["good", "linked_place", "linked_view", "..", "../secret"])
    places = find_game_places(tmp_path / "run", {"data": {"roots": [str(root)]}})
    assert places.uuid == ["good", "linked_view"]
    assert places.read_photo(0, 0) is not None
    assert places.find_views(1) == [False] * 4
    assert [places.read_photo(1, heading) for heading in range(4)] == [None] * 4


@pytest.mark.parametrize("values", ["45,15,45,999", "45,15,nan,15", "45,15,,15", "inf,15,45,15", "45,x,45,15"])
def test_predictions_that_are_no_coordinates(root, tmp_path, values):
    write_predictions(tmp_path / "run", ["good"], values)
    with pytest.raises(DataError, match=r"predictions_test\.csv"):
        find_game_places(tmp_path / "run", {"data": {"roots": [str(root)]}})


@pytest.fixture(scope="module")
def models() -> list[ServedModel]:
    return make_toy_models(label="\udcff")


def test_names_that_are_not_unicode(models, tmp_path):
    folder = tmp_path / "root" / "some"
    write_place(folder / "good")
    write_place(folder / UNDECODABLE)
    write_place(folder / f"{UNDECODABLE} broken", b"\xff\xd8\xff no")
    write_place(folder / f"{UNDECODABLE} twice")
    (folder / f"{UNDECODABLE} twice" / "0.png").write_bytes(PHOTO)
    (folder / f"{UNDECODABLE} empty").mkdir()

    with TestClient(build_app(models, root=tmp_path / "root"), base_url="http://127.0.0.1") as client:
        response = client.post("/api/v1/predict/folder", json={"folder": "some"})
        assert response.status_code == 200
        places = {place["place"]: place for place in response.json()["places"]}
        names = [r"caf\xe9", r"caf\xe9 broken", r"caf\xe9 empty", r"caf\xe9 twice", "good"]
        assert sorted(places) == names
        assert [places[name]["prediction"] is not None for name in names] == [True, False, False, False, True]
        assert r"caf\xe9 twice must hold" in places[r"caf\xe9 twice"]["problem"]

        # Folders of a request: lone surrogates in JSON.
        for text in (r'"caf\udce9"', r'"some/caf\udce9"', r'"\ud800"'):
            response = client.post(
                "/api/v1/predict/folder",
                content=f'{{"folder": {text}}}',
                headers={"Content-Type": "application/json"},
            )
            assert response.status_code in (404, 422)
        assert client.get("/api/v1/models").json()["models"][0]["data"] == r"\udcff"


@given(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, ord("/")}))
def test_every_name_becomes_text(name):
    json.dumps(show_name(Path(os.fsdecode(name)))).encode()
    show_name(Path("x") / os.fsdecode(name)).encode()
