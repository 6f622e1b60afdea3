"""Pods that download are asked how far they are, and services that wait for them are woken."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE

from octavo_operator.scraping import downloads
from octavo_operator.scraping.downloads import Downloads, Progress

KEY = ("default", "chat")
POD = {"status": {"phase": "Running", "podIP": "127.0.0.1"}}


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Any]]:
    """What a pod on this machine answers with, the last of the list each time."""
    answers: list[Any] = [{"bytes": 1, "total": 4, "waits": "HTTP 429"}]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(answers[-1])

    app = web.Application()
    app.router.add_get("/progress", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(downloads, "PROGRESS_PORT", runner.addresses[0][1])
    yield answers
    await runner.cleanup()


async def test_a_pod_is_asked_and_the_service_woken(told: list[Any]) -> None:
    found, woken = Downloads(), asyncio.Event()
    assert found.progress(KEY, POD) is None
    asking = asyncio.create_task(found.keep(lambda *_: woken.set()))
    await asyncio.wait_for(woken.wait(), PATIENCE)
    assert found.progress(KEY, POD) == Progress(bytes=1, total=4, waits="HTTP 429")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("nonsense", [[], {"bytes": -1}, {"total": "many"}])
async def test_nonsense_is_no_progress(told: list[Any], nonsense: Any) -> None:
    told.append(nonsense)
    found, woken = Downloads(), asyncio.Event()
    found.progress(KEY, POD)
    asking = asyncio.create_task(found.keep(lambda *_: woken.set()))
    await asyncio.wait_for(woken.wait(), PATIENCE)
    assert found.progress(KEY, POD) is None
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def test_a_pod_that_does_not_run_is_not_asked() -> None:
    found = Downloads()
    assert found.progress(KEY, {"status": {"phase": "Pending", "podIP": "127.0.0.1"}}) is None
    assert found.progress(KEY, {"status": {"phase": "Running"}}) is None
    assert found._sources == {}
