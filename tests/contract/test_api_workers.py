"""`octavo serve --api-workers`: several API processes that are one server. The engine is the bench's token source."""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import httpx
import psutil
import pytest
from children import children
from event_reader import read
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

MODEL = "builtin://smollm2"
WORKERS = [sys.executable, "-m", "octavo_runtime.bench.frontend_server", MODEL, "--api-workers", "2"]
BODY = {"model": "smollm2", "messages": [{"role": "user", "content": "Go on."}], "ignore_eos": True}


@pytest.fixture
def start_workers(start_command, tmp_path):
    def starter(rate: int, *flags: str):
        server = start_command(*WORKERS, *flags, OCTAVO_BENCH_TOKEN_RATE=str(rate), TMPDIR=str(tmp_path))
        server.wait_ready()
        return server

    return starter


def workers(server) -> list[psutil.Process]:
    return children("octavo_runtime.server.worker", server.process.pid)


def stream(server, tokens: int) -> list[Any]:
    """The data of each event."""
    body = {**BODY, "max_tokens": tokens, "stream": True}
    with httpx.stream(
        "POST", f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE, trust_env=False
    ) as answer:
        assert answer.status_code == 200
        return [event.data for event in read(answer.iter_lines())]


def begin(server, tokens: int) -> tuple[threading.Thread, list[Any]]:
    events: list[Any] = []
    thread = threading.Thread(target=lambda: events.extend(stream(server, tokens)))
    thread.start()
    eventually(lambda: server.metric("octavo_generation_tokens_total") >= 3, "tokens come")
    return thread, events


def ready(server) -> int | None:
    """None where the worker that took the question ended over it: who has nothing under way ends before the others."""
    try:
        return httpx.get(f"{server.url}/health/ready", timeout=PATIENCE, trust_env=False).status_code
    except (httpx.ReadError, httpx.RemoteProtocolError):
        return None


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


def test_both_serve_and_each_tells_of_both(start_workers):
    server = start_workers(0)
    both = workers(server)
    assert len(both) == 2

    def connections() -> set[int]:
        return {one.pid for one in both if any(c.status == "ESTABLISHED" for c in one.net_connections("tcp"))}

    clients: list[httpx.Client] = []
    # Who of them takes a connection is the kernel's choice.
    while connections() != {one.pid for one in both}:
        assert len(clients) < 300
        clients.append(httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE))
        answer = clients[-1].post("/v1/chat/completions", json={**BODY, "max_tokens": 3})
        assert answer.json()["usage"]["completion_tokens"] == 3
    asked = len(clients)
    for client in clients:
        client.close()
    for _ in range(10):
        assert server.metric("octavo_requests_total", status="success") == asked
        assert server.metric("octavo_generation_tokens_total") == 3 * asked
        assert server.metric("octavo_request_duration_seconds_count") == asked


def test_ready_means_that_both_are(start_command):
    server = start_command(*WORKERS, OCTAVO_BENCH_TOKEN_RATE="0")
    eventually(lambda: len(workers(server)) == 2)
    slow = workers(server)[1]
    slow.suspend()  # long before it has its model
    with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as client:
        body = {**BODY, "max_tokens": 1}
        eventually(lambda: client.post("/v1/chat/completions", json=body).status_code == 200, "the other answers")
        assert client.get("/health/ready").json() == {"status": "loading"}
    slow.resume()
    server.wait_ready()
    for _ in range(20):  # a connection each: the kernel chooses who gets it
        assert len(stream(server, 1)) > 1


def test_each_answers_to_what_the_server_was_told(start_workers):
    server = start_workers(0)
    names = {"smollm2", "builtin://smollm2"}
    for name in names:
        answer = httpx.post(
            f"{server.url}/v1/chat/completions", json={**BODY, "model": name, "max_tokens": 1}, trust_env=False
        )
        assert answer.json()["model"] == name, answer.text
    listed = httpx.get(f"{server.url}/v1/models", trust_env=False).json()["data"]
    assert [model["id"] for model in listed] == ["smollm2"]


def test_sigterm_lets_streams_end_and_leaves_nothing(start_workers):
    server = start_workers(50)
    family = psutil.Process(server.process.pid).children(recursive=True)
    thread, events = begin(server, 60)
    server.process.send_signal(signal.SIGTERM)
    thread.join(PATIENCE)
    assert events[-1] == "[DONE]"
    assert sum("content" in event["choices"][0]["delta"] for event in events[:-1]) >= 10
    assert server.process.wait(PATIENCE) == 0
    assert gone(family)


def test_a_second_sigterm_ends_at_once(start_workers):
    server = start_workers(20, "--drain", "600s")
    thread, events = begin(server, 4000)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: {ready(server) for _ in range(10)} == {503}, "both have heard the first one")
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    thread.join(PATIENCE)
    assert events[-1]["error"]["code"] == "service_unavailable"


@pytest.mark.parametrize("program", ["octavo_runtime.bench.token_source", "octavo_runtime.server.worker"])
def test_they_end_together(start_workers, program):
    server = start_workers(20)
    family = psutil.Process(server.process.pid).children(recursive=True)
    thread, events = None, []
    if program.endswith("token_source"):
        thread, events = begin(server, 4000)
    children(program, server.process.pid)[0].kill()
    assert server.process.wait(PATIENCE) == 1
    assert gone(family)
    if thread:
        thread.join(PATIENCE)
        error = events[-1]["error"]
        assert error["code"] == "engine_error"
        assert "ended with exit code -9" in error["message"]


def test_they_end_with_a_supervisor_that_is_killed(start_workers):
    server = start_workers(20)
    family = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(server.process.pid, signal.SIGKILL)
    assert gone(family)


def test_the_next_one_removes_what_a_killed_one_left(start_workers, tmp_path):
    folders = []
    for _ in range(2):
        server = start_workers(20)
        folders.append({each.name for each in tmp_path.glob("octavo-*")})
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        assert gone(family)
    assert folders[0]
    assert not folders[0] & folders[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--api-workers", "0"], "octavo: api_workers: input should be greater than or equal to 1, got '0'"),
        (["--api-workers", "2", "--api-key", "short"], "octavo: api_key"),
        (["--api-workers", "2", "--tls-cert", "/nowhere"], "octavo: tls_"),
    ],
)
def test_bad_settings_are_one_line(arguments, line):
    command = [sys.executable, "-m", "octavo_runtime", "serve", MODEL, "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    [said] = (done.stdout + done.stderr).strip().splitlines()
    assert said.startswith(line)
