"""How far a download is, in numbers, and over HTTP."""

import json
import logging
import socket

import httpx

from octavo_runtime.models.sources.progress import Progress, answering


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_speed_is_of_what_came_and_not_of_what_was_there():
    clock = Clock()
    progress = Progress(clock)
    assert progress.told() == {}
    progress.expect(total=1000, there=400)
    assert progress.told() == {"bytes": 400, "total": 1000}
    clock.now = 2.0
    progress.moved(200)
    assert progress.told() == {"bytes": 600, "total": 1000, "bytesPerSecond": 100, "secondsLeft": 4}


def test_speed_is_that_of_late():
    clock = Clock()
    progress = Progress(clock)
    progress.expect(total=10_000, there=0)
    for _ in range(100):
        clock.now += 1
        progress.moved(90)
    for _ in range(40):
        clock.now += 1
        progress.moved(10)
    assert progress.told()["bytesPerSecond"] == 10


def test_what_is_waited_out_is_told_until_bytes_come():
    progress = Progress()
    progress.handle(logging.LogRecord("x", logging.WARNING, "", 0, "HTTP %d", (429,), None))
    assert progress.told() == {"waits": "HTTP 429"}
    progress.moved(1)
    assert progress.told() == {}


def test_it_answers_on_its_port_meanwhile():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    progress = Progress()
    progress.expect(10, 5)
    with answering(progress, port):
        assert json.loads(httpx.get(f"http://127.0.0.1:{port}/progress", trust_env=False).text)["bytes"] == 5
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 404
