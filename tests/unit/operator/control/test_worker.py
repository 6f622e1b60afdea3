"""Workers: coalesced wake-ups, retries, resync, an end."""

import asyncio
import re
import socket
import time
import urllib.request
from collections.abc import Callable

import pytest
from fake_cluster import SETTINGS, FakeCluster
from patience import PATIENCE, eventually_async

from octavo_operator.cluster import Stale
from octavo_operator.control import metrics_endpoint
from octavo_operator.control.operator import Operator
from octavo_operator.control.reconcile import Outcome
from octavo_operator.control.turns import Turns
from octavo_operator.control.worker import Workers, lose

# Seconds in which a round too many would come.
LONGER = 0.3


class Rounds:
    """Counts the rounds; `outcome` decides what the n-th of them gives."""

    def __init__(self, outcome: Callable[[int], Outcome]) -> None:
        self.count = 0
        self.began: list[float] = []
        self.overlapping = 0
        self._running = 0
        self._outcome = outcome

    async def __call__(self, namespace: str, name: str) -> Outcome:
        self.count += 1
        self.began.append(time.monotonic())
        self._running += 1
        self.overlapping = max(self.overlapping, self._running)
        await asyncio.sleep(0.01)
        self._running -= 1
        return self._outcome(self.count)


async def test_a_burst_is_one_round() -> None:
    rounds = Rounds(lambda _: Outcome.SETTLED)
    workers = Workers(rounds, resync=60)
    for _ in range(100):
        workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count)
    await asyncio.sleep(LONGER)
    assert rounds.count == 1
    await workers.stop()


async def test_a_wake_up_during_a_round_is_not_lost() -> None:
    workers: Workers

    def wake_once(count: int) -> Outcome:
        if count == 1:
            workers.wake("default", "chat")
        return Outcome.SETTLED

    rounds = Rounds(wake_once)
    workers = Workers(rounds, resync=60)
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count == 2)
    await asyncio.sleep(LONGER)
    assert (rounds.count, rounds.overlapping) == (2, 1)
    await workers.stop()


async def test_failures_are_tried_again_with_growing_pauses() -> None:
    def fail_twice(count: int) -> Outcome:
        if count <= 2:
            raise ConnectionError("no route")
        return Outcome.SETTLED

    rounds = Rounds(fail_twice)
    workers = Workers(rounds, resync=60)
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count == 3)
    first, second, third = rounds.began
    assert second - first > 0.8 * 0.2
    assert third - second > 0.8 * 0.4
    await asyncio.sleep(LONGER)
    assert rounds.count == 3
    await workers.stop()


async def test_resync_looks_without_being_woken() -> None:
    rounds = Rounds(lambda _: Outcome.SETTLED)
    workers = Workers(rounds, resync=0.2)
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count >= 3)
    await workers.stop()


async def test_worker_of_a_deleted_service_ends_and_a_new_one_starts() -> None:
    rounds = Rounds(lambda _: Outcome.GONE)
    workers = Workers(rounds, resync=0.1)
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count and not workers.namespaces())
    await asyncio.sleep(LONGER)
    assert rounds.count == 1
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count == 2)
    await workers.stop()


async def test_a_namespace_that_is_lost_is_served_again_whenever_it_was_lost() -> None:
    rounds = Rounds(lambda _: Outcome.SETTLED)
    workers = Workers(rounds, resync=60)
    for namespace in ("lost", "kept"):
        workers.wake(namespace, "chat")
    assert workers.forget("lost") == [("lost", "chat")], "it had not begun"
    assert workers.namespaces() == {"kept"}
    workers.wake("lost", "chat")
    await eventually_async(lambda: rounds.count == 2)
    assert workers.namespaces() == {"kept", "lost"}, "it is served again"
    assert workers.forget(None) == [("kept", "chat"), ("lost", "chat")]
    await workers.stop()


@pytest.mark.parametrize("moments", range(5))
async def test_a_worker_that_is_woken_in_the_moment_of_its_end_ends(moments: int) -> None:
    rounds = Rounds(lambda _: Outcome.SETTLED)
    workers = Workers(rounds, resync=60)
    workers.wake("default", "chat")
    await eventually_async(lambda: rounds.count == 1)
    await asyncio.sleep(LONGER)
    workers.wake("default", "chat")
    for _ in range(moments):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await workers.stop()


async def test_turns_of_a_namespace_that_is_lost_go_to_others() -> None:
    async def under_way() -> list[tuple[str, str]]:
        return []

    rounds, cluster = Rounds(lambda _: Outcome.SETTLED), FakeCluster()
    workers = Workers(rounds, resync=60)
    turns = Turns(1, under_way, workers.wake)
    operator = Operator(
        cluster, SETTINGS, cluster.claims, turns, cluster.metrics_api, cluster.measurements, cluster.downloads
    )
    services = [("lost", "rolling"), ("lost", "waiting"), ("lost", "waiting-too"), ("kept", "waiting")]
    for service in services:
        workers.wake(*service)
        await turns.take(service)
    await eventually_async(lambda: rounds.count == len(services))
    lose(workers, operator, "lost")
    assert workers.namespaces() == {"kept"}, "no service that is lost is looked at"
    await eventually_async(lambda: rounds.count == len(services) + 1)
    assert await turns.take(("kept", "waiting"))
    await workers.stop()


async def test_services_do_not_wait_for_each_other() -> None:
    rounds = Rounds(lambda _: Outcome.SETTLED)
    workers = Workers(rounds, resync=60)
    for index in range(100):
        workers.wake("default", f"chat-{index}")
    await eventually_async(lambda: rounds.count == 100)
    assert rounds.overlapping == 16, "as many as the API server answers in time"
    await workers.stop()


async def test_rounds_are_measured_by_result() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    metrics_endpoint.serve(port)

    def count(result: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        found = re.search(rf'^octavo_operator_reconcile_seconds_count{{result="{result}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def one_of_each(number: int) -> Outcome:
        if number == 1:
            raise ConnectionError("no route")
        if number == 2:
            raise Stale("written by another")
        return Outcome.SETTLED

    before = {result: count(result) for result in ("error", "stale", "settled")}
    workers = Workers(Rounds(one_of_each), resync=60)
    workers.wake("default", "chat")
    await eventually_async(lambda: count("settled") > before["settled"])
    await workers.stop()
    assert {result: count(result) - before[result] for result in before} == {"error": 1, "stale": 1, "settled": 1}
