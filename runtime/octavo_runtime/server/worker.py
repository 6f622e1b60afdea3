"""One of several API processes, started by server.workers as
`python -m octavo_runtime.server.worker MODEL ENGINE_JSON SERVER_JSON ENDPOINT LISTENER LINE`; MODEL is what the user
named, the last two are numbers of open files."""

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.engine_process.client import EngineClient
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.server.serve import Supervised, serve_in_process
from octavo_runtime.server.workers import READY

_LONGEST_FAILURE = 65536  # bytes


def main() -> int:
    """Serves until the supervisor or the engine ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    model, engine_json, server_json, endpoint = sys.argv[1:5]
    listener, line = int(sys.argv[5]), socket.socket(fileno=int(sys.argv[6]))
    line.setblocking(False)

    all_serve = asyncio.Event()

    async def failure() -> str:
        while (told := await asyncio.get_running_loop().sock_recv(line, _LONGEST_FAILURE)) == READY:
            all_serve.set()
        return told.decode() or "the process that started this one is gone"

    def join(engine: EngineClient) -> Awaitable[Ready]:
        return engine.join(endpoint, failure())

    supervised = Supervised(model, join, socket.socket(fileno=listener), lambda: line.send(READY), all_serve.is_set)
    return serve_in_process(
        EngineConfig.model_validate_json(engine_json), ServerConfig.model_validate_json(server_json), supervised
    )


if __name__ == "__main__":
    sys.exit(main())
