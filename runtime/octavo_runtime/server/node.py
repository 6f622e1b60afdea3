"""`octavo serve --node-rank N` of a node that does not lead: its ranks compute, and it answers health checks alone."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.units import parse_duration
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol import logs
from octavo_runtime.server.http.listener import listen
from octavo_runtime.server.http.server import HttpServer
from octavo_runtime.server.http.tls import load_tls
from octavo_runtime.server.signals import Signals
from octavo_runtime.worker.node import Node

FAILED = 1
BAD_ARGUMENT = 2

_log = logging.getLogger(__name__)


def serve_node(config: EngineConfig, server: ServerConfig) -> int:
    """Computes with node 0 until the engine ends, or a signal. Returns the exit code: 0 after SIGTERM or SIGINT, 1 when
    the engine ends otherwise, 2 when the model cannot be found or node 0 was told to serve another."""
    logs.configure(server.log_format, server.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, server))


async def _serve(config: EngineConfig, server: ServerConfig) -> int:
    tls = load_tls(server)
    try:
        listener = listen(server.host, server.port)
    except OSError as error:
        _log.critical("cannot listen on %s port %s: %s", server.host, server.port, error.strerror)
        return FAILED
    _log.info("node %s of %s, whose node 0 is at %s", config.node_rank, config.nnodes, config.master_addr)
    node: Node | None = None
    http = HttpServer(
        uvicorn.Config(
            _app(lambda: "locating the model" if node is None else node.unready),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
    )
    signals = Signals()
    listening = asyncio.create_task(http.serve(sockets=[listener]))
    watching = None if tls is None else asyncio.create_task(tls.watch())
    locating = asyncio.create_task(asyncio.to_thread(locate, config.model))
    await asyncio.wait((locating, signals.task), return_when=asyncio.FIRST_COMPLETED)
    if not locating.done():
        # A download's threads cannot be cancelled, and the interpreter would wait for them.
        sys.stdout.flush()
        os._exit(0)
    try:
        files = locating.result()
        node = Node(config.model_copy(update={"model": str(files.gguf or files.folder)}), files)
        code = await _compute(node, signals, parse_duration(server.drain))
    except ValueError as error:
        _log.critical("%s", error)
        code = BAD_ARGUMENT
    http.should_exit = True
    await listening
    if watching is not None:
        watching.cancel()
    return code


async def _compute(node: Node, signals: Signals, drain_seconds: float) -> int:
    """Until the engine ends. After a signal that is what is waited for, since node 0 may still have answers to give;
    no longer than it may take for them, and not after a second signal. Raises NodeRefused."""
    computing = asyncio.create_task(asyncio.to_thread(node.run))
    await asyncio.wait((computing, signals.task), return_when=asyncio.FIRST_COMPLETED)
    if not computing.done() and node.unready is None:
        _log.info("stopping: until node 0 ends, or for up to %s s", drain_seconds)
    until = asyncio.get_running_loop().time() + drain_seconds
    while not computing.done():
        if node.unready is not None or signals.count > 1 or asyncio.get_running_loop().time() > until:
            node.stop()
            break
        await asyncio.wait((computing,), timeout=0.1)
    reason = await computing
    if signals.count:
        return 0
    _log.critical("%s", reason)
    return FAILED


def _app(unready: Callable[[], str | None]) -> Starlette:
    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> JSONResponse:
        reason = unready()
        return JSONResponse({"status": reason or "ready"}, 200 if reason is None else 503)

    return Starlette(
        routes=[Route("/health/live", live), Route("/health/ready", ready), Route("/health", ready)],
    )
