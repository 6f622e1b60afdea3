"""The HTTP server."""

import contextlib
from collections.abc import Iterator

import uvicorn


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: it would stop listening at once, and readiness could not turn red."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
