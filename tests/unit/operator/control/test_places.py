"""Namespaces are served apart from each other."""

import asyncio
import contextlib
import itertools
import os
import signal

import pytest
from patience import PATIENCE, eventually_async

from octavo_operator.control import places
from octavo_operator.control.places import Places
from octavo_operator.control.signals import take_signals


class Watches:
    """Stands in for kopf: a place that is `closed` cannot be watched, and one that becomes so ends with an error."""

    def __init__(self) -> None:
        self.closed: set[str | None] = set()
        self.tries: list[str | None] = []
        self.served: set[str | None] = set()

    async def __call__(self, place: str | None, stop: asyncio.Event, watching: asyncio.Event) -> None:
        self.tries.append(place)
        if place in self.closed:
            raise PermissionError(f"deployments is forbidden in {place}")
        self.served.add(place)
        watching.set()
        while not stop.is_set():
            await asyncio.sleep(0.01)
            if place in self.closed:
                self.served.remove(place)
                raise PermissionError(f"deployments is forbidden in {place}")
        self.served.remove(place)


async def test_one_that_goes_leaves_the_others_and_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_FIRST_PAUSE", 0.02)
    watches, lost = Watches(), list[str | None]()
    watches.closed = {"absent"}
    serving = Places(["team-a", "team-b", "absent"], watches, lost.append, asyncio.Event())
    task = asyncio.create_task(serving.serve())
    try:
        await eventually_async(lambda: watches.served == {"team-a", "team-b"} and "absent" in lost)
        watches.closed.add("team-b")
        await eventually_async(lambda: "team-b" in lost)
        assert watches.served == {"team-a"}
        assert watches.tries.count("team-a") == 1
        assert serving.troubles()["namespace team-b"] == "deployments is forbidden in team-b"
        watches.closed.clear()
        await eventually_async(lambda: watches.served == {"team-a", "team-b", "absent"})
        await eventually_async(lambda: serving.troubles() == {})
    finally:
        serving._stop.set()
        await asyncio.wait_for(task, PATIENCE)
    assert watches.served == set()


async def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []

    async def waits(stop: object, seconds: float) -> None:
        pauses.append(seconds)
        if hasattr(stop, "close"):
            stop.close()
        await asyncio.sleep(0)
        if len(pauses) == 8:
            serving._stop.set()
        raise TimeoutError

    monkeypatch.setattr(places.asyncio, "wait_for", waits)
    watches = Watches()
    watches.closed = {"absent"}
    serving = Places(["absent"], watches, lambda place: None, asyncio.Event())
    with contextlib.suppress(TimeoutError):
        await serving.serve()
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:6]))
    assert max(pauses) <= 1.2 * places._LAST_PAUSE


async def test_told_to_end_all_end() -> None:
    watches = Watches()
    serving = Places(["team-a", "team-b"], watches, lambda place: None, asyncio.Event())
    task = asyncio.create_task(serving.serve())
    await eventually_async(lambda: len(watches.served) == 2)
    serving._stop.set()
    await asyncio.wait_for(task, PATIENCE)
    assert watches.served == set()


async def test_a_signal_that_comes_before_anything_is_served_ends_it() -> None:
    stop, watches = asyncio.Event(), Watches()
    take_signals(stop)
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually_async(stop.is_set)
    await asyncio.wait_for(Places(["team-a"], watches, lambda place: None, stop).serve(), PATIENCE)
    assert watches.tries == []
