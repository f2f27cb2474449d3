"""Tests of the API: its responses against the predictor, folders, refusals, and the game."""

from __future__ import annotations

import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.image_attacks import make_png
from support.pictures import encode_image

from geoguesser.app.middleware import SECURITY_HEADERS
from geoguesser.app.problems import ProblemError
from geoguesser.app.uploads import find_place_folders
from geoguesser.commands.serve import load_models
from geoguesser.data.views import read_folder
from geoguesser.geo.distance import haversine_km
from geoguesser.inference.predictor import Predictor

API = "/api/v1"
OLIVE = Image.new("RGB", (40, 30), "olive")
FILES_BY_HEADING = {"north": "0.jpg", "east": "90.jpg", "south": "180.jpg", "west": "270.jpg"}


def make_form(place, *headings: str) -> dict:
    """Makes a form with the photos of the given headings, or all four."""
    return {
        heading: ("photo", (place / FILES_BY_HEADING[heading]).read_bytes(), "image/jpeg")
        for heading in headings or FILES_BY_HEADING
    }


def check_refused(response, status: int, rule: str) -> None:
    assert response.status_code == status, response.text
    assert re.search(rule, response.json()["detail"])


def test_models_and_health(client, models, trained):
    (info,) = client.get(f"{API}/models").json()["models"]
    test = json.loads((trained / "result.json").read_text())["test"]
    expected = {
        "name": "trained",
        "region": "Croatia",
        "data": "synthetic demo",
        "cells": models[0].ensemble.grid.num_cells,
        "image_px": 32,
        "test_error_km_mean": pytest.approx(test["error_km_mean"]),
        "game_places": test["places"],
    }
    assert {key: info[key] for key in expected} == expected

    health = client.get(f"{API}/health").json()
    assert (health["status"], health["at_work"], health["most"]) == ("ok", 0, 32)


def test_a_checkpoint_knows_that_its_data_are_synthetic(trained, tmp_path):
    shutil.copy(trained / "checkpoints" / "best.ckpt", tmp_path / "model.ckpt")
    (model,) = load_models([str(tmp_path / "model.ckpt")], "cpu")
    assert (model.label, model.game_places) == ("synthetic demo", None)


def test_map_of_a_model(client, models):
    cells = client.get(f"{API}/models/trained/cells").json()["features"]
    assert [cell["id"] for cell in cells] == list(range(models[0].ensemble.grid.num_cells))
    assert client.get(f"{API}/models/trained/outline").json()["type"] == "MultiPolygon"
    check_refused(client.get(f"{API}/models/none/cells"), 404, "model must be one of trained")


@pytest.mark.parametrize("headings", [(), ("north",), ("south", "west")])
def test_predictions_are_those_of_the_predictor(client, trained, place, tmp_path, headings):
    response = client.post(f"{API}/predict", files=make_form(place, *headings), data={"areas": "true"})
    assert response.status_code == 200, response.text
    actual = response.json()

    for heading in headings or FILES_BY_HEADING:
        shutil.copy(place / FILES_BY_HEADING[heading], tmp_path)
    predictor = Predictor.load(trained)
    images, mask = read_folder(str(tmp_path), predictor.image, mask=True)
    expected = predictor.predict(torch.from_numpy(images)[None], torch.from_numpy(mask)[None])

    point = [actual["point"]["latitude"], actual["point"]["longitude"]]
    assert point == pytest.approx(expected.coords_deg[0], abs=1e-4)
    assert actual["views"] == list(headings or FILES_BY_HEADING)
    assert actual["in_region"] == expected.in_region[0]

    posterior = expected.posterior[0]
    best = int(posterior.argmax())
    assert actual["top_cells"][0] == {"cell": best, "probability": pytest.approx(posterior[best], abs=1e-4)}
    probabilities = {entry["cell"]: entry["probability"] for entry in actual["posterior"]}
    assert set(probabilities) == set(np.flatnonzero(posterior >= 0.001))
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=0.001 * expected.grid.num_cells)

    for level, inside in (expected.sets or {}).items():
        assert actual["sets"][level] == np.flatnonzero(inside[0]).tolist()
    assert set(actual["areas"]) == set(actual["sets"])


def test_folders_inside_the_root(make_client, photos, place, tmp_path):
    folder = tmp_path / "root" / "some"
    shutil.copytree(place, folder / "complete")
    for name in ("broken", "empty", "pipe", "linked"):
        (folder / name).mkdir()
    (folder / "broken" / "0.jpg").write_bytes(b"\xff\xd8\xffno")
    os.mkfifo(folder / "pipe" / "90.jpg")
    # A folder that is a link out of the root is skipped, and such a view is refused.
    (folder / "out").symlink_to(photos)
    (folder / "linked" / "0.jpg").symlink_to(place / "0.jpg")

    client = make_client(root=tmp_path / "root")
    response = client.post(f"{API}/predict/folder", json={"folder": "some"}).json()
    places = {entry["place"]: entry for entry in response["places"]}
    assert set(places) == {"complete", "broken", "empty", "pipe", "linked"}
    assert response["left_out"] == 4
    assert str(tmp_path) not in json.dumps(response)

    uploaded = client.post(f"{API}/predict", files=make_form(place)).json()
    assert places["complete"]["prediction"]["point"] == pytest.approx(uploaded["point"], abs=1e-4)
    assert "cannot be decoded" in places["broken"]["problem"]
    assert "must hold one to four" in places["empty"]["problem"]
    assert "pipe/90.jpg must be a file inside" in places["pipe"]["problem"]
    assert places["linked"]["problem"] == "linked cannot be read."

    (single,) = client.post(f"{API}/predict/folder", json={"folder": "some/complete"}).json()["places"]
    assert single["prediction"]["views"] == list(FILES_BY_HEADING)


@pytest.mark.parametrize(
    "folder", ["..", "a/../..", "/etc", "out", "out/x", "a\x00b", "missing", "a\\..", "x" * 900]
)
def test_no_folder_outside_the_root(make_client, tmp_path, folder):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret" / "x").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path / "secret")
    response = make_client(root=root).post(f"{API}/predict/folder", json={"folder": folder})
    check_refused(response, 404, "^folder must be a folder inside the server's root, relative to it.$")


def test_a_folder_that_was_removed_cannot_be_read(tmp_path):
    with pytest.raises(ProblemError) as error:
        find_place_folders(tmp_path, tmp_path / "gone", 3)
    assert (error.value.status_code, error.value.detail) == (422, "folder cannot be read.")


def test_no_root_and_too_many_places(client, make_client, photos):
    check_refused(client.post(f"{API}/predict/folder", json={"folder": "a"}), 404, "root=FOLDER")
    response = make_client(root=photos.parent, places=3).post(f"{API}/predict/folder", json={"folder": "images"})
    check_refused(response, 413, "folder must hold at most 3 places, got 60")


@pytest.mark.parametrize(
    ("data", "limits", "status", "rule"),
    [
        (b"GIF89a...", {}, 415, "must be a JPEG, PNG or WebP file"),
        (b"", {}, 422, "must be a photo; the file is empty"),
        (encode_image(OLIVE)[:200], {}, 422, r"cannot be decoded \("),
        (encode_image(OLIVE), {"megapixels": 0.001}, 413, "40 x 30 pixels; the limit is 0.001 megapixels"),
        # More pixels than Pillow opens.
        (make_png(8, 8, shown_width=99_999_999), {"megapixels": 9999}, 413, "the limit of 178,956,970 pixels"),
    ],
)  # fmt: skip
def test_files_that_are_refused(make_client, data, limits, status, rule):
    response = make_client(**limits).post(f"{API}/predict", files={"west": ("a.jpg", data, "image/jpeg")})
    check_refused(response, status, f"^west .*{rule}")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_the_declared_type_does_not_count(client, kind):
    files = {"east": ("a.txt", encode_image(OLIVE, kind), "text/plain")}
    assert client.post(f"{API}/predict", files=files).status_code == 200


@pytest.mark.parametrize(
    ("headings", "data", "status", "rule"),
    [
        ([], {"model": "trained"}, 422, "Send at least one photo"),
        (["north", "north"], {}, 422, "The field north must not occur more than once"),
        (["up"], {}, 422, "must be one of areas, east, model, north, south, west, got 'up'"),
        ([], {"north": "text"}, 422, "north: must be a photo, sent as a file"),
        (["north"], {"model": "other"}, 404, "model must be one of trained"),
    ],
)
def test_form_fields(client, place, headings, data, status, rule):
    files = [(heading, ("a", (place / "0.jpg").read_bytes(), "image/jpeg")) for heading in headings]
    check_refused(client.post(f"{API}/predict", files=files or None, data=data), status, rule)


def test_json_needs_its_content_type(client):
    # Without a header curl -d declares a form.
    response = client.post(f"{API}/predict/folder", content=b'{"folder": "a"}')
    check_refused(response, 422, "body: must be a JSON object, sent with Content-Type: application/json")


def test_unknown_addresses_and_methods(client):
    check_refused(client.get(f"{API}/nothing"), 404, "nothing of this name")
    response = client.delete(f"{API}/models")
    check_refused(response, 405, "does not support this method")
    assert response.headers["allow"] == "GET"


def test_a_game_reveals_nothing_before_the_guess(client, models):
    game = client.post(f"{API}/games", json={"rounds": 2}).json()
    assert (game["round"], game["rounds"], game["results"]) == (1, 2, [])
    assert game["views"] == list(FILES_BY_HEADING)

    root = f"{API}/games/{game['game']}"
    view = client.get(f"{root}/rounds/1/views/north")
    assert view.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(view.content)).size == (56, 56)
    assert client.get(f"{root}/rounds/2/views/north").status_code == 404

    visible = client.get(root).text + json.dumps(dict(view.headers))
    places = models[0].game_places
    for secret in [*places.uuid, *map(str, places.true_deg.ravel())]:
        assert secret not in visible


def test_a_game_of_two_rounds(client, models):
    game = client.post(f"{API}/games", json={"rounds": 2}).json()

    def guess(number: float, latitude: float, longitude: float):
        body = {"round": number, "latitude": latitude, "longitude": longitude}
        return client.post(f"{API}/games/{game['game']}/guess", json=body)

    check_refused(guess(2, 45, 16), 409, "^round must be .* round 1 is on, got 2")
    state = guess(1, 45, 16).json()
    assert state["round"] == 2

    (result,) = state["results"]
    places = models[0].game_places
    truth = np.array([result["truth"]["latitude"], result["truth"]["longitude"]])
    row = int(np.flatnonzero((places.true_deg == truth).all(axis=1))[0])
    errors_km = haversine_km(np.array([[45.0, 16.0], places.predicted_deg[row]]), np.stack([truth, truth]))
    assert [result["your_error_km"], result["model_error_km"]] == pytest.approx(errors_km)
    scores = 5000 * np.exp(-10 * errors_km / models[0].ensemble.region.diagonal_km)
    assert [result["your_score"], result["model_score"]] == pytest.approx(scores)

    # JSON does not distinguish 2.0 from 2.
    state = guess(2.0, -45, -160).json()
    assert state["round"] is None
    assert state["your_total"] == pytest.approx(sum(result["your_score"] for result in state["results"]))
    check_refused(guess(2, 0, 0), 409, "^round must be .* the game is over, got 2")


def test_the_number_of_games_is_limited_and_their_ids_are_secret(make_client):
    client = make_client(games=3)
    ids = [client.post(f"{API}/games", json={}).json()["game"] for _ in range(4)]
    assert len({*ids}) == 4
    assert min(map(len, ids)) >= 20
    assert [client.get(f"{API}/games/{game}").status_code for game in ids] == [404, 200, 200, 200]


@pytest.mark.parametrize("body", [{"rounds": 21}, {"rounds": "5"}, {"rounds": True}, {"more": 1}, None])
def test_a_game_that_cannot_begin(client, body):
    check_refused(client.post(f"{API}/games", json=body), 422, ".")


@pytest.mark.parametrize("path", ["/", f"{API}/models", "/nothing", "/page/main.js", "/api", "/favicon.ico"])
def test_every_response_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_errors_of_the_server_are_not_revealed(client, models, monkeypatch, place):
    def fail(*args):
        raise RuntimeError("/home/alice/secret.ckpt")

    monkeypatch.setattr(models[0].ensemble, "predict", fail)
    response = client.post(f"{API}/predict", files=make_form(place))
    check_refused(response, 500, "its log has the details")
    assert "alice" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
