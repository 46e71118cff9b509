"""A headless Chromium that is told what to do over a pipe (the DevTools protocol).

Nothing of it reaches a network: the page comes from a file, and the browser's own services are
switched off. Source of the protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from helpers.waiting import Deadline

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")  # as in the Makefile
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # it shows our own page only, and containers forbid its sandbox
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
ANSWER_SECONDS: Final = 60.0  # a loaded machine takes long to start it
Scheme = Literal["light", "dark"]


def chromium() -> str | None:
    """The browser's path, None when there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a running browser."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Raises:
            RuntimeError: the browser refused it, or does not answer.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = Deadline(ANSWER_SECONDS)
        while True:
            answer = self._read(deadline)
            if answer.get("id") != self._number:
                self._events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, deadline: Deadline) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], deadline.remaining)
            chunk = os.read(self._back, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("the browser does not answer")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def look(self, width: int, scheme: Scheme = "light", media: str = "") -> None:
        """Be a screen of this width (CSS pixels) that prefers light or dark, or paper."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, page: Path) -> None:
        """Load a file, and be there when all of it is."""
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        deadline = Deadline(ANSWER_SECONDS)
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read(deadline))

    def evaluate(self, script: str) -> Any:
        """Value of a script in the page (the page itself has none).

        Raises:
            RuntimeError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, e.g. ``press("Tab", 9)``."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                      windowsVirtualKeyCode=code)  # fmt: skip

    def screenshot(self, path: Path, height: int | None = None, scale: float = 1.0) -> None:
        """A picture of the page: of all of it, or of its upper part."""
        width, whole = self.evaluate(
            "[document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": scale}
        answer = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed on A4."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=False, paperWidth=8.27,
                           paperHeight=11.69, printBackground=False)  # fmt: skip
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def requests(self) -> list[str]:
        """What the page asked for since it was opened, itself included."""
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the browser about the page."""
        return [
            event["params"]["entry"]["text"]
            for event in self._events
            if event.get("method") == "Log.entryAdded"
        ]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile; it is gone afterwards."""
    program = chromium()
    if program is None:
        raise FileNotFoundError("chromium was not found: apt-get install chromium")
    (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4.
    argv = [program, *FLAGS, f"--user-data-dir={profile}"]
    wrapper = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    child = subprocess.Popen(
        ["bash", "-c", wrapper, *argv],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        made = Browser(ours_out, ours_in)
        yield made
        made._session = None
        made.call("Browser.close")
    finally:
        os.close(ours_in)
        os.close(ours_out)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
