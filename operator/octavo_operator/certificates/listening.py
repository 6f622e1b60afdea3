"""Has a server listen that answers with a certificate."""

import ssl

from aiohttp import web

_END = 1.0  # seconds that answers under way get


async def listen(application: web.Application, port: int, context: ssl.SSLContext) -> web.AppRunner:
    """A server on every address, of IPv4 and IPv6; it ends by the runner's cleanup."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_END)
    await runner.setup()
    try:
        await web.TCPSite(runner, host=None, port=port, ssl_context=context).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner
