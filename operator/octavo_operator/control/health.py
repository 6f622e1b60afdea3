"""The operator's own health check: that its loop turns, and which places it cannot serve."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def answering(port: int, troubles: Callable[[], Mapping[str, str]]) -> AsyncIterator[None]:
    """Answer GET /healthz on every address, of IPv4 and IPv6. A place that cannot be served is named, and no reason to
    start again: the others are served."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"not served": dict(troubles())})

    application = web.Application()
    application.router.add_get("/healthz", health)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host=None, port=port).start()
        yield
    finally:
        await runner.cleanup()
