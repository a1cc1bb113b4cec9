"""A headless Chromium for tests, spoken to through the pipe of its DevTools protocol."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update
    --disable-background-networking --disable-sync --disable-dev-shm-usage --remote-debugging-pipe
"""
SECONDS = 60  # for one answer
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}


def program() -> str | None:
    """The first browser of this machine that is known."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process. `problems` are what pages said on the console, `requests` what they fetched."""

    def __init__(self, name: str, profile: Path):
        read_by_it, self.to_it = os.pipe()
        self.from_it, written_by_it = os.pipe()
        theirs = (read_by_it, written_by_it)
        joined = f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}'
        command = ["bash", "-c", joined, "bash", name, *FLAGS.split()]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in theirs:
            os.close(end)
        self.number, self.waiting, self.session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show a file, as on a screen of so many pixels."""
        self.events.clear()
        screen = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", **screen, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url=file.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def problems(self) -> list[str]:
        """What the page said on the console, and exceptions of its script."""
        told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in told]

    def requests(self) -> list[str]:
        """Addresses that it asked for beside the data that it holds."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith("data:")]

    def evaluate(self, expression: str) -> Any:
        """The value of a line of the page's language."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        known = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        typed = {"text": key} if key == " " else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **known, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def point(self, across: float, along: float) -> None:
        """Move the pointer to a place of the screen."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=across, y=along)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        file.write_bytes(base64.b64decode(answer["data"]))

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a call of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_it, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def close(self) -> None:
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.to_it)
            os.close(self.from_it)

    def _message(self) -> dict[str, Any]:
        """The next one, of whatever kind."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self.waiting:
            ready, _, _ = select.select([self.from_it], [], [], max(0, end - time.monotonic()))
            received = os.read(self.from_it, 2**20) if ready else b""
            if not received:
                raise TimeoutError("the browser does not answer")
            self.waiting += received
        first, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(first)
