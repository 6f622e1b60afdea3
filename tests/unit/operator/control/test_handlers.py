"""What is told of kopf's watches that fail, and of kinds that it does not watch."""

import asyncio
import contextlib
import gc
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from fake_api import FakeApi
from kopf._core.reactor.running import ultimate_termination
from patience import PATIENCE

from octavo_operator.cluster import Forbidden
from octavo_operator.control import handlers
from octavo_operator.control.handlers import hear_of_watches_once
from octavo_operator.control.worker import Workers
from octavo_operator.kinds import Kind, path

CORE = ("llmservices.v1alpha1.serving.octavo.dev", "pods.v1")
ROUTES = "httproutes.v1.gateway.networking.k8s.io"
LOOKS = 6


class EnoughLooks(Exception):
    """As many as a test waits for."""


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
    looks, look = itertools.count(1), handlers._unwatched

    def counted(namespace: str | None) -> list[Kind]:
        if next(looks) > LOOKS:
            raise EnoughLooks
        return look(namespace)

    monkeypatch.setattr(handlers, "_LOOK", 0.001)
    monkeypatch.setattr(handlers, "_unwatched", counted)
    with _watching(watched, None), pytest.raises(EnoughLooks):
        await handlers.miss(cluster, None)


@pytest.mark.parametrize("watch_cluster", [False, True])
async def test_watches_that_end_kill_nothing_later(monkeypatch: pytest.MonkeyPatch, watch_cluster: bool) -> None:
    """kopf has a task that has the process killed some minutes after it was cancelled, unless it was told to stop."""
    later: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda seconds, *_: later.append(seconds))
    settings = handlers._settings(watch_cluster=watch_cluster)
    task = asyncio.create_task(ultimate_termination(settings=settings, stop_flag=asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert later == []


@pytest.mark.parametrize(("namespace", "rights"), [("absent", ["llmservices"]), ("there", [])])
async def test_nothing_is_said_to_be_watched_that_may_not_be_listed(
    monkeypatch: pytest.MonkeyPatch, namespace: str, rights: list[str]
) -> None:
    """kopf says that it watches before it has asked for anything."""

    async def watched(
        _workers: object, _cluster: object, _where: object, _stop: object, watching: asyncio.Event
    ) -> bool:
        watching.set()
        return False

    monkeypatch.setattr(handlers, "_watch", watched)
    watching, cluster = asyncio.Event(), FakeApi({}, *rights)
    refused = pytest.raises(Forbidden, match="llmservices") if rights else contextlib.nullcontext()
    with refused:
        await handlers.watch(cast("Workers", Waking()), cluster, namespace, asyncio.Event(), watching)
    assert watching.is_set() is not bool(rights)


class Waking:
    """Workers that are woken."""

    def __init__(self) -> None:
        self.woken: list[str | None] = []

    def wake_all(self, namespace: str | None) -> None:
        self.woken.append(namespace)


async def test_all_services_are_looked_at_once_watches_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, workers = iter([True, True, False]), Waking()

    async def watched(*_: object) -> bool:
        return next(rounds)

    monkeypatch.setattr(handlers, "_watch", watched)
    monkeypatch.setattr(handlers, "_LISTING", 0.0)
    await handlers.watch(cast("Workers", workers), FakeApi({}), "team-a", asyncio.Event(), asyncio.Event())
    await asyncio.sleep(0.01)
    assert workers.woken == ["team-a", "team-a"]
