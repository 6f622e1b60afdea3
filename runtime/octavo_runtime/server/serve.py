"""`octavo serve`: starts the server and the engine, and ends both in good order."""

import asyncio
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.units import parse_duration
from octavo_runtime.engine_process.client import EngineClient, EngineFailure, EngineRefused
from octavo_runtime.models.loading.files import ModelFiles, default_name, locate, names_as_given
from octavo_runtime.models.rerankers import template_of
from octavo_runtime.protocol import logs
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.access.keys import ENVIRONMENT, ApiKeys
from octavo_runtime.server.app import create_app
from octavo_runtime.server.http.connection import ConnectionBounds, allow_open_files, connection_type
from octavo_runtime.server.http.errors import ApiError, engine_failed
from octavo_runtime.server.http.listener import address, listen
from octavo_runtime.server.http.server import HttpServer
from octavo_runtime.server.http.tls import load_tls
from octavo_runtime.server.node import serve_node
from octavo_runtime.server.observe.metrics import ServerMetrics
from octavo_runtime.server.observe.request_log import RequestLog
from octavo_runtime.server.observe.tracing import Tracing, start_tracing
from octavo_runtime.server.signals import Signals
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.tools.answer_style import answer_style
from octavo_runtime.server.workers import supervise
from octavo_runtime.text.chat_template import ChatTemplate, load_chat_template
from octavo_runtime.text.sampling_defaults import describe, load_sampling_defaults
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FAILED = 1
BAD_ARGUMENT = 2

_LAST_WORDS_SECONDS = 2.0
_HANG_CHECK_SECONDS = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supervised:
    """What server.workers gives to one of several API processes: what the model was named, how it joins the engine that
    they share, the socket that they share, whom to tell that it serves, and whether all of them do."""

    model: str
    join: Callable[[EngineClient], Awaitable[Ready]]
    listener: socket.socket
    tell_ready: Callable[[], object]
    all_serve: Callable[[], bool]


def serve(
    engine: EngineConfig, server: ServerConfig, *, engine_program: str = "octavo_runtime.engine_process.process"
) -> int:
    """Serves a model until a signal or the engine's end. Returns the exit code: 0 after SIGTERM or SIGINT, 1 when the
    engine fails, 2 when the model cannot be found, read or served. engine_program: see EngineClient."""
    if engine.node_rank > 0:
        return serve_node(engine, server)
    if server.api_workers > 1:
        return supervise(engine, server, engine_program)
    return serve_in_process(engine, server, engine_program=engine_program)


def serve_in_process(
    engine: EngineConfig, server: ServerConfig, supervised: Supervised | None = None, *, engine_program: str = ""
) -> int:
    """Serves from this process alone, or as one of several API processes. See `serve`."""
    logs.configure(server.log_format, server.log_level)
    traces = start_tracing(server.otlp_endpoint) if server.otlp_endpoint else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(engine, server, traces, engine_program, supervised))
        finally:
            if traces is not None:
                traces.shutdown()


async def _serve(
    config: EngineConfig,
    server: ServerConfig,
    traces: "TracerProvider | None",
    engine_program: str,
    supervised: Supervised | None,
) -> int:
    # Of several API processes, their supervisor tells of it.
    allow_open_files(server.max_connections, logging.DEBUG if supervised else logging.WARNING)
    keys, tls = ApiKeys(server, os.environ.get(ENVIRONMENT, "")), load_tls(server)
    listeners: list[socket.socket] = [supervised.listener] if supervised else []
    for port in [server.port, server.metrics_port][len(listeners) :]:
        try:
            listeners += [] if port is None else [listen(server.host, port, shared=supervised is not None)]
        except OSError as error:
            return _refuse(f"cannot listen on {server.host} port {port}: {error.strerror}", FAILED)
    signals = Signals()  # before the engine client makes its folder, which a signal's own action would leave
    engine = EngineClient(engine_program)
    model = supervised.model if supervised else config.model
    names = server.served_name or [default_name(model)]
    aliases = frozenset() if server.served_name else names_as_given(model)
    metrics = ServerMetrics(names[0], engine, vllm_names=server.metrics_aliases == "vllm")
    ping_seconds = parse_duration(server.ping_interval)
    state = ServerState(names, engine, metrics, aliases, ping_seconds=ping_seconds, log_prompts=server.log_prompts)
    if supervised:
        state.all_serve = supervised.all_serve
    app = create_app(state, server, keys)
    if traces is not None:
        app = Tracing(app, traces)
    http = HttpServer(
        uvicorn.Config(
            RequestLog(app, access_log=server.access_log, strict=server.strict),
            http=connection_type(ConnectionBounds(server.max_connections, parse_duration(server.client_timeout))),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=math.ceil(parse_duration(server.keep_alive)),
            timeout_graceful_shutdown=5,
        )
    )
    listening = asyncio.create_task(http.serve(sockets=listeners))
    running = asyncio.create_task(_run_model(state, config, server, supervised))
    watching = [asyncio.create_task(watched.watch()) for watched in (keys, tls) if watched is not None]
    watching.append(asyncio.create_task(_watch_for_hang(state)))
    level = logging.DEBUG if supervised else logging.INFO
    _log.log(level, "listening on %s for %s", address(server, listeners[0]), ", ".join(names))

    await asyncio.wait((running, signals.task), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        # The engine is gone: each answer hears so by itself, and tells its client.
        await _wait_for_answers(state, time.monotonic() + _LAST_WORDS_SECONDS, lambda: False)
    else:
        _log.info("stopping: %s requests may go on for up to %s", state.answering, server.drain)
        state.draining = True
        until = time.monotonic() + parse_duration(server.drain)
        await _wait_for_answers(state, until, lambda: signals.count > 1 or running.done())
    ending = running.result() if running.done() else None
    state.cut(ApiError(503, "the server is shutting down", code="service_unavailable"))
    http.should_exit = True
    http.force_exit = signals.count > 1
    await listening
    loading = state.model is None and not running.done()
    for task in (running, *watching):
        task.cancel()
    await engine.stop()
    if loading:
        # A download's threads cannot be cancelled, and the interpreter would wait for them.
        sys.stdout.flush()
        os._exit(0)
    # Last of all, behind the lines about its requests: Kubernetes keeps the end of a container's log.
    if ending is None:
        return 0
    # Where there is a supervisor, that says what became of the engine.
    return FAILED if supervised and ending[1] == FAILED else _refuse(*ending)


async def _run_model(
    state: ServerState, config: EngineConfig, server: ServerConfig, supervised: Supervised | None
) -> tuple[str, int]:
    """Loads the model and stays until the engine fails; why, in one line, and the exit code that this means."""
    metrics, began = state.metrics, time.monotonic()
    try:
        with metrics.startup("total"):
            with metrics.startup("locate"):
                files = await asyncio.to_thread(locate, config.model)
            local = config.model_copy(update={"model": str(files.gguf or files.folder)})
            defaults = load_sampling_defaults(config, files)
            (tokenizer, template), ready, _ = await asyncio.gather(
                asyncio.to_thread(_read_tokenizer, state, config, files),
                _start_engine(state, local, supervised),
                asyncio.to_thread(metrics.gpus.find),
            )
            style = await asyncio.to_thread(answer_style, template, server)
            model = ServedModel(tokenizer, template, ready.max_model_len, ready.vocab_size, style, defaults, ready.task)
            with metrics.startup("warm_up"):
                await _warm_up(state.engine, model)
    except EngineFailure as error:
        # Of several API processes, their supervisor tells what was refused.
        return str(error), BAD_ARGUMENT if isinstance(error, EngineRefused) and not supervised else FAILED
    except ValueError as error:
        return str(error), BAD_ARGUMENT
    except Exception as error:  # a model's files may bring about anything
        _log.debug("loading failed", exc_info=True)
        return f"{config.model}: cannot be served: {type(error).__name__}: {error}", FAILED
    state.model = model
    if supervised:
        supervised.tell_ready()
    level = logging.DEBUG if supervised else logging.INFO
    if defaults:
        _log.log(level, "requests that leave them out have %s (--generation-config)", describe(defaults))
    _log.log(
        level,
        "ready in %.1f s: %s on %s, %s, up to %s tokens a request",
        time.monotonic() - began, state.names[0], ready.device, ready.dtype, ready.max_model_len,
    )  # fmt: skip
    return await state.engine.wait_failed(), FAILED


def _read_tokenizer(state: ServerState, config: EngineConfig, model: ModelFiles) -> tuple[Tokenizer, ChatTemplate]:
    with state.metrics.startup("tokenizer"):
        files = tokenizer_files(config, model)
        return load_tokenizer(files), load_chat_template(files, template_of(config))


async def _start_engine(state: ServerState, config: EngineConfig, supervised: Supervised | None) -> Ready:
    with state.metrics.startup("engine"):
        return await (supervised.join(state.engine) if supervised else state.engine.start(config))


async def _watch_for_hang(state: ServerState) -> None:
    """Ends the answers of an engine that has stopped to answer; it may come back for others. The first step of all may
    take long, so a server that is not ready yet is left alone."""
    while True:
        await asyncio.sleep(_HANG_CHECK_SECONDS)
        state.metrics.refresh()
        if state.model is not None and (problem := state.engine.problem()) is not None:
            state.cut(engine_failed(problem))


async def _warm_up(engine: EngineClient, model: ServedModel) -> None:
    """A few tokens, or a vector, through the whole engine: ready means that the model answers, that what compiles at
    first use has, and that the engine knows how long a step takes."""
    prompt = model.tokenizer.encode("Ready means that the model answers.", add_special_tokens=True)[:8] or [0]
    params = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True)
    if model.task.task != "generate":
        read = await engine.embed(f"warm-up-{os.getpid()}", prompt, PoolingParams())
        if read.error is not None:
            raise EngineFailure(read.error.message)
        return
    async for output in engine.generate(f"warm-up-{os.getpid()}", prompt, params):
        if output.error is not None:
            raise EngineFailure(output.error.message)
        model.tokenizer.decode(output.token_ids)


async def _wait_for_answers(state: ServerState, until: float, given_up: Callable[[], bool]) -> None:
    """Waits while answers are being made, at most until the monotonic time `until`."""
    while state.answering and time.monotonic() < until and not given_up():
        await asyncio.sleep(0.05)


def _refuse(line: str, code: int) -> int:
    _log.critical("%s", line)
    return code
