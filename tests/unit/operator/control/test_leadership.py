"""Replicas of one installation, against an in-memory Lease and a clock of the test's own."""

import asyncio
import copy
import datetime
from typing import Any

import pytest

from octavo_operator.cluster import Stale, Trouble
from octavo_operator.control import leadership
from octavo_operator.control.leadership import LEADER, LENGTH, Leadership

Object = dict[str, Any]
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


class Cluster:
    """A Lease and the replicas' pods; every write is of a version."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str], Object] = {}
        for name in ("one", "two"):
            self.live["Pod", name] = {"kind": "Pod", "metadata": {"name": name, "resourceVersion": 1}}

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        assert namespace == "octavo-system"
        await asyncio.sleep(0)
        return copy.deepcopy(self.live.get((kind, name)))

    async def create(self, content: Object) -> None:
        key = content["kind"], content["metadata"]["name"]
        if key in self.live:
            raise Stale("it is there")
        self.live[key] = copy.deepcopy(content)
        self.live[key]["metadata"]["resourceVersion"] = 1

    async def merge(self, live: Object, content: Object) -> None:
        known = self.live[live["kind"], live["metadata"]["name"]]
        if known["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Stale("another version")
        labels = known["metadata"].get("labels", {}) | content.get("metadata", {}).get("labels", {})
        known["metadata"]["labels"] = {key: value for key, value in labels.items() if value is not None}
        known["metadata"]["resourceVersion"] += 1
        known.setdefault("spec", {}).update(content.get("spec", {}))

    def leaders(self) -> list[str]:
        """The pods that bear the leader's label."""
        return [name for (kind, name), live in self.live.items() if LEADER in live["metadata"].get("labels", {})]


class Cut:
    """A connection to the cluster that may be cut."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.is_cut = False

    def _pass(self) -> Cluster:
        if self.is_cut:
            raise Trouble("no answer")
        return self._cluster

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        return await self._pass().get(kind, namespace, name)

    async def create(self, content: Object) -> None:
        await self._pass().create(content)

    async def merge(self, live: Object, content: Object) -> None:
        await self._pass().merge(live, content)


class Two:
    """Two replicas; time passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        self.cluster = Cluster()
        self.wires = Cut(self.cluster), Cut(self.cluster)
        self.skew = {"one": datetime.timedelta(), "two": datetime.timedelta()}  # of each replica's clock
        self.one, self.two = (
            Leadership(
                wire,
                "octavo-system",
                "octavo-operator",
                name,
                lambda name=name: self.now + self.skew[name],
                self.seconds,
            )
            for wire, name in zip(self.wires, ("one", "two"), strict=True)
        )
        really = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.now += datetime.timedelta(seconds=seconds)
            await really(0)

        monkeypatch.setattr(leadership.asyncio, "sleep", sleep)

    def seconds(self) -> float:
        return (self.now - NOON).total_seconds()


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Two:
    return Two(monkeypatch)


def test_the_first_leads_and_its_pod_says_so(two: Two) -> None:
    asyncio.run(two.one.won())
    assert (two.one.leader, two.cluster.leaders(), two.seconds()) == ("one", ["one"], 0)


def test_the_second_takes_over_at_once_when_the_first_gives_up(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        await two.one.give_up()
        await two.two.won()

    asyncio.run(story())
    assert (two.two.leader, two.seconds()) == ("two", 0)
    assert two.cluster.live["Lease", "octavo-operator"]["spec"]["leaseTransitions"] == 1


def test_the_second_takes_over_from_one_that_is_dead_when_the_lease_has_run_out(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        await two.two.won()

    asyncio.run(story())
    assert two.two.leader == "two"
    assert LENGTH <= two.seconds() <= LENGTH + leadership.RENEWAL


def test_a_leader_that_renews_stays(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        staying = asyncio.create_task(two.one.lost())
        waiting = asyncio.create_task(two.two.won())
        while two.seconds() < 20 * LENGTH:
            await asyncio.sleep(0)
        assert not staying.done()
        assert not waiting.done()
        staying.cancel()
        waiting.cancel()

    asyncio.run(story())


def test_a_leader_that_is_cut_off_stops_before_another_may_lead(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        two.wires[0].is_cut = True
        await two.one.lost()

    asyncio.run(story())
    assert two.seconds() < LENGTH
    assert two.cluster.live["Lease", "octavo-operator"]["spec"]["holderIdentity"] == "one"


def test_a_leader_whose_lease_another_holds_stops_at_the_next_look(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        two.cluster.live["Lease", "octavo-operator"]["spec"]["holderIdentity"] = "two"
        await two.one.lost()

    asyncio.run(story())
    assert two.seconds() <= leadership.RENEWAL


def test_only_one_of_two_that_want_it_at_once_leads(two: Two) -> None:
    async def story() -> None:
        waiting = [asyncio.create_task(each.won()) for each in (two.one, two.two)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert sum(task.done() for task in waiting) == 1
        for task in waiting:
            task.cancel()

    asyncio.run(story())
    assert len(two.cluster.leaders()) == 1


def test_a_container_that_starts_anew_takes_the_label_of_its_former_life_off(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        two.now += datetime.timedelta(seconds=LENGTH)
        await two.two.won()
        again = Leadership(two.wires[0], "octavo-system", "octavo-operator", "one", lambda: two.now)
        waiting = asyncio.create_task(again.won())
        while "one" in two.cluster.leaders():
            await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(story())
    assert two.cluster.leaders() == ["two"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_do_not_agree_make_no_second_leader(two: Two, hours: int) -> None:
    two.skew["two"] = datetime.timedelta(hours=hours)

    async def story() -> None:
        await two.one.won()
        staying, waiting = asyncio.create_task(two.one.lost()), asyncio.create_task(two.two.won())
        while two.seconds() < 4 * LENGTH:
            await asyncio.sleep(0)
        assert not staying.done()
        assert not waiting.done()
        two.wires[0].is_cut = True
        await waiting
        assert staying.done(), "it stopped before"
        staying.cancel()

    asyncio.run(story())
    assert two.two.leader == "two"


def test_a_leader_that_is_cut_off_stops_though_its_clock_is_set_back(two: Two) -> None:
    async def story() -> None:
        await two.one.won()
        two.skew["one"] = -datetime.timedelta(hours=1)
        two.wires[0].is_cut = True
        await two.one.lost()

    asyncio.run(story())
    assert two.seconds() < LENGTH
