"""Debian's Chromium without a window, steered by its DevTools protocol: a page as it looks on a screen of some kind."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websocket

_PATIENCE = 60.0


@dataclass(frozen=True)
class Screen:
    """Width and height in CSS pixels, and how many of its own pixels one of them is."""

    width: int
    height: int
    density: float
    mobile: bool


class Browser:
    """One tab. Made by `browser`."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=_PATIENCE, suppress_origin=True)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser; what happens meanwhile is kept in `events`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def show(self, page: Path, screen: Screen, scheme: str) -> None:
        """Open a file on a screen, in the colour scheme that its person prefers."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=screen.width,
            height=screen.height,
            deviceScaleFactor=screen.density,
            mobile=screen.mobile,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + _PATIENCE
        while self.run("document.readyState") != "complete" or self.run("location.href") != page.as_uri():
            assert time.monotonic() < deadline, f"{page} does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression, of a promise the one that it comes to. The page's own policy does not count."""
        told = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])

    def close(self) -> None:
        """Leave the tab."""
        self._socket.close()


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it afterwards."""
    # Tests run as root in containers, where Chromium's sandbox cannot be had; it opens pages of our own making only.
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [program, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            tab = Browser(_address(profile / "DevToolsActivePort", process))
            yield tab
            tab.close()
        finally:
            process.terminate()


def _address(told: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab, by the file that says at which port the browser listens."""
    deadline = time.monotonic() + _PATIENCE
    while not told.is_file() or "\n" not in told.read_text():
        assert process.poll() is None, "the browser has ended"
        assert time.monotonic() < deadline, "the browser does not listen"
        time.sleep(0.05)
    port = int(told.read_text().splitlines()[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE) as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
