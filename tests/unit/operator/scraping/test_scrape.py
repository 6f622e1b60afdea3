"""Asking pods, whatever they answer."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from authority import authority
from live import free_port
from patience import eventually_async

from octavo_operator.api.targets import TARGETS
from octavo_operator.scraping import asking, scrape
from octavo_operator.scraping.readings import Readings

KEY = ("default", "chat")
QUEUE = next(target for target in TARGETS if target.field == "queue_depth")


def pod(port: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "a", "labels": {}, "annotations": {"prometheus.io/port": str(port)}},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


@contextlib.asynccontextmanager
async def answering(response: web.Response, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A pod's server, its port, and the paths that it was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return response

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield port, asked
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def scraping(readings: Readings) -> AsyncIterator[list[tuple[str, str]]]:
    changed: list[tuple[str, str]] = []
    task = asyncio.create_task(scrape.keep(readings, lambda *key: changed.append(key)))
    try:
        yield changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_pod_says_is_read_and_told() -> None:
    readings = Readings()
    async with answering(web.Response(text="octavo_requests_waiting 7\n")) as (port, asked), scraping(readings) as told:
        readings.watch(KEY, (QUEUE,), [pod(port)])
        await eventually_async(lambda: readings.silent(KEY) == {}, "a value")
        assert [reading.value for reading in readings.of("default", QUEUE)] == [7.0]
        assert asked == ["/metrics"]
        await eventually_async(lambda: KEY in told, "its service is looked at")


async def test_a_pod_with_a_certificate_is_asked_as_the_kubelet_asks_it(tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority(tmp_path, "authority").sign("chat"))
    readings = Readings()
    answer = web.Response(text="octavo_requests_waiting 7\n")
    async with answering(answer, context) as (port, _), scraping(readings):
        made = pod(port)
        made["metadata"]["annotations"]["prometheus.io/scheme"] = "https"
        readings.watch(KEY, (QUEUE,), [made])
        await eventually_async(lambda: readings.silent(KEY) == {}, lambda: readings.silent(KEY))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (web.Response(status=401), "asks for an API key"),
        (web.Response(status=500), "HTTP status 500"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP status 302"),
        (web.Response(body=b"x" * (asking._MAX_BYTES + 1)), "more than 2097152 bytes"),
        (web.Response(text="octavo_requests_waiting{ what\n"), "what are no metrics"),
        (web.Response(text=""), "says nothing of octavo_requests_waiting"),
    ],
    ids=["key", "error", "redirect", "large", "garbled", "silent"],
)
async def test_why_nothing_can_be_read_is_told(response: web.Response, words: str) -> None:
    readings = Readings()
    async with answering(response) as (port, _), scraping(readings):
        readings.watch(KEY, (QUEUE,), [pod(port)])
        await eventually_async(lambda: words in readings.silent(KEY).get(QUEUE, ""), lambda: readings.silent(KEY))


async def test_a_pod_that_does_not_listen_is_told() -> None:
    readings = Readings()
    async with scraping(readings):
        readings.watch(KEY, (QUEUE,), [pod(free_port())])
        await eventually_async(
            lambda: "connection refused" in readings.silent(KEY).get(QUEUE, ""), lambda: readings.silent(KEY)
        )
