"""How far a download is: said in the log now and then, and over HTTP to whoever asks."""

import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SAID_EVERY = 10.0  # seconds
_LOOK_BACK = 30.0  # seconds that the speed is the mean of
_SAMPLED_EVERY = 0.5
_log = logging.getLogger("octavo_runtime.models.sources")


class Progress(logging.Handler):
    """Bytes that are there, of all; threads share it. As a handler of the log's warnings it knows what is waited out,
    until bytes come again. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._total: int | None = None
        self._there = 0
        self._waits: str | None = None
        self._said = clock()
        self._samples: deque[tuple[float, int]] = deque()

    def expect(self, total: int, there: int) -> None:
        """What is to come in all, and what a former run has left of it."""
        with self._guard:
            self._total, self._there = total, there
            self._samples.clear()
            self._samples.append((self._clock(), there))

    def moved(self, count: int) -> None:
        """So many bytes came; fewer than none are fetched again."""
        with self._guard:
            self._there += count
            self._waits = None
            now = self._clock()
            if not self._samples or now - self._samples[-1][0] >= _SAMPLED_EVERY:
                self._samples.append((now, self._there))
            while len(self._samples) > 2 and now - self._samples[0][0] > _LOOK_BACK:
                self._samples.popleft()
            due = now - self._said > _SAID_EVERY
        if due:
            self.say()

    def say(self) -> None:
        """Where it stands, in the log."""
        self._said = self._clock()
        _log.info("%s of %s are there", gib(self._there), gib(self._total or 0))

    def emit(self, record: logging.LogRecord) -> None:
        """A warning: what is waited out."""
        self._waits = record.getMessage()

    def told(self) -> dict[str, Any]:
        """As JSON: `bytes`, `total`, `bytesPerSecond`, `secondsLeft` and `waits`, each where it is known."""
        with self._guard:
            told: dict[str, Any] = {}
            if self._total is not None:
                told |= {"bytes": self._there, "total": self._total}
            began, first = self._samples[0] if self._samples else (0.0, 0)
            passed = self._clock() - began
            if self._total is not None and passed >= 1 and self._there > first:
                speed = (self._there - first) / passed
                left = (self._total - self._there) / speed
                told |= {"bytesPerSecond": round(speed), "secondsLeft": round(left)}
            return told | ({"waits": self._waits} if self._waits else {})

    @property
    def _guard(self) -> threading.RLock:
        assert self.lock is not None, "made by logging.Handler"
        return self.lock


@contextmanager
def answering(progress: Progress, port: int | None) -> Iterator[None]:
    """Answer GET /progress on a port, on every address, meanwhile; on none where `port` is None."""
    if port is None:
        yield
        return

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/progress"
            content = json.dumps(progress.told()).encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Who asks is not news."""

    server = _server(port, Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def gib(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**30:.2f} GiB"


class _OnBoth(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _server(port: int, answer: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """On IPv6 and IPv4; on IPv4 alone where a machine has no other."""
    try:
        return _OnBoth(("::", port), answer)
    except OSError:
        return ThreadingHTTPServer(("", port), answer)
