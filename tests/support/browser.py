"""Pages in headless Chromium, driven by Playwright and cut off from every host but this machine."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
    # Second line of defence, for requests that Playwright does not see, such as prefetched names.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]",
]
LOCAL_SCHEMES = ("file", "data", "blob", "about")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
OUTSIDE_URL = re.compile(r"^(https?|wss?):\/\/(?!(127\.0\.0\.1|localhost|\[::1\])([:\/?#]|$))")
MAX_PHONE_WIDTH = 600
MAX_WAIT_S = 60

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# Playwright's 5 s are too short for a machine that runs other tests at the same time.
expect.set_options(timeout=1000 * MAX_WAIT_S)


@dataclass
class PageLog:
    """Console lines and requests of a page.

    Attributes:
        console: Lines of the console, with uncaught exceptions and blocked content.
        requests: Addresses in the order of the requests, aborted requests included.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in LOCAL_SCHEMES or parts.hostname in LOCAL_HOSTS


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Launches a browser, which takes about a second.

    Playwright's event loop stays current in this thread while the browser runs, so that `asyncio.run` fails. A
    fixture for it has at most the scope of a module without such calls.
    """
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * MAX_WAIT_S)
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser | None = None,
    *,
    width: int = 1280,
    height: int = 900,
    color_scheme: Literal["light", "dark"] = "light",
) -> Iterator[tuple[Page, PageLog]]:
    """Opens an empty page with a fresh profile, in the given browser or a new one.

    A window narrower than 600 pixels is that of a phone. Motion is reduced, so that animations need no waiting.
    Requests to other machines are aborted.

    Raises:
        AssertionError: At the end, if the page has made a request to another machine.
    """
    log = PageLog()
    with ExitStack() as stack:
        browser = browser or stack.enter_context(launch_browser())
        phone = width < MAX_PHONE_WIDTH
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=2 if phone else 1,
            is_mobile=phone,
            has_touch=phone,
            color_scheme=color_scheme,
            reduced_motion="reduce",
            service_workers="block",
        )
        stack.callback(context.close)
        context.set_default_timeout(1000 * MAX_WAIT_S)
        context.on("console", lambda message: log.console.append(message.text))
        context.on("weberror", lambda error: log.console.append(str(error.error)))
        context.on("request", lambda request: log.requests.append(request.url))
        context.route(OUTSIDE_URL, lambda route: route.abort())

        def refuse_socket(socket: WebSocketRoute) -> None:
            log.requests.append(socket.url)
            socket.close()

        context.route_web_socket(OUTSIDE_URL, refuse_socket)

        yield context.new_page(), log

    outside = [url for url in log.requests if not _is_local(url)]
    assert not outside, f"requests to other machines: {outside}"


class HeldRequests:
    """Requests that wait for the test, so that it decides in which order responses arrive.

    Args:
        page: The page that makes the requests.
        pattern: Glob pattern of their addresses.
    """

    def __init__(self, page: Page, pattern: str) -> None:
        self._page = page
        self._routes: list[Route] = []
        page.route(pattern, self._hold)

    def _hold(self, route: Route) -> None:
        self._routes.append(route)

    def wait(self, count: int) -> None:
        """Waits until that number of requests is held."""
        deadline_s = time.monotonic() + MAX_WAIT_S
        while len(self._routes) < count:
            assert time.monotonic() < deadline_s, f"{len(self._routes)} requests, not {count}"
            # Playwright handles its events during this call, which a plain sleep would not allow.
            self._page.wait_for_timeout(10)

    def release(self) -> None:
        """Lets the held requests go on."""
        for route in self._routes:
            route.continue_()
        self._routes.clear()


def drop_files(page: Page, selector: str, *files: Path) -> None:
    """Drags files from outside the browser onto an element, which Playwright has no method for."""
    element = page.locator(selector)
    element.scroll_into_view_if_needed()
    box = element.bounding_box()

    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
    session.detach()
