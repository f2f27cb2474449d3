"""The page at work in Chromium: photos, the game, keyboard only, a phone; no request leaves this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from conftest import TINY, compose
from playwright.sync_api import Page, expect
from support.app_server import build_app, serve_app
from support.browser import HeldRequests, PageLog, drop_files, needs_browser, open_page

from geoguesser.app.limits import Limits
from geoguesser.app.registry import ServedModel
from geoguesser.app.static_files import load_page_files
from geoguesser.commands.serve import load_models
from geoguesser.commands.train import run
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictor import Predictor
from geoguesser.model.uncertainty import Calibration

pytestmark = needs_browser
ANSWER = "#map path.answer"
PAGE_WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def address(models):
    """Address of a server for all of these tests."""
    with serve_app(build_app(models), Limits()) as url:
        yield url


def open_app(page: Page, address: str) -> None:
    """Opens the application and waits for its map and model."""
    page.goto(address)
    expect(page.locator("#map path.land").first).to_be_visible()
    expect(page.locator("#about")).to_contain_text("Croatia")


def begin_game(page: Page) -> None:
    """Begins a game and waits for the four views."""
    page.click("#begin")
    wait_for_views(page)


def wait_for_views(page: Page) -> None:
    """Waits until the four views of a round are there; a view that cannot be decoded is an error."""
    views = page.locator("#views img")
    expect(views).to_have_count(4)
    views.evaluate_all("(images) => Promise.all(images.map((image) => image.decode()))")


def click_map(page: Page, *, right: float = 0, down: float = 0) -> None:
    """Clicks the map, some pixels from its middle."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.click("#map", position={"x": box["width"] / 2 + right, "y": box["height"] / 2 + down})


def get_focused(page: Page) -> str:
    """Returns the id of the focused element, or its text."""
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))


def press_tab_until(page: Page, element_id: str) -> None:
    """Moves the focus to an element that is at most 12 stops away."""
    for _ in range(12):
        if get_focused(page) == element_id:
            break
        page.keyboard.press("Tab")
    assert get_focused(page) == element_id


def check_quiet(log: PageLog, address: str) -> None:
    """Checks that the console is empty and that only the server of the test got requests."""
    assert log.console == []
    urls = [urlsplit(url) for url in log.requests]
    assert {url.netloc for url in urls if url.scheme not in ("data", "blob")} == {urlsplit(address).netloc}


def test_dropped_photos_are_found_on_the_map(address, place):
    with open_page() as (page, log):
        open_app(page, address)
        expect(page.locator(ANSWER)).to_have_count(0)
        drop_files(page, "#drop", *(place / f"{heading}.jpg" for heading in (270, 0, 180, 90)))
        expect(page.locator(ANSWER)).to_have_count(1)
        expect(page.locator("#slots img:not([hidden])")).to_have_count(4)
        assert page.locator("#map path.cell").count() >= 1
        expect(page.locator("#result h2")).to_have_text(re.compile(r"^Best guess: "))
        expect(page.locator("#result")).to_contain_text("all four directions")
        expect(page.locator(".shares li")).to_have_count(5)
        expect(page.locator("#status")).to_have_text(re.compile(r"^Best guess "))
        page.locator(".shares button").first.click()
        expect(page.locator("#map path.chosen")).to_have_count(1)
        page.click("#clear")
        expect(page.locator(ANSWER)).to_have_count(0)
        check_quiet(log, address)


def test_one_photo_chosen_and_one_that_is_none(address, place, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"no photo at all")
    with open_page(color_scheme="dark") as (page, log):
        open_app(page, address)

        # The slot sets the direction, not the file's name.
        page.set_input_files("#file-south", place / "0.jpg")
        expect(page.locator(ANSWER)).to_have_count(1)
        expect(page.locator("#result")).to_contain_text("From a photo of south")

        page.set_input_files("#file-east", tmp_path / "no.jpg")
        expect(page.locator("#problem")).to_contain_text("east must be a JPEG, PNG or WebP file")
        expect(page.locator(ANSWER)).to_have_count(0)

        # Chromium writes a line for every response that is not 2xx.
        (line,) = log.console
        assert "415" in line


def test_photos_that_are_too_large_are_not_sent(models, place, tmp_path):
    (tmp_path / "0.jpg").write_bytes((place / "0.jpg").read_bytes() + bytes(2**21))
    with (
        serve_app(build_app(models, upload_mib=1), Limits(upload_mib=1)) as address,
        open_page() as (page, log),
    ):
        open_app(page, address)
        page.set_input_files("#choose", tmp_path / "0.jpg")
        expect(page.locator("#problem")).to_have_text("The photos have 3 MiB together; the server takes 1.")
        assert not [url for url in log.requests if url.endswith("/predict")]
        check_quiet(log, address)


def test_a_whole_round_with_the_mouse(address):
    with open_page() as (page, log):
        open_app(page, address)
        page.click("#to-game")
        begin_game(page)
        expect(page.locator("#guess")).to_be_disabled()
        click_map(page, right=30, down=-40)
        expect(page.locator("#guess")).to_be_enabled()
        expect(page.locator("#map path.truth")).to_have_count(0)
        page.click("#guess")
        for name in ("truth", "own", "answer"):
            expect(page.locator(f"#map path.{name}")).to_have_count(1)
        expect(page.locator("#result h2")).to_contain_text("nearer")
        score = int(page.locator(".tiles b").first.inner_text().replace(",", ""))
        assert 0 <= score <= 5000
        check_quiet(log, address)


def test_a_whole_game_by_keyboard_alone(address, models):
    rounds = min(5, len(models[0].game_places))
    with open_page() as (page, log):
        open_app(page, f"{address}#game")
        press_tab_until(page, "begin")
        page.keyboard.press("Enter")
        for number in range(1, rounds + 1):
            expect(page.locator("#round-title")).to_have_text(f"Round {number} of {rounds}")
            press_tab_until(page, "map")
            expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Arrow keys move the cross"))

            # North with the large step, then west with the small one.
            for _ in range(3):
                page.keyboard.press("ArrowUp")
            first = page.locator("#cross-at").inner_text()
            page.keyboard.press("Shift+ArrowLeft")
            second = page.locator("#cross-at").inner_text()
            north, east = (
                np.array([float(word.split("°")[0]) for word in at.split(",")]) for at in (first, second)
            )
            assert north[0] == east[0]
            assert north[1] > east[1]

            page.keyboard.press("+")
            page.keyboard.press("Enter")
            expect(page.locator("#map path.truth")).to_have_count(1)
            expect(page.locator("#next")).to_be_focused()
            page.keyboard.press("Enter" if number < rounds else "Escape")
        expect(page.locator("#next")).to_have_text("Play again")
        expect(page.locator("#result tbody tr")).to_have_count(rounds)
        check_quiet(log, address)


def test_the_same_photo_by_keyboard(address, place):
    """Every slot can be reached and named; a view that is removed gives the focus back."""
    with open_page() as (page, log):
        open_app(page, address)
        names = []
        for _ in range(14):
            page.keyboard.press("Tab")
            names.append(str(page.evaluate("document.activeElement.getAttribute('aria-label')")))
        for heading in ("north", "east", "south", "west"):
            assert f"Photo that looks {heading}" in names
        page.set_input_files("#file-west", place / "0.jpg")
        expect(page.locator(ANSWER)).to_have_count(1)
        page.click("[aria-label='Remove the photo that looks west']")
        expect(page.locator(ANSWER)).to_have_count(0)
        expect(page.locator("#file-west")).to_be_focused()
        check_quiet(log, address)


def test_on_a_phone_nothing_is_wider_than_the_screen(address, place):
    with open_page(width=390, height=844, color_scheme="dark") as (page, log):
        open_app(page, address)
        page.set_input_files("#choose", [place / f"{heading}.jpg" for heading in (0, 90)])
        expect(page.locator(ANSWER)).to_have_count(1)
        assert page.evaluate(PAGE_WIDTH) <= 390

        page.click("#to-game")
        begin_game(page)
        click_map(page, right=20)
        page.click("#guess")
        expect(page.locator("#map path.truth")).to_have_count(1)
        assert page.evaluate(PAGE_WIDTH) <= 390
        heights_px = page.evaluate(
            "[...document.querySelectorAll('button, .button, nav a')].filter((element) => element.offsetParent)"
            ".map((element) => element.getBoundingClientRect().height)"
        )
        assert min(heights_px) >= 30

        page.goto(f"{address}api")
        expect(page.locator("#paths section")).to_have_count(10)
        assert page.evaluate(PAGE_WIDTH) <= 390
        check_quiet(log, address)


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> ServedModel:
    """A model without cells."""
    folder = tmp_path_factory.mktemp("points") / "points"
    run(compose([*TINY, "head=regression"]), folder)
    locator = Predictor.load(folder)
    stretch = {"50": 30.0, "90": 80.0, "95": None}  # of more calibration places than such a small run has
    locator.calibration = Calibration(places=50, temperature=None, scale=1.0, mass=None, stretch=stretch).state()
    return ServedModel("points", Ensemble([locator]))


def test_a_model_without_cells_has_circles(points, place):
    with serve_app(build_app([points]), Limits()) as address, open_page() as (page, log):
        response = httpx.post(
            f"{address}api/v1/predict", files={"north": ("a", (place / "0.jpg").read_bytes())}
        ).json()
        assert (response["top_cells"], response["posterior"], response["sets"]) == ([], [], {})
        assert response["expected_error_km"] is None
        assert response["radius_km"] == {"50": 30.0, "90": 80.0}
        assert httpx.get(f"{address}api/v1/models/points/cells").json()["features"] == []

        open_app(page, address)
        page.set_input_files("#choose", place / "0.jpg")
        expect(page.locator(ANSWER)).to_have_count(1)
        expect(page.locator("#map path.circle")).to_have_count(2)
        expect(page.locator("#map path.cell")).to_have_count(0)
        expect(page.locator(".shares")).to_have_count(0)
        check_quiet(log, address)


def test_a_game_that_the_server_forgot_can_be_begun_anew(models):
    with serve_app(build_app(models, games=1), Limits()) as address, open_page() as (page, log):
        open_app(page, f"{address}#game")
        begin_game(page)

        # The server remembers one game only, so that another client's game replaces this one.
        assert httpx.post(f"{address}api/v1/games", json={}).status_code == 201
        click_map(page)
        page.click("#guess")
        expect(page.locator("#problem")).to_contain_text("Begin a new one")
        expect(page.locator("#round")).to_be_hidden()
        expect(page.locator("#act")).to_be_hidden()

        # The browser has written a line about the response 404.
        log.console.clear()
        begin_game(page)
        expect(page.locator("#problem")).to_be_hidden()
        check_quiet(log, address)


def test_the_game_waits_where_the_person_goes_to_the_photos(address):
    with open_page() as (page, log):
        open_app(page, f"{address}#game")
        held = HeldRequests(page, "**/api/v1/games")
        page.click("#begin")
        held.wait(1)
        page.click("#to-photos")
        expect(page.locator("#photos")).to_be_visible()

        # The game begins while the other part of the page is open.
        expect(page.locator("#round")).to_have_attribute("hidden", "")
        held.release()
        expect(page.locator("#round:not([hidden])")).to_have_count(1)
        expect(page.locator("#act")).to_be_hidden()
        expect(page.locator("#map.aims")).to_have_count(0)

        page.click("#to-game")
        wait_for_views(page)
        expect(page.locator("#round-title")).to_have_text("Round 1 of 4")
        expect(page.locator("#how-many")).to_have_text("Four places")
        check_quiet(log, address)


def test_of_two_models_chosen_quickly_the_last_one_counts(models, points, place):
    with serve_app(build_app([*models, points]), Limits()) as address, open_page() as (page, log):
        open_app(page, address)
        held = HeldRequests(page, "**/models/points/*")
        page.select_option("#model", "points")
        held.wait(2)
        with page.expect_response("**/models/trained/outline"), page.expect_response("**/models/trained/cells"):
            page.select_option("#model", "trained")

        # The responses for the model that was chosen first arrive last.
        with page.expect_response("**/models/points/outline"), page.expect_response("**/models/points/cells"):
            held.release()
        page.wait_for_load_state("networkidle")

        # The model `points` has no cells.
        page.set_input_files("#choose", place / "0.jpg")
        expect(page.locator(ANSWER)).to_have_count(1)
        assert page.locator("#map path.cell").count() > 0
        check_quiet(log, address)


def test_nothing_can_be_begun_before_the_models_are_there():
    assert '<div id="game-start" hidden>' in load_page_files()["index.html"].text


def test_without_its_photos_there_is_no_game(trained, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("wandb"))

    # A demo of 61 places has never been drawn.
    config = (bare / "config.yaml").read_text().replace("places: 60", "places: 61")
    (bare / "config.yaml").write_text(config)
    app = build_app(load_models([str(bare), str(trained)], "cpu"))
    with serve_app(app, Limits()) as address, open_page() as (page, log):
        open_app(page, f"{address}#game")
        expect(page.locator("#no-game")).to_be_visible()
        expect(page.locator("#no-game")).to_contain_text("no longer where they were")
        expect(page.locator("#game-start")).to_be_hidden()
        expect(page.locator("#model option")).to_have_text(["bare", "trained"])
        page.select_option("#model", "trained")
        expect(page.locator("#no-game")).to_be_hidden()
        expect(page.locator("#game-start")).to_be_visible()
        check_quiet(log, address)


def test_files_of_the_page_name_no_other_host():
    for name, file in load_page_files().items():
        if not name.startswith("leaflet"):
            found = json.dumps(file.text).replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in found, name
            assert "https://" not in found, name
    assert {Path(name).suffix for name in load_page_files()} == {".html", ".css", ".js", ".svg"}
