"""Tests of the page in Chromium: photos, game, keyboard, phone. No request leaves this machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from conftest import TINY, compose
from playwright.sync_api import Browser, Page, expect
from support.app_server import serve_models
from support.browser import HeldRequests, PageLog, drop_files, launch_browser, needs_browser, open_page

from geoguesser.app.registry import ServedModel
from geoguesser.app.static_files import load_page_files
from geoguesser.commands.serve import load_models
from geoguesser.commands.train import run_training
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictor import Predictor
from geoguesser.model.uncertainty import Calibration

pytestmark = needs_browser
PREDICTION = "#map path.prediction"
PAGE_WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def browser():
    with launch_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(models):
    """Address of a server for most tests of this module."""
    with serve_models(models) as url:
        yield url


@contextmanager
def open_app(browser: Browser, address: str, path: str = "", **settings: Any) -> Iterator[tuple[Page, PageLog]]:
    """Opens the application and waits for its map and model.

    At the end the console must be empty, and only the server of the test may have got requests.
    """
    with open_page(browser, **settings) as (page, log):
        page.goto(address + path)
        expect(page.locator("#map path.land").first).to_be_visible()
        expect(page.locator("#about")).to_contain_text("Croatia")
        yield page, log

        assert log.console == []
        urls = [urlsplit(url) for url in log.requests]
        assert {url.netloc for url in urls if url.scheme not in ("data", "blob")} == {urlsplit(address).netloc}


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


def press_tab_until(page: Page, element_id: str) -> None:
    """Moves the focus to an element that is at most 12 stops away."""
    for _ in range(12):
        if page.evaluate("document.activeElement.id") == element_id:
            break
        page.keyboard.press("Tab")
    expect(page.locator(f"#{element_id}")).to_be_focused()


def test_dropped_photos_are_predicted_on_the_map(browser, address, place):
    with open_app(browser, address) as (page, _):
        expect(page.locator(PREDICTION)).to_have_count(0)
        drop_files(page, "#drop", *(place / f"{heading}.jpg" for heading in (270, 0, 180, 90)))
        expect(page.locator(PREDICTION)).to_have_count(1)
        expect(page.locator("#slots img:not([hidden])")).to_have_count(4)
        assert page.locator("#map path.cell").count() >= 1
        expect(page.locator("#result h2")).to_have_text(re.compile(r"^Best guess: "))
        expect(page.locator("#result")).to_contain_text("all four directions")
        expect(page.locator(".shares li")).to_have_count(5)
        expect(page.locator("#status")).to_have_text(re.compile(r"^Best guess "))

        page.locator(".shares button").first.click()
        expect(page.locator("#map path.chosen")).to_have_count(1)
        page.click("#clear")
        expect(page.locator(PREDICTION)).to_have_count(0)


def test_one_photo_chosen_and_one_that_is_no_photo(browser, address, place, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"no photo at all")
    with open_app(browser, address, color_scheme="dark") as (page, log):
        # The slot sets the direction, not the file's name.
        page.set_input_files("#file-south", place / "0.jpg")
        expect(page.locator(PREDICTION)).to_have_count(1)
        expect(page.locator("#result")).to_contain_text("a photo of south")

        page.set_input_files("#file-east", tmp_path / "no.jpg")
        expect(page.locator("#problem")).to_contain_text("east must be a JPEG, PNG or WebP file")
        expect(page.locator(PREDICTION)).to_have_count(0)

        # Chromium writes a line for every response that is not 2xx.
        (line,) = log.console
        assert "415" in line
        log.console.clear()


def test_photos_that_are_too_large_are_not_sent(browser, models, place, tmp_path):
    (tmp_path / "0.jpg").write_bytes((place / "0.jpg").read_bytes() + bytes(2**21))
    with serve_models(models, upload_mib=1) as address, open_app(browser, address) as (page, log):
        page.set_input_files("#choose", tmp_path / "0.jpg")
        expect(page.locator("#problem")).to_have_text(re.compile(r"3 MiB together; .* at most 1\.$"))
        assert not [url for url in log.requests if url.endswith("/predict")]


def test_a_game_by_keyboard(browser, address, models):
    rounds = min(5, len(models[0].game_places))
    with open_app(browser, address, "#game") as (page, _):
        press_tab_until(page, "begin")
        page.keyboard.press("Enter")
        for number in range(1, rounds + 1):
            expect(page.locator("#round-title")).to_have_text(f"Round {number} of {rounds}")
            press_tab_until(page, "map")
            expect(page.locator("#map")).to_have_attribute("aria-label", re.compile("Arrow keys move the cross"))

            # North with the large step, then west with the small one.
            for _ in range(3):
                page.keyboard.press("ArrowUp")
            first = page.locator("#cross-point").inner_text()
            page.keyboard.press("Shift+ArrowLeft")
            second = page.locator("#cross-point").inner_text()
            north, west = (
                np.array([float(number.split("°")[0]) for number in point.split(",")]) for point in (first, second)
            )
            assert north[0] == west[0]
            assert north[1] > west[1]

            page.keyboard.press("+")
            page.keyboard.press("Enter")
            expect(page.locator("#map path.truth")).to_have_count(1)
            expect(page.locator("#next")).to_be_focused()
            page.keyboard.press("Enter" if number < rounds else "Escape")
        expect(page.locator("#next")).to_have_text("Play again")
        expect(page.locator("#result tbody tr")).to_have_count(rounds)


def test_every_slot_is_reached_by_keyboard(browser, address, place):
    with open_app(browser, address) as (page, _):
        labels = []
        for _ in range(14):
            page.keyboard.press("Tab")
            labels.append(str(page.evaluate("document.activeElement.getAttribute('aria-label')")))
        for heading in ("north", "east", "south", "west"):
            assert f"Photo that looks {heading}" in labels

        # The slot gets the focus back when its photo is removed.
        page.set_input_files("#file-west", place / "0.jpg")
        expect(page.locator(PREDICTION)).to_have_count(1)
        page.click("[aria-label='Remove the photo that looks west']")
        expect(page.locator(PREDICTION)).to_have_count(0)
        expect(page.locator("#file-west")).to_be_focused()


def test_photos_and_a_round_on_a_phone(browser, address, place):
    with open_app(browser, address, width=390, height=844, color_scheme="dark") as (page, _):
        page.set_input_files("#choose", [place / f"{heading}.jpg" for heading in (0, 90)])
        expect(page.locator(PREDICTION)).to_have_count(1)
        assert page.evaluate(PAGE_WIDTH) <= 390

        page.click("#to-game")
        begin_game(page)
        expect(page.locator("#guess")).to_be_disabled()
        click_map(page, right=20)
        expect(page.locator("#guess")).to_be_enabled()
        expect(page.locator("#map path.truth")).to_have_count(0)
        page.click("#guess")
        for name in ("truth", "person", "prediction"):
            expect(page.locator(f"#map path.{name}")).to_have_count(1)
        expect(page.locator("#result h2")).to_contain_text("nearer")
        assert 0 <= int(page.locator(".tiles b").first.inner_text().replace(",", "")) <= 5000
        assert page.evaluate(PAGE_WIDTH) <= 390
        heights_px = page.evaluate(
            "[...document.querySelectorAll('button, .button, nav a')].filter((element) => element.offsetParent)"
            ".map((element) => element.getBoundingClientRect().height)"
        )
        assert min(heights_px) >= 30

        page.goto(f"{address}api")
        expect(page.locator("#paths section")).to_have_count(10)
        assert page.evaluate(PAGE_WIDTH) <= 390


@pytest.fixture(scope="module")
def regression_model(tmp_path_factory) -> ServedModel:
    """A model without cells."""
    folder = tmp_path_factory.mktemp("points") / "points"
    run_training(compose([*TINY, "head=regression"]), folder)
    predictor = Predictor.load(folder)

    # The run is too small for calibration places.
    stretch = {"50": 30.0, "90": 80.0, "95": None}
    predictor.calibration = Calibration(places=50, temperature=None, scale=1.0, mass=None, stretch=stretch).state()
    return ServedModel("points", Ensemble([predictor]))


def test_a_model_without_cells_has_circles(browser, regression_model, place):
    form = {"north": ("a", (place / "0.jpg").read_bytes())}
    with serve_models([regression_model]) as address, open_app(browser, address) as (page, _):
        response = httpx.post(f"{address}api/v1/predict", files=form).json()
        assert (response["top_cells"], response["posterior"], response["sets"]) == ([], [], {})
        assert response["expected_error_km"] is None
        assert response["radius_km"] == {"50": 30.0, "90": 80.0}
        assert httpx.get(f"{address}api/v1/models/points/cells").json()["features"] == []

        page.set_input_files("#choose", place / "0.jpg")
        expect(page.locator(PREDICTION)).to_have_count(1)
        expect(page.locator("#map path.circle")).to_have_count(2)
        expect(page.locator("#map path.cell")).to_have_count(0)
        expect(page.locator(".shares")).to_have_count(0)


def test_a_dropped_game_can_be_begun_anew(browser, models):
    with serve_models(models, games=1) as address, open_app(browser, address, "#game") as (page, log):
        begin_game(page)

        # The server keeps one game only, so that another client's game replaces this one.
        assert httpx.post(f"{address}api/v1/games", json={}).status_code == 201
        click_map(page)
        page.click("#guess")
        expect(page.locator("#problem")).to_contain_text("Begin a new one")
        expect(page.locator("#round")).to_be_hidden()
        expect(page.locator("#actions")).to_be_hidden()

        # The browser has written a line about the response 404.
        log.console.clear()
        begin_game(page)
        expect(page.locator("#problem")).to_be_hidden()


def test_a_game_begins_while_the_photos_are_open(browser, address):
    with open_app(browser, address, "#game") as (page, _):
        held = HeldRequests(page, "**/api/v1/games")
        page.click("#begin")
        held.wait(1)
        page.click("#to-photos")
        expect(page.locator("#photos")).to_be_visible()

        expect(page.locator("#round")).to_have_attribute("hidden", "")
        held.release()
        expect(page.locator("#round:not([hidden])")).to_have_count(1)
        expect(page.locator("#actions")).to_be_hidden()
        expect(page.locator("#map.aims")).to_have_count(0)

        page.click("#to-game")
        wait_for_views(page)
        expect(page.locator("#round-title")).to_have_text("Round 1 of 4")
        expect(page.locator("#place-count")).to_have_text("Four places")


def test_the_last_chosen_model_counts(browser, models, regression_model, place):
    with serve_models([*models, regression_model]) as address, open_app(browser, address) as (page, _):
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
        expect(page.locator(PREDICTION)).to_have_count(1)
        assert page.locator("#map path.cell").count() > 0


def test_no_game_can_be_begun_before_the_models_are_loaded():
    assert '<div id="game-start" hidden>' in load_page_files()["index.html"].text


def test_there_is_no_game_without_photos(browser, trained, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("wandb"))

    # A demo of 61 places has never been drawn.
    config = (bare / "config.yaml").read_text().replace("places: 60", "places: 61")
    (bare / "config.yaml").write_text(config)
    served = load_models([str(bare), str(trained)], "cpu")
    with serve_models(served) as address, open_app(browser, address, "#game") as (page, _):
        expect(page.locator("#no-game")).to_be_visible()
        expect(page.locator("#no-game")).to_contain_text("no longer where they were")
        expect(page.locator("#game-start")).to_be_hidden()
        expect(page.locator("#model option")).to_have_text(["bare", "trained"])
        page.select_option("#model", "trained")
        expect(page.locator("#no-game")).to_be_hidden()
        expect(page.locator("#game-start")).to_be_visible()
