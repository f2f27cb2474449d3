"""A page at work: headless Chromium, driven by its DevTools protocol over a web socket. Synchronous, one tab."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

from support.browser import CHROMIUM, QUIET

KEYS = {  # key -> code of Windows' virtual keys, text that it types
    **{"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " ")},
    **{"ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, "")},
}
SHIFT = 8


class Tab:
    """A tab of a browser of its own, with a fresh profile. Use it in `with`.

    Args:
        scratch: A folder for its profile.
        width: Of the window.
        height: Of the window.
        dark: Whether its user likes dark pages.
        still: Whether its user wants no motion.

    Attributes:
        console: What pages wrote into their console, exceptions and refusals of the browser included.
        requests: Every address that pages asked for.
    """

    def __init__(
        self, scratch: Path, *, width: int = 1280, height: int = 900, dark: bool = False, still: bool = True
    ) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._profile = scratch / f"profile-{time.monotonic_ns()}"
        self._look = (width, height, dark, still)
        self._loop = asyncio.new_event_loop()
        self._number = 0

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        words = ["--remote-debugging-port=0", f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen([CHROMIUM, *QUIET, *words], stderr=subprocess.DEVNULL)
        try:
            self._loop.run_until_complete(self._connect())
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _connect(self) -> None:
        file = self._profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not file.is_file() or not file.read_text().strip():
            assert self._process.poll() is None, "Chromium has ended"
            assert time.monotonic() < end, "Chromium does not start"
            await asyncio.sleep(0.05)
        port = file.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json") as answer:
            (target,) = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)

    def _prepare(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.ask(f"{domain}.enable")
        width, height, dark, still = self._look
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the protocol and returns its answer."""
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(method, parameters), 60))

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._hear(message.get("method", ""), message.get("params", {}))

    def _hear(self, event: str, told: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one)) for one in told["args"]))
        elif event == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded":
            self.console.append(f"{told['entry']['text']} ({told['entry'].get('url', '')})")

    def open(self, url: str) -> None:
        """Goes to an address; waits until the page stands."""
        self.ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> Any:
        """Waits until an expression is true in the page, and returns it."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never: {script}; console: {self.console}"
            time.sleep(0.05)
        return found

    def choose_files(self, selector: str, *files: Path) -> None:
        """Does what the file dialog of an input does."""
        document = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is, scrolled into sight."""
        box = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return box[0], box[1]

    def drop(self, selector: str, *files: Path) -> None:
        """Drags files from outside the browser onto an element."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def click(self, selector: str, *, right: float = 0, down: float = 0) -> None:
        """Clicks an element, so many pixels from its middle; waits until it is there and nothing covers it."""
        one = json.dumps(selector)
        deadline = time.monotonic() + 20
        while True:
            x, y = self.middle(selector)
            hit = f"document.elementFromPoint({x + right}, {y + down})?.closest({one}) != null"
            if self.run(f"document.querySelector({one}).offsetWidth > 0 && {hit}") and (x, y) == self.middle(
                selector
            ):
                break
            assert time.monotonic() < deadline, f"{selector} cannot be clicked; console: {self.console}"
            time.sleep(0.05)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x + right, y=y + down, button="left", clickCount=1)

    def press(self, key: str, *, times: int = 1, shift: bool = False) -> None:
        """Presses a key."""
        code, text = KEYS.get(key, (ord(key.upper()[0]), key))
        more = {"key": key, "windowsVirtualKeyCode": code, "modifiers": SHIFT if shift else 0}
        for _ in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", **more, **({"text": text} if text else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **more)

    def screenshot(self, file: Path, *, whole: bool = False) -> Path:
        """Writes what is seen, or the whole page, as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))
        return file
