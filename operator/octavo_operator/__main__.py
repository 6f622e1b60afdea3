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

from octavo_operator.admission import server as admission
from octavo_operator.cluster import Connection, connect
from octavo_operator.control import handlers, health, metrics_endpoint, rollout
from octavo_operator.control.claims import Claims
from octavo_operator.control.leadership import Leadership
from octavo_operator.control.operator import Operator
from octavo_operator.control.places import Places
from octavo_operator.control.reconcile import reconcile
from octavo_operator.control.signals import take_signals
from octavo_operator.control.turns import Turns
from octavo_operator.control.worker import Workers, lose
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.scraping import scrape
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.scraping.measurements import Measurements
from octavo_operator.scraping.readings import Readings
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
        return asyncio.run(_run(settings))
    except OSError as error:
        print(f"octavo: cannot listen on port {settings.health_port}: {error.strerror}", file=sys.stderr)
        return 1


async def _run(settings: Settings) -> int:
    """Serve until the process is told to end; the exit code. With several replicas, once this one leads, and until
    another does. The webhook asks for no leader."""
    stop = asyncio.Event()
    take_signals(stop)
    asyncio.get_running_loop().set_exception_handler(handlers.hear_of_watches_once)
    async with connect() as cluster, _kept(*_webhook(cluster, settings)):
        if settings.leader_lease is None:
            await _serve(cluster, settings, stop)
            return 0
        namespace, _, name = settings.leader_lease.partition("/")
        leadership = Leadership(cluster, namespace, name, settings.replica, _now)
        async with health.answering(settings.health_port, dict):
            if not await _comes_before(leadership.won(), stop):
                await leadership.give_up()  # it may have been won at that instant
                return 0
        serving = asyncio.create_task(_serve(cluster, settings, stop))
        lost = asyncio.create_task(leadership.lost())
        await asyncio.wait((serving, lost), return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return 1
        lost.cancel()
        await leadership.give_up()
        await serving
        return 0


def _webhook(cluster: Connection, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    return [] if settings.webhook is None else [admission.keep(cluster, settings, settings.webhook)]


async def _comes_before(waiting: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether it came to its end before the process was told to end."""
    task, told = asyncio.create_task(waiting), asyncio.create_task(stop.wait())
    await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def _serve(cluster: Connection, settings: Settings, stop: asyncio.Event) -> None:
    claims = Claims(cluster, settings.installation, _now)
    readings = Readings()

    def changed(namespace: str, name: str) -> None:
        workers.wake(namespace, name)

    metrics_api = MetricsApi(cluster, readings, settings.metrics_api, settings.metrics_api_port, changed)
    under_way = partial(rollout.under_way, cluster, claims, settings.namespaces)
    turns = Turns(settings.rollouts_at_once, under_way, changed)
    operator = Operator(cluster, settings, claims, turns, metrics_api, Measurements(), Downloads())
    workers = Workers(partial(reconcile, operator), parse_duration(settings.resync))
    watch = partial(handlers.watch, workers, cluster)
    places = Places(settings.namespaces, watch, partial(lose, workers, operator), stop)
    try:
        async with (
            health.answering(settings.health_port, lambda: places.troubles() | claims.troubles()),
            _kept(
                claims.keep(workers.namespaces, workers.wake_all),
                scrape.keep(readings, changed),
                operator.measurements.keep(changed),
                operator.downloads.keep(changed),
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
