"""A long row of requests within and outside of the schema, and streams cut in the middle: no 5xx, no hang, no block in
use afterwards, and memory stays flat.

A slice of it runs here; `make soak` sets OCTAVO_SOAK, sends over 20,000 to the scripted engine and hundreds to the real
one, and prints what docs/reliability.md records."""

import os
import socket
import struct
import time
from collections import Counter
from itertools import pairwise

import httpx
import psutil
import pytest
from patience import PATIENCE, eventually
from schema_cases import BODIES, KINDS, operations, send_cases

pytestmark = pytest.mark.slow

SOAK = os.environ.get("OCTAVO_SOAK") == "1"
QUARTERS = 4
# For each kind of server: cases of each kind in a quarter, streams cut on each route in a quarter, and what the server
# may gain in a quarter after the first, which fills what is kept for things met once; a slice is all warm-up.
SCRIPTED = (300, 25, 16 * 2**20) if SOAK else (5, 3, 128 * 2**20)
REAL = (10, 6, 32 * 2**20)
TALE = "[slow] Tell a long tale of the sea."
STREAMS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": TALE}], "max_tokens": 60, "ignore_eos": True},
    "/v1/completions": {"prompt": TALE, "max_tokens": 60, "ignore_eos": True},
    "/v1/responses": {"input": TALE, "max_output_tokens": 60, "store": False},
    "/v1/messages": {"messages": [{"role": "user", "content": TALE}], "max_tokens": 60},
}
# The process that compiles grammars starts with the first, a hundred MiB that no leak should hide behind.
GRAMMAR = {"model": "smollm2", "prompt": "Once", "max_tokens": 4, "structured_outputs": {"regex": "[a-z]+"}}


def cut_streams(server, count: int) -> int:
    """On each route opens `count` streams, reads the head and the first events of each, and is gone: by turns the
    connection is closed and reset."""
    host, port = server.url.removeprefix("http://").split(":")
    for path, body in STREAMS.items():
        request = httpx.Request("POST", f"{server.url}{path}", json={"model": "smollm2", "stream": True, **body})
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        clients = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(count)]
        for client in clients:
            client.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
        for number, client in enumerate(clients):
            seen = b""
            while b"data: " not in seen:
                received = client.recv(4096)
                assert received, seen
                seen += received
            assert seen.startswith(b"HTTP/1.1 200"), seen
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    return count * len(STREAMS)


def ask(server, path: str, body: dict) -> httpx.Response:
    """The answer to a good request."""
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


def wait_until_idle(server) -> None:
    """No request and no block is in use."""
    names = ("octavo_requests_running", "octavo_requests_waiting", "octavo_kv_cache_usage_ratio")
    eventually(
        lambda: not any(server.metric(name) for name in names),
        lambda: f"none in use: { {name: server.metric(name) for name in names} }",
    )


def memory(server) -> int:
    """Bytes that the server's processes hold."""
    parent = psutil.Process(server.process.pid)
    return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


def soak(server, examples: int, cuts: int, flat_bytes: int) -> str:
    """All of it, in QUARTERS; the line for docs/reliability.md."""
    began, memory_at, cut, statuses = time.monotonic(), [], 0, Counter()
    published = operations(server.url)
    ask(server, "/v1/completions", GRAMMAR)
    aborted = server.metric("octavo_requests_total", status="aborted")
    for quarter in range(QUARTERS):
        for path, mode in KINDS:
            statuses += send_cases(published[path], mode, examples, number=quarter)
        cut += cut_streams(server, cuts)
        wait_until_idle(server)
        memory_at.append(memory(server))
    grown = [after - before for before, after in pairwise(memory_at)]
    answer = ask(server, "/v1/chat/completions", BODIES["/v1/chat/completions"])
    assert answer.json()["usage"]["completion_tokens"] > 0
    assert server.metric("octavo_requests_total", status="aborted") >= aborted + cut
    assert max(grown) < flat_bytes, grown
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    assert not [line for line in server.log if "Traceback" in line or "Error" in line]
    assert server.process.stderr.read() == ""
    seconds = time.monotonic() - began
    answers = ", ".join(f"{count:,} with {status}" for status, count in sorted(statuses.items()))
    return (
        f"{statuses.total():,} cases ({answers}), {cut} streams cut, {seconds:.0f} s; blocks in use at "
        f"the end: 0; memory {memory_at[0] / 2**20:.0f} MiB after the first quarter, then "
        + ", ".join(f"{quarter / 2**20:+.1f} MiB" for quarter in grown)
    )


@pytest.mark.timeout(3600)
def test_nothing_is_left_behind(start_scripted, capsys):
    server = start_scripted()
    server.wait_ready()
    said = soak(server, *SCRIPTED)
    if SOAK:
        with capsys.disabled():
            print(f"\nserver soak, scripted engine: {said}")


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SOAK, reason="minutes long: make soak")
def test_the_real_engine_is_left_with_nothing(start_real, capsys):
    # A small cache: the memory of a large one comes as it is first used, for the whole run.
    server = start_real("--max-model-len", "128", "--kv-cache-memory", "24Mi")
    server.wait_ready()
    said = soak(server, *REAL)
    with capsys.disabled():
        print(f"\nserver soak, real engine: {said}")
