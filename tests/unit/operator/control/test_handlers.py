"""What is told of kopf's watches that fail, and of kinds that it does not watch."""

import asyncio
import gc
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fake_api import FakeApi
from patience import PATIENCE

from octavo_operator.control import handlers
from octavo_operator.control.handlers import hear_of_watches_once
from octavo_operator.kinds import path

CORE = ("llmservices.v1alpha1.serving.octavo.dev", "pods.v1")
ROUTES = "httproutes.v1.gateway.networking.k8s.io"


async def _refuse() -> None:
    raise PermissionError("jobs.batch is forbidden")


async def _fails_unasked(name: str) -> None:
    asyncio.get_running_loop().set_exception_handler(hear_of_watches_once)
    task = asyncio.create_task(_refuse(), name=name)
    await asyncio.wait([task])
    del task
    gc.collect()


@pytest.mark.parametrize(("name", "told"), [("watcher for jobs.v1.batch@None", []), ("scrape", ["asyncio"])])
def test_watches_that_fail_together_are_told_once(caplog: pytest.LogCaptureFixture, name: str, told: list[str]) -> None:
    asyncio.run(_fails_unasked(name))
    assert [record.name for record in caplog.records] == told


class Flickering(FakeApi):
    """Knows what it knows at every other look."""

    looks = itertools.count()

    async def read(self, path: str, **query: str) -> dict[str, Any] | None:
        found = await super().read(path, **query)
        return found if found is not None and next(self.looks) % 2 else None


@contextmanager
def _watching(resources: Iterable[str], namespace: str | None) -> Iterator[None]:
    """kopf's tasks, by their names."""
    names = [f"watcher for {resource}@{namespace}" for resource in resources]
    tasks = [asyncio.create_task(asyncio.Event().wait(), name=name) for name in names]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("namespace", [None, "team-a"])
async def test_a_kind_that_came_after_kopf_looked_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, namespace: str | None
) -> None:
    monkeypatch.setattr(handlers, "_LOOK", 0.001)
    cluster = FakeApi({path("HTTPRoute", namespace): {"items": []}})
    caplog.set_level(logging.INFO)
    with _watching(CORE, namespace):
        async with asyncio.timeout(PATIENCE):
            await handlers.miss(cluster, namespace)
    assert caplog.messages == ["HTTPRoute came meanwhile: all is watched anew"]


@pytest.mark.parametrize(
    ("cluster", "watched"),
    [
        pytest.param(FakeApi({}), CORE, id="not installed"),
        pytest.param(FakeApi({path("HTTPRoute", None): {}}), (*CORE, ROUTES), id="watched"),
        pytest.param(FakeApi({path("HTTPRoute", None): {}}), (), id="kopf looks at this moment"),
        pytest.param(FakeApi({path("HTTPRoute", None): {}}, "httproutes"), CORE, id="no right to it"),
        pytest.param(Flickering({path("HTTPRoute", None): {}}), CORE, id="seen in one look alone"),
    ],
)
async def test_nothing_is_missed(monkeypatch: pytest.MonkeyPatch, cluster: FakeApi, watched: Sequence[str]) -> None:
    monkeypatch.setattr(handlers, "_LOOK", 0.001)
    with _watching(watched, None), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await handlers.miss(cluster, None)
