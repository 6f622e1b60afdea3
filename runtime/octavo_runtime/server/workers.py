"""`octavo serve --api-workers N`: one process that owns the engine, and N that serve HTTP on one socket.

They are one server: when one of them ends, all do. Each has its supervisor on the other end of a socket pair: it says
READY there once, hears the same when all of them did, and at last why the engine is gone. What their metrics count lies
in a folder that all of them read (prometheus_client's multiprocess mode)."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import uvloop

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.engine_process.client import EngineClient, EngineFailure
from octavo_runtime.engine_process.own_folder import own_folder
from octavo_runtime.models.loading.files import default_name, locate
from octavo_runtime.protocol import logs
from octavo_runtime.protocol.interrupts import interrupts_blocked
from octavo_runtime.server.access.keys import ENVIRONMENT, ApiKeys
from octavo_runtime.server.http.connection import allow_open_files
from octavo_runtime.server.http.listener import address, listen
from octavo_runtime.server.http.tls import load_tls
from octavo_runtime.server.observe.metrics import METRICS_FOLDER
from octavo_runtime.server.signals import Signals

READY = b"ready"

FAILED = 1
BAD_ARGUMENT = 2

_LAST_WORDS_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    line: socket.socket

    async def ready(self) -> bool:
        """Whether it came to serve; False where it ended before."""
        return await asyncio.get_running_loop().sock_recv(self.line, len(READY)) == READY

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait)


def supervise(config: EngineConfig, server: ServerConfig, engine_program: str) -> int:
    """Serves a model by `server.api_workers` API processes; arguments and exit code as of serve.serve."""
    logs.configure(server.log_format, server.log_level)
    # What a person got wrong is told once, here.
    ApiKeys(server, os.environ.get(ENVIRONMENT, ""))
    load_tls(server)
    allow_open_files(server.max_connections)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(config, server, engine_program))


async def _supervise(config: EngineConfig, server: ServerConfig, engine_program: str) -> int:
    began = time.monotonic()
    try:
        listener = listen(server.host, server.port)
    except OSError as error:
        _log.critical("cannot listen on %s port %s: %s", server.host, server.port, error.strerror)
        return FAILED
    signals = Signals()
    engine = EngineClient(engine_program)
    names = server.served_name or [default_name(config.model)]
    _log.info("listening on %s for %s", address(server, listener), ", ".join(names))
    with own_folder() as metrics, listener:
        workers: list[_Worker] = []
        try:
            files = await asyncio.to_thread(locate, config.model)
            local = config.model_copy(update={"model": str(files.gguf or files.folder)})
            running = asyncio.create_task(_run_engine(engine, local))
            each = server.model_copy(update={"api_workers": 1, "api_key": []})
            environment = {**os.environ, METRICS_FOLDER: str(metrics), ENVIRONMENT: _keys(server)}
            given = (config.model, local, each, engine.endpoint, listener, environment)
            workers = [_start(*given) for _ in range(server.api_workers)]
            return await _until_the_end(engine, workers, running, signals, began)
        except ValueError as error:
            _log.critical("%s", error)
            return BAD_ARGUMENT
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
                worker.line.close()
            await engine.stop()


def _keys(server: ServerConfig) -> str:
    """The keys that the command line and the environment give, as the environment does."""
    given = [os.environ.get(ENVIRONMENT, ""), *(key.get_secret_value() for key in server.api_key)]
    return ",".join(filter(None, given))


def _start(
    model: str,
    config: EngineConfig,
    server: ServerConfig,
    endpoint: str,
    listener: socket.socket,
    environment: dict[str, str],
) -> _Worker:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    numbers = (listener.fileno(), theirs.fileno())
    arguments = [model, config.model_dump_json(), server.model_dump_json(), endpoint, *map(str, numbers)]
    with theirs, interrupts_blocked():
        process = subprocess.Popen(
            [sys.executable, "-m", "octavo_runtime.server.worker", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=numbers,
            env=environment,
        )
    return _Worker(process, ours)


async def _run_engine(engine: EngineClient, config: EngineConfig) -> str:
    """Starts the engine and waits for its death; one line that says why."""
    try:
        await engine.start(config)
    except EngineFailure as error:
        return str(error)
    return await engine.wait_failed()


async def _until_the_end(
    engine: EngineClient, workers: list[_Worker], running: asyncio.Task[str], signals: Signals, began: float
) -> int:
    ends = [asyncio.create_task(worker.ended()) for worker in workers]
    greeting = asyncio.create_task(_greet(engine, workers, began))
    await asyncio.wait((running, signals.task, *ends), return_when=asyncio.FIRST_COMPLETED)
    greeting.cancel()
    if running.done():
        _tell(workers, running.result())
        await _within(_LAST_WORDS_SECONDS, ends)
        return BAD_ARGUMENT if engine.refused else FAILED
    if signals.task.done():
        return await _drain(workers, ends, running, signals)
    code = next(end.result() for end in ends if end.done())
    if code != BAD_ARGUMENT:  # it has said itself what is wrong
        _log.critical("an API process ended with exit code %s", code)
    _signal(workers, signal.SIGTERM)
    await _within(_LAST_WORDS_SECONDS, ends)
    return code if code > 0 else FAILED


async def _drain(
    workers: list[_Worker], ends: list[asyncio.Task[int]], running: asyncio.Task[str], signals: Signals
) -> int:
    """Hands the signals on until every API process has ended."""
    handed_on, told = 0, False
    while True:
        if signals.count > handed_on:
            _signal(workers, signal.SIGTERM)
            handed_on = signals.count
        if running.done() and not told:
            _tell(workers, running.result())
            told = True
        _, going_on = await asyncio.wait(ends, timeout=0.1)
        if not going_on:
            return FAILED if told else max(_code(end.result()) for end in ends)


def _code(ended: int) -> int:
    """The exit code that a process's end means where it was told to: SIGTERM may reach it before it takes signals
    over."""
    if ended == -signal.SIGTERM:
        return 0
    return ended if ended >= 0 else FAILED


def _tell(workers: list[_Worker], failure: str) -> None:
    """Lets people and the API processes know why the engine is gone."""
    _log.critical("%s", failure)
    _send(workers, failure.encode())


async def _greet(engine: EngineClient, workers: list[_Worker], began: float) -> None:
    """Lets people and the API processes know that the server is ready, once every API process is."""
    if all(await asyncio.gather(*(worker.ready() for worker in workers))) and engine.ready is not None:
        ready = engine.ready
        _send(workers, READY)
        _log.info(
            "ready in %.1f s: %s API processes on %s, %s, up to %s tokens a request",
            time.monotonic() - began, len(workers), ready.device, ready.dtype, ready.max_model_len,
        )  # fmt: skip


def _send(workers: list[_Worker], message: bytes) -> None:
    for worker in workers:
        with contextlib.suppress(OSError):  # it may have ended
            worker.line.send(message)


def _signal(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(number)


async def _within(seconds: float, ends: list[asyncio.Task[int]]) -> None:
    if (await asyncio.wait(ends, timeout=seconds))[1]:
        _log.warning("API processes did not end within %s s", seconds)
