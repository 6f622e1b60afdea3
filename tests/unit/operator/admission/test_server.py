"""The webhook over real TLS: known by the authority that it registers, also once that is another."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from built import SETTINGS
from live import SMALLEST, free_port
from patience import eventually_async
from question import asked

from octavo_operator.admission import server
from octavo_operator.certificates import certificate

Object = dict[str, Any]


class FakeCluster:
    """The chart's Secret and configuration."""

    def __init__(self) -> None:
        service = {"namespace": "o", "name": "w", "path": "/validate"}
        self.objects: dict[str, Object] = {
            "Secret": {"metadata": {"name": "w"}},
            "ValidatingWebhookConfiguration": {
                "metadata": {"name": "o-w"},
                "webhooks": [{"name": "a", "failurePolicy": "Ignore", "clientConfig": {"service": service}}],
            },
        }

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        found = self.objects.get(kind)
        return found if found is not None and found["metadata"]["name"] == name else None

    async def merge(self, live: Object, content: Object) -> None:
        live |= content

    @property
    def authority(self) -> str:
        (hook,) = self.objects["ValidatingWebhookConfiguration"]["webhooks"]
        assert (hook["failurePolicy"], hook["clientConfig"]["service"]["name"]) == ("Ignore", "w")
        return base64.b64decode(hook["clientConfig"].get("caBundle", "")).decode()


@contextlib.asynccontextmanager
async def serving(cluster: FakeCluster) -> AsyncIterator[int]:
    port = free_port()
    settings = SETTINGS.model_copy(update={"webhook_port": port})
    task = asyncio.create_task(server.keep(cluster, settings, "o/w"))
    try:
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def post(port: int, authority: str, body: Any) -> tuple[int, Any]:
    context = ssl.create_default_context(cadata=authority)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"https://127.0.0.1:{port}/validate", json=body, ssl=context, server_hostname="w.o.svc"
        ) as response,
    ):
        return response.status, await response.json()


async def answers(port: int, cluster: FakeCluster) -> bool:
    try:
        return (await post(port, cluster.authority, asked(SMALLEST)))[0] == 200
    except (aiohttp.ClientError, OSError, ValueError):
        return False


async def test_it_is_known_by_the_authority_that_it_registers_and_answers_a_question_alone() -> None:
    cluster = FakeCluster()
    async with serving(cluster) as port:
        while not await answers(port, cluster):
            await asyncio.sleep(0.02)
        status, said = await post(port, cluster.authority, asked(SMALLEST))
        assert (status, said["response"]["allowed"]) == (200, True)
        for nonsense in ({}, [], {"request": 7}, "x"):
            status, said = await post(port, cluster.authority, nonsense)
            assert status == 400
            assert "must be an AdmissionReview" in said["message"]


async def test_a_new_authority_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    cluster = FakeCluster()
    async with serving(cluster) as port:
        while not await answers(port, cluster):
            await asyncio.sleep(0.02)
        former = cluster.authority
        cluster.objects["Secret"]["data"] = {}
        await eventually_async(lambda: cluster.authority != former, what="another authority is registered")
        while not await answers(port, cluster):
            await asyncio.sleep(0.02)
        kept = base64.b64decode(cluster.objects["Secret"]["data"][certificate.AUTHORITY]).decode()
        assert cluster.authority == kept


async def test_what_is_in_the_way_is_told_and_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_SOON", 0.02)
    cluster = FakeCluster()
    absent = cluster.objects.pop("Secret")
    async with serving(cluster) as port:
        await eventually_async(lambda: "Secret o/w of the chart is not there" in caplog.text, what="it is told")
        cluster.objects["Secret"] = absent
        while not await answers(port, cluster):
            await asyncio.sleep(0.02)
