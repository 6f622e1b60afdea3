"""`octavo serve`: starts the server and the engine, and ends both in good order."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

import uvicorn
import uvloop

from octavo_runtime.chat_template import ChatTemplate, load_chat_template
from octavo_runtime.config import EngineConfig, ServerConfig, parse_duration
from octavo_runtime.engine_client import EngineClient, EngineFailure
from octavo_runtime.model.files import ModelFiles, default_name, locate
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.server.app import create_app
from octavo_runtime.server.metrics_endpoint import ServerMetrics
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.tokenizer import Tokenizer, load_tokenizer
from octavo_runtime.tokenizer_conversion import tokenizer_files

FAILED = 1
BAD_ARGUMENT = 2

_LAST_WORDS_SECONDS = 2.0


def serve(engine: EngineConfig, server: ServerConfig) -> int:
    """Serves a model until a signal or the engine's end. Returns the exit code: 0 after SIGTERM or SIGINT, 1 when the
    engine fails, 2 when the model cannot be found or read."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(engine, server))


async def _serve(config: EngineConfig, server: ServerConfig) -> int:
    started = time.monotonic()
    try:
        listener = _listen(server.host, server.port)
    except OSError as error:
        return _refuse(f"cannot listen on {server.host} port {server.port}: {error.strerror}", FAILED)
    engine = EngineClient()
    names = server.served_name or [default_name(config.model)]
    state = ServerState(names, engine, ServerMetrics(names[0], engine))
    http = _Http(
        uvicorn.Config(
            create_app(state),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    signals = _Signals()
    listening = asyncio.create_task(http.serve(sockets=[listener]))
    running = asyncio.create_task(_run_model(state, config, started))
    _say(f"listening on {_url(server.host, listener)} for {', '.join(names)}")

    await asyncio.wait((running, signals.task), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        # The engine is gone: each answer hears so by itself, and tells its client.
        await _wait_for_answers(state, time.monotonic() + _LAST_WORDS_SECONDS, lambda: False)
    else:
        _say(f"stopping: {state.answering} requests may go on for up to {server.drain}")
        state.draining = True
        until = time.monotonic() + parse_duration(server.drain)
        await _wait_for_answers(state, until, lambda: signals.count > 1 or running.done())
    code = running.result() if running.done() else 0
    state.cut()
    http.should_exit = True
    http.force_exit = signals.count > 1
    await listening
    loading = state.model is None and not running.done()
    running.cancel()
    await engine.stop()
    if loading:
        # A download's threads cannot be cancelled, and the interpreter would wait for them.
        sys.stdout.flush()
        os._exit(code)
    return code


async def _run_model(state: ServerState, config: EngineConfig, started: float) -> int:
    """Loads the model and stays until the engine fails; the exit code that this means."""
    try:
        files = await asyncio.to_thread(locate, config.model)
        local = config.model_copy(update={"model": str(files.gguf or files.folder)})
        (tokenizer, template), ready = await asyncio.gather(
            asyncio.to_thread(_read_tokenizer, config, files), state.engine.start(local)
        )
        model = ServedModel(tokenizer, template, ready.max_model_len, ready.vocab_size)
        await _warm_up(state.engine, model)
    except ValueError as error:
        return _refuse(str(error), BAD_ARGUMENT)
    except EngineFailure as error:
        return _refuse(str(error), FAILED)
    state.model = model
    _say(
        f"ready in {time.monotonic() - started:.1f} s: {state.names[0]} on {ready.device}, {ready.dtype}, "
        f"up to {ready.max_model_len} tokens a request"
    )
    return _refuse(await state.engine.wait_failed(), FAILED)


def _read_tokenizer(config: EngineConfig, model: ModelFiles) -> tuple[Tokenizer, ChatTemplate]:
    files = tokenizer_files(config, model)
    return load_tokenizer(files), load_chat_template(files)


async def _warm_up(engine: EngineClient, model: ServedModel) -> None:
    """One token through the whole engine: ready means that the model answers."""
    prompt = model.tokenizer.encode("Hello", add_special_tokens=True)[:1] or [0]
    params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    async for output in engine.generate("warm-up", prompt, params):
        if output.error is not None:
            raise EngineFailure(output.error.message)
        model.tokenizer.decode(output.token_ids)


async def _wait_for_answers(state: ServerState, until: float, given_up: Callable[[], bool]) -> None:
    """Waits while answers are being made, at most until the monotonic time `until`."""
    while state.answering and time.monotonic() < until and not given_up():
        await asyncio.sleep(0.05)


class _Signals:
    """Counts SIGTERM and SIGINT; `task` is done after the first."""

    def __init__(self) -> None:
        self.count = 0
        self._first = asyncio.Event()
        self.task = asyncio.create_task(self._first.wait())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        self.count += 1
        self._first.set()


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: it would stop listening at once, and readiness could not turn red."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/v1"


def _say(line: str) -> None:
    print(f"octavo: {line}", flush=True)


def _refuse(line: str, code: int) -> int:
    print(f"octavo: {line}", file=sys.stderr, flush=True)
    return code
