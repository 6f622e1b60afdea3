"""`python -m octavo_operator`: run the operator until it is told to end."""

import asyncio
import contextlib
import datetime
import logging
import sys
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from pydantic import ValidationError

from octavo_operator.cluster import connect
from octavo_operator.control import handlers, health, metrics_endpoint
from octavo_operator.control.claims import Claims
from octavo_operator.control.places import Places
from octavo_operator.control.reconcile import reconcile
from octavo_operator.control.worker import Workers
from octavo_operator.metrics_api import scrape
from octavo_operator.metrics_api.readings import Readings
from octavo_operator.metrics_api.server import MetricsApi
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
        readings = Readings()

        def changed(namespace: str, name: str) -> None:
            workers.wake(namespace, name)

        def lost(namespace: str | None) -> None:
            workers.forget(namespace)
            readings.forget_namespace(namespace)

        metrics_api = MetricsApi(cluster, readings, settings.metrics_api, settings.metrics_api_port, changed)
        workers = Workers(partial(reconcile, cluster, claims, metrics_api, settings), parse_duration(settings.resync))
        places = Places(settings.namespaces, partial(handlers.watch, workers), lost)
        try:
            async with (
                health.answering(settings.health_port, lambda: places.troubles() | claims.troubles()),
                _kept(
                    claims.keep(workers.namespaces, workers.wake_all),
                    scrape.keep(readings, changed),
                    metrics_api.keep(),
                ),
            ):
                await places.serve()
        finally:
            await workers.stop()


@contextlib.asynccontextmanager
async def _kept(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run what goes on meanwhile."""
    keeping = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
