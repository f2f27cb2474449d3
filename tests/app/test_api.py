"""What the API answers, against the locator itself."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from geoguesser.app.middleware import HEADERS
from geoguesser.app.problems import ProblemError
from geoguesser.app.uploads import find_place_folders
from geoguesser.commands.serve import load_models
from geoguesser.data.views import read_folder
from geoguesser.geo.distance import haversine_km
from geoguesser.inference.predictor import Predictor

API = "/api/v1"
COMPASS = {"north": "0.jpg", "east": "90.jpg", "south": "180.jpg", "west": "270.jpg"}


def views(place, *names: str) -> dict:
    return {name: ("photo", (place / COMPASS[name]).read_bytes(), "image/jpeg") for name in names or COMPASS}


def picture(size=(40, 30), kind="PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "olive").save(out, kind)
    return out.getvalue()


def test_models_and_health(client, models, trained):
    one = client()
    (told,) = one.get(f"{API}/models").json()["models"]
    result = json.loads((trained / "result.json").read_text())
    assert told["name"] == "trained"
    assert told["region"] == "Croatia"
    assert told["data"] == "synthetic demo"
    assert told["cells"] == models[0].ensemble.grid.num_cells
    assert told["image_px"] == 32
    assert told["test_error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert told["game_places"] == result["test"]["places"]
    health = one.get(f"{API}/health").json()
    assert health["status"] == "ok"
    assert (health["at_work"], health["most"]) == (0, 32)


def test_a_checkpoint_alone_says_that_its_data_are_synthetic(trained, tmp_path):
    shutil.copy(trained / "checkpoints" / "best.ckpt", tmp_path / "model.ckpt")
    (model,) = load_models([str(tmp_path / "model.ckpt")], "cpu")
    assert (model.label, model.held_out) == ("synthetic demo", None)


def test_map_of_a_model(client, models):
    one = client()
    cells = one.get(f"{API}/models/trained/cells").json()["features"]
    assert [cell["id"] for cell in cells] == list(range(models[0].ensemble.grid.num_cells))
    assert one.get(f"{API}/models/trained/outline").json()["type"] == "MultiPolygon"
    missing = one.get(f"{API}/models/none/cells")
    assert missing.status_code == 404
    assert missing.json() == {"detail": "model must be one of trained."}


@pytest.mark.parametrize("names", [(), ("north",), ("south", "west")])
def test_predict_answers_as_the_locator_does(client, trained, place, tmp_path, names):
    said = client().post(f"{API}/predict", files=views(place, *names), data={"areas": "true"})
    assert said.status_code == 200, said.text
    found = said.json()
    for name in names or COMPASS:
        shutil.copy(place / COMPASS[name], tmp_path / COMPASS[name])
    locator = Predictor.load(trained)
    images, mask = read_folder(str(tmp_path), locator.image, mask=True)
    own = locator.predict(torch.from_numpy(images)[None], torch.from_numpy(mask)[None])
    assert [found["point"]["latitude"], found["point"]["longitude"]] == pytest.approx(own.coords_deg[0], abs=1e-4)
    assert found["views"] == list(names or COMPASS)
    best = int(own.posterior[0].argmax())
    assert found["top_cells"][0] == {"cell": best, "probability": pytest.approx(own.posterior[0, best], abs=1e-4)}
    shares = {one["cell"]: one["probability"] for one in found["posterior"]}
    assert set(shares) == set(np.flatnonzero(own.posterior[0] >= 0.001))
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.001 * own.grid.num_cells)
    assert found["in_region"] == own.in_region[0]
    for level, inside in (own.sets or {}).items():
        assert found["sets"][level] == np.flatnonzero(inside[0]).tolist()
    assert set(found["areas"]) == set(found["sets"])


def test_folders_inside_the_root(client, photos, place, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(place, root / "some" / "whole")
    (root / "some" / "broken").mkdir()
    (root / "some" / "broken" / "0.jpg").write_bytes(b"\xff\xd8\xffno")
    (root / "some" / "none").mkdir()
    (root / "some" / "pipe").mkdir()
    os.mkfifo(root / "some" / "pipe" / "90.jpg")
    (root / "some" / "out").symlink_to(photos)
    one = client(root=root)
    found = one.post(f"{API}/predict/folder", json={"folder": "some"}).json()
    told = {answer["place"]: answer for answer in found["places"]}
    assert set(told) == {"whole", "broken", "none", "pipe"}  # not the one that leads out
    assert found["left_out"] == 3
    uploaded = one.post(f"{API}/predict", files=views(place)).json()
    assert told["whole"]["prediction"]["point"] == pytest.approx(uploaded["point"], abs=1e-4)
    assert "no whole image" in told["broken"]["problem"]
    assert "must hold one to four" in told["none"]["problem"]
    assert told["pipe"]["problem"] == "pipe/90.jpg must be a file inside the server's root."
    (single,) = one.post(f"{API}/predict/folder", json={"folder": "some/whole"}).json()["places"]
    assert single["prediction"]["views"] == list(COMPASS)
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize(
    "folder", ["..", "a/../..", "/etc", "out", "out/x", "a\x00b", "missing", "a\\..", "x" * 900]
)
def test_no_folder_outside_the_root(client, tmp_path, folder):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret" / "x").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path / "secret")
    answer = client(root=root).post(f"{API}/predict/folder", json={"folder": folder})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "folder must be a folder inside the server's root, relative to it."


def test_a_view_that_leads_out_of_its_folder_is_refused(client, place, tmp_path):
    (tmp_path / "root" / "p").mkdir(parents=True)
    (tmp_path / "root" / "p" / "0.jpg").symlink_to(place / "0.jpg")
    answer = client(root=tmp_path / "root").post(f"{API}/predict/folder", json={"folder": "p"})
    (told,) = answer.json()["places"]
    assert told["prediction"] is None
    assert told["problem"] == "p cannot be read."


def test_a_folder_that_went_away_meanwhile_cannot_be_read(tmp_path):
    with pytest.raises(ProblemError) as caught:
        find_place_folders(tmp_path, tmp_path / "gone", 3)
    assert (caught.value.status_code, caught.value.detail) == (422, "folder cannot be read.")


def test_no_root_and_too_many_places(client, photos):
    without = client().post(f"{API}/predict/folder", json={"folder": "a"})
    assert without.status_code == 404
    assert "root=FOLDER" in without.json()["detail"]
    many = client(root=photos.parent, places=3).post(f"{API}/predict/folder", json={"folder": "images"})
    assert many.status_code == 413
    assert many.json()["detail"] == "folder must hold at most 3 places, got 60."


def test_what_is_no_photo(client, place):
    one = client(megapixels=0.001)
    assert (
        client().post(f"{API}/predict", files={"north": ("a.jpg", b"GIF89a...", "image/jpeg")}).status_code == 415
    )
    broken = client().post(f"{API}/predict", files={"north": ("a.jpg", picture()[:60], "image/png")})
    assert broken.status_code == 422
    assert broken.json()["detail"].startswith("north is no whole image (")
    large = one.post(f"{API}/predict", files={"west": ("a.png", picture(), "image/png")})
    assert large.status_code == 413
    assert large.json()["detail"] == "west must have at most 0.001 megapixels, got 40 x 30 pixels."
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)  # more than Pillow opens
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    for limits, words in (({}, "50"), ({"megapixels": 9999}, "178.957")):
        said = client(**limits).post(f"{API}/predict", files={"north": ("a.png", bomb, "image/png")})
        assert said.status_code == 413
        assert said.json()["detail"] == f"north must have at most {words} megapixels; it has far more."
    empty = client().post(f"{API}/predict", files={"south": ("a.jpg", b"", "image/jpeg")})
    assert empty.status_code == 422
    assert empty.json()["detail"] == "south must be a photo; the file is empty."
    for kind in ("PNG", "WEBP", "JPEG"):  # the name and the type that are given do not count
        said = client().post(f"{API}/predict", files={"east": ("a.txt", picture(kind=kind), "text/plain")})
        assert said.status_code == 200, said.text


def test_fields(client, place):
    one = client()
    photo = ("a", (place / "0.jpg").read_bytes(), "image/jpeg")
    for files, data, rule in [
        ([], {"model": "trained"}, "There must be a photo"),
        ([("north", photo), ("north", photo)], {}, "north must be given once."),
        ([("up", photo)], {}, "A field must be one of areas, east, model, north, south, west, got 'up'."),
        ([("north", (None, "words"))], {}, "north: must be a photo, sent as a file"),
    ]:
        answer = one.post(f"{API}/predict", files=files or {"x": ""}, data=data) if files else one.post(
            f"{API}/predict", data=data
        )  # fmt: skip
        assert answer.status_code == 422, answer.text
        assert rule in answer.json()["detail"]
    unknown = one.post(f"{API}/predict", files={"north": photo}, data={"model": "other"})
    assert unknown.status_code == 404
    form = one.post(f"{API}/predict/folder", content=b'{"folder": "a"}')  # as curl -d sends it
    assert form.status_code == 422
    assert form.json()["detail"] == "body: must be a JSON object, sent with Content-Type: application/json"


def test_where_there_is_nothing_a_sentence_says_so(client):
    one = client()
    assert one.get(f"{API}/nothing").json() == {"detail": "There is nothing of that name."}
    refused = one.delete(f"{API}/models")
    assert (refused.status_code, refused.json()) == (405, {"detail": "There is no such method here."})
    assert refused.headers["allow"] == "GET"


def test_a_game_tells_nothing_before_the_guess(client, trained, models):
    one = client()
    game = one.post(f"{API}/games", json={"rounds": 2}).json()
    assert (game["round"], game["rounds"], game["results"]) == (1, 2, [])
    assert game["views"] == list(COMPASS)
    root = f"{API}/games/{game['game']}"
    view = one.get(f"{root}/rounds/1/views/north")
    assert view.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(view.content)).size == (56, 56)
    assert one.get(f"{root}/rounds/2/views/north").status_code == 404  # not begun
    early = json.dumps(one.get(root).json()) + json.dumps(dict(view.headers))
    places = models[0].held_out
    for uuid, (latitude, longitude) in zip(places.uuid, places.true_deg, strict=True):
        assert uuid not in early
        assert str(latitude) not in early
        assert str(longitude) not in early

    wrong = one.post(f"{root}/guess", json={"round": 2, "latitude": 45, "longitude": 16})
    assert wrong.status_code == 409
    assert wrong.json()["detail"] == "round must be the one that is on: round 1 is on, got 2."
    after = one.post(f"{root}/guess", json={"round": 1, "latitude": 45, "longitude": 16}).json()
    (result,) = after["results"]
    truth = np.array([result["truth"]["latitude"], result["truth"]["longitude"]])
    row = int(np.flatnonzero((places.true_deg == truth).all(axis=1))[0])
    errors = haversine_km(np.array([[45.0, 16.0], places.answers_deg[row]]), np.stack([truth, truth]))
    assert [result["your_error_km"], result["model_error_km"]] == pytest.approx(errors)
    diagonal = models[0].ensemble.region.diagonal_km
    scores = 5000 * np.exp(-10 * errors / diagonal)
    assert [result["your_score"], result["model_score"]] == pytest.approx(scores)
    assert after["round"] == 2
    last = one.post(f"{root}/guess", json={"round": 2.0, "latitude": -45, "longitude": -160}).json()
    assert last["round"] is None
    assert last["your_total"] == pytest.approx(sum(result["your_score"] for result in last["results"]))
    over = one.post(f"{root}/guess", json={"round": 2, "latitude": 0, "longitude": 0})
    assert over.json()["detail"] == "round must be the one that is on: the game is over, got 2."


def test_games_are_bounded_and_their_ids_are_secret(client):
    one = client(games=3)
    ids = [one.post(f"{API}/games", json={}).json()["game"] for _ in range(4)]
    assert len({*ids}) == 4
    assert min(map(len, ids)) >= 20
    assert [one.get(f"{API}/games/{game}").status_code for game in ids] == [404, 200, 200, 200]


@pytest.mark.parametrize(
    "body", [{"rounds": 0}, {"rounds": 21}, {"rounds": "5"}, {"rounds": True}, {"more": 1}, [], None]
)
def test_a_game_that_cannot_begin(client, body):
    answer = client().post(f"{API}/games", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_every_answer_has_the_headers(client):
    one = client()
    for path in ("/", f"{API}/models", "/nothing", "/page/main.js", "/api", "/favicon.ico"):
        answer = one.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_mistakes_of_the_server_are_not_told(client, models, monkeypatch, place):
    def broken(*words, **more):
        raise RuntimeError("/home/alice/secret.ckpt")

    monkeypatch.setattr(models[0].ensemble, "predict", broken)
    answer = client().post(f"{API}/predict", files=views(place))
    assert answer.status_code == 500
    assert answer.json() == {"detail": "The server has made a mistake. Its log says which."}
    assert answer.headers["x-content-type-options"] == "nosniff"
