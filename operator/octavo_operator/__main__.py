"""`python -m octavo_operator`: run the operator until it is told to end."""

import asyncio
import contextlib
import datetime
import logging
import sys
from collections.abc import AsyncIterator
from functools import partial

from pydantic import ValidationError

from octavo_operator.cluster import connect
from octavo_operator.control import handlers, health, metrics_endpoint
from octavo_operator.control.claims import Claims
from octavo_operator.control.places import Places
from octavo_operator.control.reconcile import reconcile
from octavo_operator.control.worker import Workers
from octavo_operator.settings import Settings
from octavo_runtime.config.explain import explain
from octavo_runtime.config.units import parse_duration


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"octavo: environment (OCTAVO_...): {explain(error)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.getLogger().level, logging.WARNING))
    # A traceback for every watch that fails, of every kind: places.py tells what they come to.
    for tiresome in ("kopf._cogs.clients", "kopf._core.reactor"):
        logging.getLogger(tiresome).setLevel(logging.CRITICAL)
    try:
        metrics_endpoint.serve(settings.metrics_port)
    except OSError as error:
        print(f"octavo: cannot listen on port {settings.metrics_port}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        asyncio.run(_run(settings))
    except OSError as error:
        print(f"octavo: cannot listen on port {settings.health_port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: Settings) -> None:
    async with connect() as cluster:
        claims = Claims(cluster, settings.installation, partial(datetime.datetime.now, datetime.UTC))
        workers = Workers(partial(reconcile, cluster, claims, settings), parse_duration(settings.resync))
        places = Places(settings.namespaces, partial(handlers.watch, workers), workers.forget)
        try:
            async with (
                health.answering(settings.health_port, lambda: places.troubles() | claims.troubles()),
                _kept(claims, workers),
            ):
                await places.serve()
        finally:
            await workers.stop()


@contextlib.asynccontextmanager
async def _kept(claims: Claims, workers: Workers) -> AsyncIterator[None]:
    """Renew the claims meanwhile."""
    keeping = asyncio.create_task(claims.keep(workers.namespaces, workers.wake_all))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
