"""A page as a browser sees it: headless Chromium, from Debian's package; tests are skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
]
OWN = (".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com")  # whom Chromium calls by itself, for no page
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Visit(NamedTuple):
    """What came of opening a page: its elements after its script ran, console lines, hosts that were asked."""

    dom: str
    console: list[str]
    hosts: set[str]


def visit(page: Path, scratch: Path) -> Visit:
    """Opens a file with a fresh profile and writes down every request."""
    assert CHROMIUM is not None
    log = scratch / f"{page.stem}.netlog.json"
    words = [f"--user-data-dir={scratch / page.stem}-profile", "--enable-logging=stderr", f"--log-net-log={log}"]
    done = subprocess.run(
        [CHROMIUM, *QUIET, *words, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    events = json.loads(log.read_text())["events"]
    urls = {str(event["params"]["url"]) for event in events if "url" in (event.get("params") or {})}
    hosts = {urlsplit(url).hostname or "" for url in urls if not url.startswith(("file:", "data:", "about:"))}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    return Visit(done.stdout, console, {host for host in hosts if not f".{host}".endswith(OWN)})
