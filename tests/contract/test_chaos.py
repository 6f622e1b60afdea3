"""What clients see when things go wrong under a real server and engine: the table in docs/reliability.md.

OCTAVO_SOAK=1 lets ten times as many clients vanish, adds what needs servers of its own, and writes the table."""

import json
import os
import selectors
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from children import children
from event_reader import read
from patience import PATIENCE, eventually

from octavo_runtime.engine_process.client import SILENT_SECONDS

pytestmark = pytest.mark.slow

SOAK = os.environ.get("OCTAVO_SOAK") == "1"
WAVES, WAVE = (10 if SOAK else 1), 100
RUNNING, WAITING = 32, WAVE + 20
LONG = {"model": "smollm2", "prompt": "Once", "max_tokens": 1500, "ignore_eos": True}
SHORT = {**LONG, "max_tokens": 40}
DAY = 86_400
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->\n", "<!-- chaos: end -->\n"
HEADER = (
    "| what happens | a stream under way sees | a whole answer under way sees | a new request sees | afterwards |\n"
    "|---|---|---|---|---|\n"
)
# A wall clock that a test can set; processes that the server starts inherit it.
CLOCK = """
import os, time
def offset():
    with open(os.environ["OCTAVO_TEST_CLOCK"]) as file:
        return int(file.read() or 0)
time_, time_ns = time.time, time.time_ns
time.time = lambda: time_() + offset()
time.time_ns = lambda: time_ns() + offset() * 10**9
"""


class Asked(threading.Thread):
    """A request in the background; `begun` once a stream's first event is there."""

    def __init__(self, server, *, stream: bool, body: dict = LONG) -> None:
        super().__init__(daemon=True)
        self.begun, self.events, self.seen = threading.Event(), [], ""
        self._url, self._body = f"{server.url}/v1/completions", body | {"stream": stream}
        self.start()
        if stream:
            assert self.begun.wait(PATIENCE)

    def run(self) -> None:
        try:
            with httpx.stream("POST", self._url, json=self._body, timeout=PATIENCE, trust_env=False) as response:
                if self._body["stream"] and response.status_code == 200:
                    for event in read(response.iter_lines()):
                        self.events.append(event.data)
                        self.begun.set()
                    self.seen = last_event(self.events)
                else:
                    response.read()
                    self.seen = answer(response)
        except httpx.TransportError:
            self.seen = "the connection breaks"

    def result(self) -> str:
        self.join(PATIENCE)
        assert not self.is_alive(), "it hangs"
        return self.seen


def last_event(events: list[Any]) -> str:
    if events[-1] == "[DONE]":
        return "all its tokens"
    return f"an error event, `{events[-1]['error']['code']}`"


def answer(response: httpx.Response) -> str:
    if response.status_code == 200:
        return "HTTP 200"
    retry = f", Retry-After {response.headers['Retry-After']}" if "Retry-After" in response.headers else ""
    return f"HTTP {response.status_code} `{response.json()['error']['code']}`{retry}"


def ask(server, body: dict = SHORT) -> str:
    return answer(httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False))


def health(server, which: str) -> int:
    return httpx.get(f"{server.url}/health/{which}", timeout=PATIENCE, trust_env=False).status_code


def engine_of(server) -> psutil.Process:
    [engine] = children("octavo_runtime.engine_process.process", server.process.pid, recursive=True)
    return engine


def in_the_engine(server) -> float:
    return server.metric("octavo_requests_running") + server.metric("octavo_requests_waiting")


def all_blocks_are_free(server) -> str:
    eventually(lambda: in_the_engine(server) == 0)
    blocks = httpx.get(f"{server.url}/debug/blocks", timeout=PATIENCE, trust_env=False).json()
    assert sum(blocks["references"]) == 0
    assert blocks["tables"] == {}
    return "no block is held"


def open_streams(server, count: int) -> list[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(LONG | {"stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    request = f"{head}Content-Type: application/json\r\n\r\n".encode() + content
    streams = []
    for _ in range(count):
        streams.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
        streams[-1].sendall(request)
    return streams


def heads(streams: list[socket.socket], wanted: int) -> dict[socket.socket, bytes]:
    """The beginnings of the first `wanted` responses to come."""
    got: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        end = time.monotonic() + PATIENCE
        while len(got) < wanted:
            assert time.monotonic() < end, f"{len(got)} responses of {wanted}"
            for key, _ in selector.select(1):
                got[key.fileobj] = key.fileobj.recv(4096)
                selector.unregister(key.fileobj)
    return got


def vanish(streams: list[socket.socket]) -> None:
    """Every other client closes its connection, the others reset it."""
    for number, stream in enumerate(streams):
        if number % 2:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()


def the_clock_jumps(server, clock: Path) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True, body=SHORT), Asked(server, stream=False, body=SHORT)
    for jump in (DAY, -DAY):
        clock.write_text(str(jump))
        made = httpx.post(
            f"{server.url}/v1/completions", json={**SHORT, "max_tokens": 1}, trust_env=False, timeout=PATIENCE
        )
        assert abs(made.json()["created"] - time.time() - jump) < DAY / 2, "the server's clock did not jump"
        assert health(server, "live") == 200
    clock.write_text("0")
    seen = stream.result(), whole.result(), ask(server)
    assert server.metric("octavo_request_duration_seconds_sum") < 600
    return "the wall clock jumps by a day, back and forth", *seen, all_blocks_are_free(server)


def clients_vanish(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True, body=SHORT), Asked(server, stream=False, body=SHORT)
    aborted = server.metric("octavo_requests_total", status="aborted")
    for _ in range(WAVES):
        clients = open_streams(server, WAVE)
        begun = heads(clients, RUNNING // 2)
        assert all(head.startswith(b"HTTP/1.1 200") for head in begun.values())
        vanish(clients)
        eventually(lambda: in_the_engine(server) <= 2)
    seen = stream.result(), whole.result(), ask(server)
    free = all_blocks_are_free(server)
    gone = aborted + WAVES * WAVE
    eventually(lambda: server.metric("octavo_requests_total", status="aborted") == gone, "all are counted")
    return "100 clients at a time vanish, in mid-stream and in the queue", *seen, free


def the_queue_is_full(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True, body=SHORT), Asked(server, stream=False, body=SHORT)
    # On a busy machine an answer may be whole before anybody looks.
    eventually(lambda: sum(bool(one.seen) for one in (stream, whole)) + server.metric("octavo_requests_running") >= 2)
    clients: list[socket.socket] = []
    while server.metric("octavo_requests_waiting") < WAITING:
        assert len(clients) < 1000
        clients += open_streams(server, 20)
    clients += open_streams(server, 20)
    new = ask(server)
    seen = stream.result(), whole.result()
    vanish(clients)
    all_blocks_are_free(server)
    assert ask(server) == "HTTP 200"
    return "as many requests wait as may", *seen, new, all_blocks_are_free(server)


def the_engine_hangs(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True), Asked(server, stream=False)
    engine = engine_of(server)
    engine.suspend()
    began = time.monotonic()
    eventually(lambda: health(server, "live") == 503)
    seen = stream.result(), whole.result(), ask(server)
    assert SILENT_SECONDS < 10
    assert time.monotonic() - began < 60, "seconds, however busy the machine is"
    assert health(server, "ready") == 503
    engine.resume()
    # On a busy machine it may be silent for so long again, and a request then sees what it saw before.
    eventually(lambda: health(server, "live") == health(server, "ready") == 200 and ask(server) == "HTTP 200")
    then = f"liveness is red within 10 s; should the engine come back, all is well and {all_blocks_are_free(server)}"
    return "the engine process hangs (SIGSTOP)", *seen, then


def the_engine_dies(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True), Asked(server, stream=False)
    eventually(lambda: server.metric("octavo_requests_running") == 2)
    engine_of(server).kill()
    seen = stream.result(), whole.result()
    code = server.process.wait(PATIENCE)
    said = server.process.stderr.read()
    assert said.endswith("octavo: the engine process ended with exit code -9\n"), said
    return (
        "the engine process dies (SIGKILL)", *seen, "no connection",
        f"the server exits with code {code}, and Kubernetes restarts it",
    )  # fmt: skip


def the_server_is_told_to_end(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True), Asked(server, stream=False)
    engine = engine_of(server)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: health(server, "ready") == 503)
    assert health(server, "live") == 200
    new = ask(server)
    seen = stream.result(), whole.result()
    code = server.process.wait(PATIENCE)
    assert not engine.is_running()
    return "SIGTERM, and the drain time runs out", *seen, new, f"readiness is red at once; exit code {code}"


def the_server_is_killed(server) -> tuple[str, ...]:
    stream, whole = Asked(server, stream=True), Asked(server, stream=False)
    engine = engine_of(server)
    server.process.kill()
    seen = stream.result(), whole.result()
    eventually(lambda: not engine.is_running())
    return "the API process dies (SIGKILL)", *seen, "no connection", "the engine process ends by itself"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_what_clients_see(start_real, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    limits = ["--max-num-seqs", str(RUNNING), "--max-queue-len", str(WAITING), "--no-access-log"]
    server = start_real(*limits, PYTHONPATH=str(tmp_path), OCTAVO_TEST_CLOCK=str(clock))
    server.wait_ready()
    rows = [
        the_clock_jumps(server, clock),
        clients_vanish(server),
        the_queue_is_full(server),
        the_engine_hangs(server),
        the_engine_dies(server),
    ]
    if SOAK:
        for scene, flags in ((the_server_is_told_to_end, ["--drain", "2s"]), (the_server_is_killed, [])):
            own = start_real(*flags)
            own.wait_ready()
            rows.append(scene(own))
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    if SOAK:
        PAGE.write_text(before + BEGIN + HEADER + "".join(lines) + END + after)
    else:
        told = rest.splitlines(keepends=True)
        assert [line for line in lines if line not in told] == []
