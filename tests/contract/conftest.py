"""Servers as processes of their own: with the scripted engine, and with the real one."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE, eventually

from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder

MODEL = "builtin://smollm2"
SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "serve"]
# float32: answers must not depend on what else is in the batch.
REAL = [sys.executable, "-m", "octavo_runtime", "serve", MODEL, "--dtype", "float32", "--max-model-len", "2048"]
# A proxy of the surroundings must not see requests to 127.0.0.1.
ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@dataclass
class Server:
    """A running server. url: ends without a slash, before /v1; log: its lines on standard output so far."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the server ended before it was ready; {self.last_words()}"
            try:
                return httpx.get(f"{self.url}/health/ready", trust_env=False, timeout=PATIENCE).status_code == 200
            except httpx.TransportError as error:
                raise AssertionError(f"{error!r} before the server was ready; {self.last_words()}") from error

        eventually(ready, "the server is ready")

    def last_words(self) -> str:
        """What a server that is about to end says of it; one that goes on is ended."""
        try:
            code: object = self.process.wait(5)
        except subprocess.TimeoutExpired:
            code = "none: it went on"
            self.process.kill()
        assert self.process.stderr
        return f"exit code {code}, standard error {self.process.stderr.read()!r}, log {self.log}"

    def metric(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=PATIENCE).text
        for line in text.splitlines():
            if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {name} {labels} in:\n{text}")


def start(command: list[str], **environment: str) -> Server:
    """Starts a server on a free port and reads its address from its first line."""
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environment,
    )
    assert process.stdout
    line = process.stdout.readline()
    match = re.search(r"https?://\S+:\d+", line)
    if match is None:
        process.kill()
        raise AssertionError(f"no address in the first line {line!r}; {process.communicate()[1]}")
    server = Server(process, match[0], [line])
    # Nobody may leave a pipe full: the server would wait for its reader.
    threading.Thread(target=server.log.extend, args=(process.stdout,), daemon=True).start()
    return server


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.terminate()
        try:
            server.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.process.kill()
    server.process.wait()


@pytest.fixture(scope="session", autouse=True)
def authorities_are_read_once() -> Iterator[None]:
    """httpx reads the world's certificate authorities for each client, which takes it 20 ms, for plain HTTP too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))
        yield


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
    """Starts servers of a test's own, with further arguments, and variables of their environment by keyword."""
    yield from _servers([*SCRIPTED, MODEL])


@pytest.fixture
def start_command() -> Iterator[Callable[..., Server]]:
    """As `start_scripted`, for other programs: the arguments are the whole command."""
    yield from _servers([])


@pytest.fixture(scope="module")
def scripted_servers() -> Iterator[Callable[..., Server]]:
    """As `start_scripted`, for servers that the tests of a module share."""
    yield from _servers([*SCRIPTED, MODEL])


@pytest.fixture(scope="module")
def scripted_models() -> Iterator[Callable[..., Server]]:
    """As `scripted_servers`, for other models: the first argument is a model's folder."""
    yield from _servers(SCRIPTED)


@pytest.fixture(scope="module")
def real_models() -> Iterator[Callable[..., Server]]:
    """As `scripted_models`, with the real engine."""
    yield from _servers([*REAL[:4]])


@pytest.fixture(scope="module")
def model_with_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes a folder of a model for the scripted engine: the built-in tokenizer with another chat template."""

    def make(template: str) -> str:
        folder = tmp_path_factory.mktemp("model")
        built_in = tokenizer_folder(locate(MODEL))
        config = json.loads((built_in / "tokenizer_config.json").read_text())
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").symlink_to(built_in / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
        return str(folder)

    return make


@pytest.fixture
def start_real() -> Iterator[Callable[..., Server]]:
    """As `start_scripted`, with the real engine."""
    yield from _servers(REAL)


def _servers(command: list[str]) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def starter(*arguments: str, **environment: str) -> Server:
        servers.append(start([*command, *arguments], **environment))
        return servers[-1]

    yield starter
    for one in servers:
        end(one)
