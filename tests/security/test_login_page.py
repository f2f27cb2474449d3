"""The login form in Chromium: the token opens the page, and the page asks again after a restart."""

from __future__ import annotations

import pytest
from PIL import Image
from playwright.sync_api import expect
from support.app_server import make_toy_models, serve_models
from support.browser import launch_browser, needs_browser, open_page
from support.image_attacks import encode

from geoguesser.app.access import Access

pytestmark = needs_browser
TOKEN = "a-token-of-26-characters-x"


@pytest.fixture(scope="module")
def browser():
    with launch_browser() as browser:
        yield browser


@pytest.mark.parametrize("width", [1280, 390])
def test_the_token_opens_the_page(browser, width):
    access = Access(TOKEN)
    with serve_models(make_toy_models(), access=access) as address, open_page(browser, width=width) as (page, log):
        page.goto(address)
        expect(page).to_have_url(f"{address}login")
        expect(page.get_by_label("Token")).to_be_focused()
        assert page.evaluate("document.documentElement.scrollWidth") <= width

        page.keyboard.type("another token of a server")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This is not the token of this server.")

        # Filling it before the browser has focused it would make the browser complain.
        expect(page.get_by_label("Token")).to_be_focused()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#about")).to_contain_text("Toyland")
        expect(page.locator("#map path.land").first).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        assert not [url for url in log.requests if TOKEN in url]

        # A restarted server has another session.
        access.session = "another"
        photo = {"name": "0.jpg", "mimeType": "image/jpeg", "buffer": encode(Image.new("RGB", (64, 48)))}
        page.set_input_files("#choose", [photo])
        expect(page).to_have_url(f"{address}login")
        # The browser itself reports the two refusals, and misses a user name.
        own = ("status of 403", "status of 401", "[DOM]")
        assert [line for line in log.console if not any(word in line for word in own)] == []
