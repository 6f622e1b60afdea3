"""A model on several nodes, which are processes of this machine here: the tokens are one process's, and whoever is gone
is named and ends all."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from children import children
from patience import PATIENCE, eventually
from small_models import make_engine, random_prompts, run, save, shape, tokens_of

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.flags import engine_flags
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine_process.client import EngineClient, EngineFailure
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.worker import nodes
from octavo_runtime.worker.executor import make_executor
from octavo_runtime.worker.follower import RankFailed, start_ranks_of
from octavo_runtime.worker.further import start_further
from octavo_runtime.worker.line import line_of
from octavo_runtime.worker.nodes import Hello, Welcome, address_of_first, fingerprint, gather_nodes

pytestmark = pytest.mark.slow

MODEL = shape(heads=4, kv_heads=2, head_dim=16, tied=True)
CONFIG = {"device": "cpu", "dtype": "float32", "kv_cache_memory": "64Ki", "max_model_len": 128, "nnodes": 2}
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
LIMIT_SECONDS = 60.0  # in which all ends once one is gone, however busy the machine is


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("model")
    save(MODEL, found)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class OtherNode:
    """`octavo serve` of node 1."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, **config: Any) -> None:
        self.port = free_port()
        words = [str(folder), *engine_flags(CONFIG | config | {"node_rank": 1}), "--port", str(self.port)]
        command = [sys.executable, "-m", "octavo_runtime", "serve", *words]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | (environment or {}),
        )

    def health(self, of: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/{of}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0

    @property
    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def end(self) -> tuple[int, str]:
        """Its exit code and what it has logged."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@contextmanager
def node_one(folder: Path, **config: Any) -> Iterator[OtherNode]:
    node = OtherNode(folder, **config)
    yield node
    assert node.process.poll() is not None, "the node goes on"


@contextmanager
def two_nodes(folder: Path, ranks: int = 2, **more: Any) -> Iterator[tuple[Engine, OtherNode]]:
    """The engine of node 0, in this process, and node 1, whose ranks are gone at the end."""
    config = {"tensor_parallel_size": ranks, "master_port": free_port(), **more}
    with node_one(folder, **config) as node:
        engine = make_engine(folder, **CONFIG, **config)
        processes = node.ranks
        assert len(processes) == ranks // 2
        yield engine, node
        del engine
        eventually(lambda: not any(each.is_running() for each in processes), "the ranks end with their node")


def step_forever(engine: Engine) -> None:
    while True:
        engine.add_request("0", random_prompts(20)[0], SamplingParams(temperature=0.0, max_tokens=100))
        while engine.has_work:
            engine.step()


def step_until_it_fails(engine: Engine) -> tuple[str, float]:
    """The line, and how many seconds it took."""
    began = time.monotonic()
    with pytest.raises(RankFailed) as failed:
        step_forever(engine)
    return str(failed.value), time.monotonic() - began


def expected_tokens(folder: Path, prompts: list[list[int]]) -> list[Any]:
    """Of one process."""
    return [tokens_of(each) for each in run(make_engine(folder, **CONFIG | {"nnodes": 1}), prompts, GREEDY)]


def test_two_nodes_draw_what_one_process_draws(folder: Path) -> None:
    prompts = random_prompts(1, 5, 60, 100, 33)
    expected = expected_tokens(folder, prompts)
    with two_nodes(folder) as (engine, node):
        assert (node.health("live"), node.health("ready")) == (200, 200)
        assert [tokens_of(each) for each in run(engine, prompts, GREEDY)] == expected
        node.process.send_signal(signal.SIGTERM)  # answers that are being made come to their end
        assert [tokens_of(each) for each in run(engine, prompts, GREEDY)] == expected
        del engine
        code, said = node.end()
        assert code == 0, said


def test_two_nodes_of_two_ranks_draw_the_same_and_end_where_one_of_the_first_node_does(folder: Path) -> None:
    prompts = random_prompts(1, 5, 60, 100, 33)
    expected = expected_tokens(folder, prompts)
    with two_nodes(folder, 4) as (engine, node):
        assert [tokens_of(each) for each in run(engine, prompts, GREEDY)] == expected
        [lost] = children("octavo_runtime.worker.rank")
        lost.kill()
        line, _ = step_until_it_fails(engine)
        assert line == f"rank 1 of 4 (process {lost.pid}) ended with exit code -9"
        code, said = node.end()
        assert (code, line in said) == (1, True), said
        assert "Traceback" not in said, "its ranks are not at fault"
        del engine


def test_a_rank_of_another_node_that_is_killed_is_named_on_both(folder: Path) -> None:
    with two_nodes(folder) as (engine, node):
        [lost] = node.ranks
        lost.kill()
        line, seconds = step_until_it_fails(engine)
        named = f"rank 1 of 2 (process {lost.pid}) ended with exit code -9"
        assert line == f"node 1 of 2 (127.0.0.1): {named}"
        assert seconds < LIMIT_SECONDS
        code, said = node.end()
        assert (code, named in said) == (1, True), said
        del engine


def test_a_node_that_is_killed_is_named(folder: Path) -> None:
    with two_nodes(folder) as (engine, node):
        node.process.kill()
        line, seconds = step_until_it_fails(engine)
        assert line == "node 1 of 2 (127.0.0.1) is gone"
        assert seconds < LIMIT_SECONDS
        node.end()
        del engine


async def ask_until_it_fails(client: EngineClient, config: EngineConfig, hang: Callable[[], None]) -> tuple[str, float]:
    """The line that clients get, and how many seconds it took after the hang."""
    await client.start(config)
    hang()
    began = time.monotonic()
    try:
        async for output in client.generate("0", random_prompts(20)[0], GREEDY):
            assert output.error is None
    except EngineFailure as failure:
        return str(failure), time.monotonic() - began
    finally:
        await client.stop()
    raise AssertionError("it does not fail")


def test_a_node_that_hangs_is_named(folder: Path) -> None:
    """Nothing ends what the first rank waits for, so its process ends, and says why before."""
    config = config_of(folder, master_port=free_port())
    with node_one(folder, tensor_parallel_size=2, master_port=config.master_port) as node:
        hung: list[psutil.Process] = []

        def hang() -> None:
            hung.extend([psutil.Process(node.process.pid), *node.ranks])
            for process in hung:
                process.suspend()

        async def ask() -> tuple[str, float]:
            return await ask_until_it_fails(EngineClient(), config, hang)

        line, seconds = asyncio.run(ask())
        assert line == "node 1 of 2 (127.0.0.1) said nothing for 7 s"
        assert seconds < LIMIT_SECONDS
        for process in hung:
            process.resume()
        code, said = node.end()
        assert code == 1, said
        assert not any(process.is_running() for process in hung)


def test_a_rank_that_cannot_join_ends_the_others_that_wait_for_it(folder: Path) -> None:
    config = config_of(folder, master_port=free_port())
    environment = {"GLOO_SOCKET_IFNAME": "nosuch"}
    with node_one(folder, environment=environment, tensor_parallel_size=2, master_port=config.master_port) as node:

        async def start() -> None:
            client = EngineClient()
            try:
                await client.start(config)
            finally:
                await client.stop()

        with pytest.raises(EngineFailure, match=r"^node 1 of 2 \(127.0.0.1\): rank 1 of 2 .* address for: nosuch"):
            asyncio.run(start())
        code, said = node.end()
        assert (code, "address for: nosuch" in said) == (1, True), said


def config_of(folder: Path, **config: Any) -> EngineConfig:
    return EngineConfig.model_validate({"model": str(folder), "tensor_parallel_size": 2, **CONFIG, **config})


def test_a_node_that_was_told_otherwise_is_refused(folder: Path) -> None:
    port = free_port()
    config = config_of(folder, master_port=port)
    waiting = threading.Thread(target=lambda: gather_nodes(config, locate(str(folder)), "127.0.0.1", 1), daemon=True)
    waiting.start()
    with node_one(folder, tensor_parallel_size=2, master_port=port, max_model_len=64) as node:
        code, said = node.end()
        assert code == 2, said
        assert "max_model_len: must be 128, as of node 0, got 64" in said
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1) == b""
    end = socket.create_connection(("127.0.0.1", port))
    line = line_of(end)
    settings = config.model_dump_json(exclude={"model", "node_rank"})
    line.say(msgspec.msgpack.encode(Hello(1, "0", settings, fingerprint(locate(str(folder))))))
    assert b"version: must be" in line.hear(PATIENCE)
    line.cut()
    assert waiting.is_alive()


def test_a_node_ends_with_the_first_one(folder: Path) -> None:
    port = free_port()
    with node_one(folder, tensor_parallel_size=2, master_port=port) as node:
        assert eventually(lambda: node.health("live"), "it answers") == 200
        assert node.health("ready") == 503
        [first] = gather_nodes(config_of(folder, master_port=port), locate(str(folder)), "127.0.0.1", 1)
        [rank] = eventually(lambda: node.ranks, "its rank starts")
        first.let_go("the engine was stopped")
        code, said = node.end()
        assert code == 1
        assert f"node 0 (127.0.0.1 port {port}): the engine was stopped" in said
        assert not rank.is_running()


def test_a_node_does_not_wait_for_a_first_one_that_hangs(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with node_one(folder, tensor_parallel_size=2, master_port=port) as node:
            end, _ = listener.accept()
            line = line_of(end)
            assert msgspec.msgpack.decode(line.hear(PATIENCE), type=Hello).node_rank == 1
            line.say(msgspec.msgpack.encode(Welcome(1)))
            code, said = node.end()
            assert code == 1
            assert f"node 0 (127.0.0.1 port {port}) said nothing for 7 s" in said


def test_a_node_that_calls_somebody_else_says_so(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with node_one(folder, tensor_parallel_size=2, master_port=port) as node:
            end, _ = listener.accept()
            line_of(end).say(b"hello")
            code, said = node.end()
            assert code == 2, said
            assert f"master_addr: must lead to node 0, got 127.0.0.1 port {port}, where something else answers" in said


def test_a_signal_ends_a_node_that_waits(folder: Path) -> None:
    with node_one(folder, tensor_parallel_size=2, master_port=free_port()) as node:
        eventually(lambda: node.health("live") == 200, "it answers")
        node.process.terminate()
        code, said = node.end()
        assert code == 0, said


def test_other_nodes_are_served_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="node_rank: must be 0 but for `octavo serve`, got 1"):
        make_executor(config_of(folder, node_rank=1), locate(str(folder)))


def test_a_rank_that_is_gone_while_nodes_are_awaited_is_named(folder: Path) -> None:
    config = config_of(folder, tensor_parallel_size=4, master_port=free_port())
    further = start_further(config, locate(str(folder)))
    [lost] = children("octavo_runtime.worker.rank")
    lost.kill()
    with pytest.raises(RankFailed, match=rf"rank 1 of 4 \(process {lost.pid}\) ended with exit code -9"):
        make_executor(config, locate(str(folder)), further)


def test_where_a_rank_cannot_be_started_none_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = subprocess.Popen, list[Any]()

    def refuse_the_second(*words: Any, **options: Any) -> Any:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(start(*words, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", refuse_the_second)
    with pytest.raises(RankFailed, match="rank 2 of 4 cannot be started: Resource temporarily unavailable"):
        start_ranks_of(config_of(folder, tensor_parallel_size=4), range(1, 4))
    assert started[0].returncode is not None


def test_the_first_nodes_address_must_be_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of_first(config_of(folder, master_addr="localhost")) in ("127.0.0.1", "::1")
    monkeypatch.setattr(nodes, "_NAME_SECONDS", 0.0)
    with pytest.raises(RankFailed, match=r"master_addr: must lead to node 0, got '192.0.2.1': 192.0.2.1 is no address"):
        address_of_first(config_of(folder, master_addr="192.0.2.1"))
