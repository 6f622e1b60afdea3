"""Debian's Chromium without a window, driven by the DevTools protocol (chromedevtools.github.io/devtools-protocol)."""

import base64
import errno
import itertools
import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pyseccomp
import websocket
from patience import PATIENCE, eventually

PROGRAM = "chromium"
# The DevTools protocol wants a key's code beside its name.
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}
SHIFT = 8


class Browser:
    """A running browser; its data lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--no-proxy-server", "--disable-background-networking", "--disable-extensions",
                f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            preexec_fn=_blind_to_links().load,
        )  # fmt: skip
        assert self._process.stderr
        for line in self._process.stderr:
            if match := re.search(r"DevTools listening on ws://([^/]+)/", line):
                self._address = match[1]
                return
        raise AssertionError(f"{PROGRAM} ended with {self._process.wait()} before it listened")

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> "Page":
        """A new tab of that size, in pixels, once `url` has loaded in it."""
        tab = httpx.put(f"http://{self._address}/json/new?about:blank", trust_env=False, timeout=PATIENCE).json()
        page = Page(tab["webSocketDebuggerUrl"])
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Page.navigate", url=url)
        page.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")
        return page

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


class Page:
    """One tab. `messages`: what its console and its security policy had to say, as text."""

    def __init__(self, debugger: str) -> None:
        self.messages: list[str] = []
        self._socket = websocket.create_connection(debugger, timeout=PATIENCE, suppress_origin=True)
        self._ids = itertools.count(1)
        for domain in ("Runtime", "Page", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Calls the protocol and returns what it gives back."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.messages.append(json.dumps(message["params"]))

    def run(self, script: str) -> Any:
        """What a JavaScript expression is worth; of a promise, what it comes to."""
        got = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait(self, script: str) -> None:
        """Returns once the expression is true, in JavaScript's sense."""
        eventually(lambda: self.run(f"Boolean({script})"), lambda: f"{script}; seen: {self.text('body')}")

    def text(self, selector: str) -> str:
        """The text of the first element, as it is shown; empty where there is none."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        event = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": SHIFT if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def hover(self, selector: str) -> None:
        """Moves the pointer onto the first element."""
        x, y = self._middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Clicks on the first element with the pointer."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """Writes what is seen as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self.call("Page.close")
        self._socket.close()

    def _middle(self, selector: str) -> tuple[float, float]:
        box = self.run(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getClientRects()[0])"
        )
        return box[0], box[1]


def _blind_to_links() -> pyseccomp.SyscallFilter:
    """Forbids the socket by which Linux tells of addresses that come and go (AF_NETLINK).

    At each, Chromium ends all requests that wait for a connection (ERR_NETWORK_CHANGED), those to 127.0.0.1 too; a
    cluster on the same machine gives an address to every pod.
    """
    blind = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    netlink = pyseccomp.Arg(0, pyseccomp.EQ, socket.AF_NETLINK)
    blind.add_rule(pyseccomp.ERRNO(errno.EAFNOSUPPORT), "socket", netlink)
    return blind
