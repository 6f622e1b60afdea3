"""Servers as processes of their own: with the scripted engine, and with the real one."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

MODEL = "builtin://smollm2"
SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "serve"]
# float32: answers must not depend on what else is in the batch.
REAL = [sys.executable, "-m", "octavo_runtime", "serve", MODEL, "--dtype", "float32", "--max-model-len", "2048"]
# A proxy of the surroundings must not see requests to 127.0.0.1.
ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@dataclass
class Server:
    """A running server. url: ends without a slash, before /v1."""

    process: subprocess.Popen[str]
    url: str

    def wait_ready(self, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while httpx.get(f"{self.url}/health/ready", trust_env=False).status_code != 200:
            assert self.process.poll() is None, "the server ended before it was ready"
            assert time.monotonic() < end, f"not ready after {seconds} s"
            time.sleep(0.05)

    def metric(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        for line in text.splitlines():
            if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {name} {labels} in:\n{text}")


def start(command: list[str]) -> Server:
    """Starts a server on a free port and reads its address from its first line."""
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout
    line = process.stdout.readline()
    match = re.search(r"http://\S+:\d+", line)
    if match is None:
        process.kill()
        raise AssertionError(f"no address in the first line {line!r}; {process.communicate()[1]}")
    return Server(process, match[0])


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.terminate()
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            server.process.kill()
    server.process.communicate()


@pytest.fixture
def scripted_command() -> list[str]:
    """`octavo serve` with the scripted engine, without its arguments."""
    return SCRIPTED


@pytest.fixture(scope="session")
def scripted() -> Iterator[Server]:
    """One server with the scripted engine, for tests that leave it alive."""
    server = start([*SCRIPTED, MODEL])
    server.wait_ready()
    yield server
    end(server)


@pytest.fixture(scope="session")
def real() -> Iterator[Server]:
    """One server with the real engine and model."""
    server = start(REAL)
    server.wait_ready()
    yield server
    end(server)


@pytest.fixture(params=["scripted", "real"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both kinds of server, one after the other."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def start_scripted() -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own, with further arguments."""
    servers: list[Server] = []

    def starter(*arguments: str) -> Server:
        servers.append(start([*SCRIPTED, MODEL, *arguments]))
        return servers[-1]

    yield starter
    for one in servers:
        end(one)
