"""The page at work in real Chromium: photos, game, the keyboard alone, a phone; nothing comes from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from app_serving import app_of, serving
from browser import needs_browser
from conftest import TINY, compose
from devtools import Tab

from geoguesser.app.limits import Limits
from geoguesser.app.registry import ServedModel
from geoguesser.app.static_files import load_page_files
from geoguesser.commands.serve import load_models
from geoguesser.commands.train import run
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictor import Predictor
from geoguesser.model.uncertainty import Calibration

pytestmark = needs_browser
READY = (
    "document.querySelector('#map path.land') && document.querySelector('#about').textContent.includes('Croatia')"
)
SHOWN = "document.querySelector('#map path.answer') !== null"
VIEWS = (
    "[...document.querySelectorAll('#views img')].filter((one) => one.complete && one.naturalWidth).length === 4"
)


@pytest.fixture(scope="module")
def address(models):
    """One server for all of these tests."""
    with serving(app_of(models), Limits()) as found:
        yield found


def check_quiet(tab: Tab, address: str) -> None:
    """No line in the console, and no request to anyone but the server."""
    assert tab.console == []
    own = urlsplit(address).netloc
    others = [
        url for url in tab.requests if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
    ]
    assert others == []
    assert tab.requests


def focused(tab: Tab) -> str:
    return str(tab.run("document.activeElement.id || document.activeElement.textContent"))


def test_dropped_photos_are_found_on_the_map(address, place, tmp_path):
    with Tab(tmp_path) as tab:
        tab.open(address)
        tab.wait(READY)
        assert not tab.run(SHOWN)
        tab.drop("#drop", *(place / f"{heading}.jpg" for heading in (270, 0, 180, 90)))
        tab.wait(SHOWN)
        assert tab.run("document.querySelectorAll('#slots img:not([hidden])').length") == 4
        assert tab.run("document.querySelectorAll('#map path.cell').length") >= 1
        assert tab.run("document.querySelector('#result h2').textContent").startswith("Best guess: ")
        assert "all four directions" in tab.run("document.querySelector('#result').textContent")
        assert tab.run("document.querySelectorAll('.shares li').length") == 5
        assert tab.run("document.querySelector('#status').textContent").startswith("Best guess ")
        tab.click(".shares button")
        assert tab.run("document.querySelectorAll('#map path.chosen').length") == 1
        tab.click("#clear")
        assert not tab.run(SHOWN)
        check_quiet(tab, address)


def test_one_photo_chosen_and_one_that_is_none(address, place, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"no photo at all")
    with Tab(tmp_path, dark=True) as tab:
        tab.open(address)
        tab.wait(READY)
        tab.choose_files("#file-south", place / "0.jpg")  # the slot counts, not the name
        tab.wait(SHOWN)
        assert "From a photo of south" in tab.run("document.querySelector('#result').textContent")
        tab.choose_files("#file-east", tmp_path / "no.jpg")
        tab.wait("!document.querySelector('#problem').hidden")
        assert "east must be a JPEG, PNG or WebP file" in tab.run("document.querySelector('#problem').textContent")
        assert not tab.run(SHOWN)
        (line,) = tab.console  # Chromium's own, of every answer that is no 2xx
        assert "415" in line


def test_photos_that_are_too_large_are_not_sent(models, place, tmp_path):
    (tmp_path / "0.jpg").write_bytes((place / "0.jpg").read_bytes() + bytes(2**21))
    with serving(app_of(models, upload_mib=1), Limits(upload_mib=1)) as address, Tab(tmp_path) as tab:
        tab.open(address)
        tab.wait(READY)
        tab.choose_files("#choose", tmp_path / "0.jpg")
        tab.wait("!document.querySelector('#problem').hidden")
        told = tab.run("document.querySelector('#problem').textContent")
        assert told == "The photos have 3 MiB together; the server takes 1."
        assert not [url for url in tab.requests if url.endswith("/predict")]
        check_quiet(tab, address)


def test_a_whole_round_with_the_mouse(address, tmp_path):
    with Tab(tmp_path) as tab:
        tab.open(address)
        tab.wait(READY)
        tab.click("#to-game")
        tab.click("#begin")
        tab.wait(VIEWS)
        assert tab.run("document.querySelector('#guess').disabled")
        tab.click("#map", right=30, down=-40)
        tab.wait("!document.querySelector('#guess').disabled")
        assert tab.run("document.querySelector('#map path.truth')") is None
        tab.click("#guess")
        tab.wait("document.querySelector('#map path.truth')")
        for name in ("truth", "own", "answer"):
            assert tab.run(f"document.querySelectorAll('#map path.{name}').length") == 1
        assert "nearer" in tab.run("document.querySelector('#result h2').textContent")
        score = int(tab.run("document.querySelector('.tiles b').textContent").replace(",", ""))
        assert 0 <= score <= 5000
        check_quiet(tab, address)


def test_a_whole_game_by_keyboard_alone(address, models, tmp_path):
    rounds = min(5, len(models[0].held_out))
    with Tab(tmp_path) as tab:
        tab.open(f"{address}#game")
        tab.wait(READY)
        for _ in range(12):
            if focused(tab) == "begin":
                break
            tab.press("Tab")
        assert focused(tab) == "begin"
        tab.press("Enter")
        for number in range(1, rounds + 1):
            tab.wait(f"document.querySelector('#round-title').textContent === 'Round {number} of {rounds}'")
            for _ in range(12):
                if focused(tab) == "map":
                    break
                tab.press("Tab")
            assert "Arrow keys move the cross" in tab.run("document.activeElement.getAttribute('aria-label')")
            tab.press("ArrowUp", times=3)
            first = tab.run("document.querySelector('#cross-at').textContent")
            tab.press("ArrowLeft", shift=True)
            second = tab.run("document.querySelector('#cross-at').textContent")
            north, east = (
                np.array([float(word.split("°")[0]) for word in at.split(",")]) for at in (first, second)
            )
            assert north[0] == east[0]
            assert north[1] > east[1]
            tab.press("+")
            tab.press("Enter")
            tab.wait("document.querySelector('#map path.truth')")
            tab.wait("document.activeElement.id === 'next'")
            tab.press("Enter" if number < rounds else "Escape")
        assert tab.run("document.querySelector('#next').textContent") == "Play again"
        assert tab.run("document.querySelectorAll('#result tbody tr').length") == rounds
        check_quiet(tab, address)


def test_the_same_photo_by_keyboard(address, place, tmp_path):
    """Every slot can be reached and named; a view that is removed gives the focus back."""
    with Tab(tmp_path) as tab:
        tab.open(address)
        tab.wait(READY)
        names = []
        for _ in range(14):
            tab.press("Tab")
            names.append(str(tab.run("document.activeElement.getAttribute('aria-label')")))
        for heading in ("north", "east", "south", "west"):
            assert f"Photo that looks {heading}" in names
        tab.choose_files("#file-west", place / "0.jpg")
        tab.wait(SHOWN)
        tab.click("[aria-label='Remove the photo that looks west']")
        tab.wait(f"!({SHOWN})")
        assert focused(tab) == "file-west"
        check_quiet(tab, address)


def test_on_a_phone_nothing_is_wider_than_the_screen(address, place, tmp_path):
    with Tab(tmp_path, width=390, height=844, dark=True) as tab:
        tab.open(address)
        tab.wait(READY)
        tab.choose_files("#choose", *(place / f"{heading}.jpg" for heading in (0, 90)))
        tab.wait(SHOWN)
        wide = "document.documentElement.scrollWidth"
        assert tab.run(wide) <= 390
        tab.click("#to-game")
        tab.click("#begin")
        tab.wait(VIEWS)
        tab.click("#map", right=20)
        tab.wait("!document.querySelector('#guess').disabled")
        tab.click("#guess")
        tab.wait("document.querySelector('#map path.truth')")
        assert tab.run(wide) <= 390
        small = "[...document.querySelectorAll('button, .button, nav a')].filter((one) => one.offsetParent)"
        heights = tab.run(f"{small}.map((one) => one.getBoundingClientRect().height)")
        assert min(heights) >= 30
        tab.open(f"{address}api")
        tab.wait("document.querySelectorAll('#paths section').length === 10")
        assert tab.run(wide) <= 390
        check_quiet(tab, address)


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> ServedModel:
    """A model without cells."""
    folder = tmp_path_factory.mktemp("points") / "points"
    run(compose([*TINY, "head=regression"]), folder)
    locator = Predictor.load(folder)
    stretch = {"50": 30.0, "90": 80.0, "95": None}  # of more calibration places than such a small run has
    locator.calibration = Calibration(places=50, temperature=None, scale=1.0, mass=None, stretch=stretch).state()
    return ServedModel("points", Ensemble([locator]))


def test_a_model_without_cells_has_circles(points, place, tmp_path):
    with serving(app_of([points]), Limits()) as address, Tab(tmp_path) as tab:
        told = httpx.post(
            f"{address}api/v1/predict", files={"north": ("a", (place / "0.jpg").read_bytes())}
        ).json()
        assert (told["top_cells"], told["posterior"], told["sets"]) == ([], [], {})
        assert told["expected_error_km"] is None
        assert httpx.get(f"{address}api/v1/models/points/cells").json()["features"] == []
        tab.open(address)
        tab.wait(READY)
        tab.choose_files("#choose", place / "0.jpg")
        tab.wait(SHOWN)
        assert told["radius_km"] == {"50": 30.0, "90": 80.0}
        assert tab.run("document.querySelectorAll('#map path.circle').length") == 2
        assert tab.run("document.querySelectorAll('#map path.cell').length") == 0
        assert tab.run("document.querySelector('.shares')") is None
        check_quiet(tab, address)


def test_a_game_that_the_server_forgot_can_be_begun_anew(models, tmp_path):
    with serving(app_of(models, games=1), Limits()) as address, Tab(tmp_path) as tab:
        tab.open(f"{address}#game")
        tab.wait(READY)
        tab.click("#begin")
        tab.wait(VIEWS)
        assert httpx.post(f"{address}api/v1/games", json={}).status_code == 201  # the only one it remembers
        tab.click("#map")
        tab.click("#guess")
        tab.wait("document.querySelector('#problem').textContent.includes('Begin a new one')")
        assert tab.run("document.querySelector('#round').hidden && document.querySelector('#act').hidden")
        tab.console.clear()  # the browser's own line about the 404
        tab.click("#begin")
        tab.wait(VIEWS)
        assert tab.run("document.querySelector('#problem').hidden")
        check_quiet(tab, address)


def test_the_game_waits_where_the_person_goes_to_the_photos(address, tmp_path):
    late = "const own = fetch; fetch = (...a) => new Promise((go) => setTimeout(go, 400)).then(() => own(...a))"
    with Tab(tmp_path) as tab:
        tab.open(f"{address}#game")
        tab.wait(READY)
        tab.run(f"(() => {{ {late}; }})()")
        tab.click("#begin")
        tab.click("#to-photos")
        tab.wait("!document.querySelector('#photos').hidden")
        tab.run("new Promise((go) => setTimeout(go, 900))")
        assert tab.run("document.querySelector('#act').hidden && !document.querySelector('#map.aims')")
        tab.click("#to-game")
        tab.wait(VIEWS)
        assert tab.run("document.querySelector('#round-title').textContent") == "Round 1 of 4"
        assert tab.run("document.querySelector('#how-many').textContent") == "Four places"
        check_quiet(tab, address)


def test_of_two_models_chosen_quickly_the_last_one_counts(models, points, place, tmp_path):
    late = (
        "const own = fetch; fetch = (path, ...a) => new Promise((go) => "
        "setTimeout(go, path.includes('/models/points/') ? 900 : 0)).then(() => own(path, ...a))"
    )
    choose = (
        "const one = document.querySelector('#model'); one.value = NAME; one.dispatchEvent(new Event('change'));"
    )
    with serving(app_of([*models, points]), Limits()) as address, Tab(tmp_path) as tab:
        tab.open(address)
        tab.wait(READY)
        tab.run(f"(() => {{ {late}; }})()")
        for name in ("points", "trained"):
            tab.run(f"(() => {{ {choose.replace('NAME', json.dumps(name))} }})()")
        tab.run("new Promise((go) => setTimeout(go, 1500))")
        tab.choose_files("#choose", place / "0.jpg")
        tab.wait(SHOWN)
        assert tab.run("document.querySelectorAll('#map path.cell').length") > 0  # `points` has none
        check_quiet(tab, address)


def test_nothing_can_be_begun_before_the_models_are_there():
    assert '<div id="game-start" hidden>' in load_page_files()["index.html"].text


def test_without_its_photos_there_is_no_game(trained, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("wandb"))
    config = (bare / "config.yaml").read_text().replace("places: 60", "places: 61")  # a demo that was never drawn
    (bare / "config.yaml").write_text(config)
    with serving(app_of(load_models([str(bare), str(trained)], "cpu")), Limits()) as address, Tab(tmp_path) as tab:
        tab.open(f"{address}#game")
        tab.wait(READY)
        assert tab.run("!document.querySelector('#no-game').hidden")
        assert "not where they were" in tab.run("document.querySelector('#no-game').textContent")
        assert tab.run("document.querySelector('#game-start').hidden")
        options = tab.run("[...document.querySelectorAll('#model option')].map((one) => one.value)")
        assert options == ["bare", "trained"]
        tab.run("document.querySelector('#model').value = 'trained'")
        tab.run("document.querySelector('#model').dispatchEvent(new Event('change'))")
        tab.wait("document.querySelector('#no-game').hidden && !document.querySelector('#game-start').hidden")
        check_quiet(tab, address)


def test_files_of_the_page_name_no_other_host():
    for name, file in load_page_files().items():
        if not name.startswith("leaflet"):
            found = json.dumps(file.text).replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in found, name
            assert "https://" not in found, name
    assert {Path(name).suffix for name in load_page_files()} == {".html", ".css", ".js", ".svg"}
