"""Two installations and one namespace, against an in-memory Lease and a clock of the test's own."""

import asyncio
import copy
import datetime
from typing import Any

import pytest
from patience import PATIENCE

from octavo_operator.cluster import Forbidden, Stale
from octavo_operator.control import claims
from octavo_operator.control.claims import Claim, Claims

Object = dict[str, Any]
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


class Lease:
    """The one Lease; every write is of a version."""

    def __init__(self) -> None:
        self.live: Object | None = None
        self.trouble: Exception | None = None

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        if self.trouble is not None:
            raise self.trouble
        assert (kind, namespace, name) == ("Lease", "team", claims.NAME)
        await asyncio.sleep(0)
        return copy.deepcopy(self.live)

    async def create(self, content: Object) -> None:
        if self.live is not None:
            raise Stale("it is there")
        self.live = copy.deepcopy(content)
        self.live["metadata"]["resourceVersion"] = 1

    async def merge(self, live: Object, content: Object) -> None:
        assert self.live is not None
        if live["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
            raise Stale("another version")
        annotations = self.live["metadata"].get("annotations", {}) | content.get("metadata", {}).get("annotations", {})
        said = {key: value for key, value in annotations.items() if value is not None}
        version = live["metadata"]["resourceVersion"] + 1
        self.live["metadata"] |= {"annotations": said, "resourceVersion": version}
        self.live["spec"] |= content.get("spec", {})


class Two:
    """Two installations that would serve namespace `team`."""

    def __init__(self) -> None:
        self.lease = Lease()
        self.passed = 0.0
        self.skew = {name: datetime.timedelta() for name in ("octavo-system/octavo", "team/second")}
        self.first, self.second = map(self._installation, self.skew)

    def wait(self, seconds: float) -> None:
        self.passed += seconds

    def _installation(self, name: str) -> Claims:
        """By a clock of its own."""

        def now() -> datetime.datetime:
            return NOON + datetime.timedelta(seconds=self.passed) + self.skew[name]

        return Claims(self.lease, name, now, lambda: self.passed)


def claim(one: Claims) -> Claim:
    return asyncio.run(one.of("team"))


def test_one_installation_serves_alone() -> None:
    two = Two()
    for _ in range(5):
        assert claim(two.first) == Claim("octavo-system/octavo")
        two.wait(2 * claims.RENEWAL)


def test_the_second_leaves_the_first_alone_and_both_know_it() -> None:
    two = Two()
    claim(two.first)
    assert claim(two.second).holder == "octavo-system/octavo"
    assert two.second.troubles() == {"namespace team": "installation octavo-system/octavo serves it"}
    two.wait(2 * claims.RENEWAL)
    found = claim(two.first)
    assert found == Claim("octavo-system/octavo", "team/second")
    assert "installation team/second of the operator would serve this namespace too" in str(found.contention)
    assert two.first.troubles() == {}


def test_the_second_takes_over_when_the_first_is_gone_and_keeps_it() -> None:
    two = Two()
    claim(two.first)
    claim(two.second)
    two.wait(claims.LENGTH - 1)
    assert claim(two.second).holder == "octavo-system/octavo"
    two.wait(2 * claims.RENEWAL)
    assert claim(two.second) == Claim("team/second")
    assert two.lease.live is not None
    assert two.lease.live["spec"]["leaseTransitions"] == 1
    assert claim(two.first).holder == "team/second", "it comes back, and finds the other"


def test_a_second_that_has_gone_is_told_no_longer() -> None:
    two = Two()
    claim(two.first)
    claim(two.second)
    two.wait(claims.LENGTH / 2)
    assert claim(two.first).contender == "team/second"
    two.wait(claims.LENGTH)
    assert claim(two.first) == Claim("octavo-system/octavo")
    assert two.lease.live is not None
    assert two.lease.live["metadata"]["annotations"] == {}


async def test_all_services_of_a_namespace_may_ask_at_once() -> None:
    two = Two()
    for _ in range(2):
        found = await asyncio.gather(*(two.first.of("team") for _ in range(20)))
        assert set(found) == {Claim("octavo-system/octavo")}
        two.wait(2 * claims.RENEWAL)
    assert two.lease.live is not None
    assert two.lease.live["metadata"]["resourceVersion"] == 2, "made once, renewed once"


def test_of_two_that_claim_at_once_one_gets_it() -> None:
    two = Two()

    async def both() -> list[Claim | BaseException]:
        return await asyncio.gather(two.first.of("team"), two.second.of("team"), return_exceptions=True)

    first, second = asyncio.run(both())
    assert first == Claim("octavo-system/octavo")
    assert isinstance(second, Stale) or second == Claim("octavo-system/octavo", "team/second")


def test_without_the_right_to_leases_a_namespace_is_served_without_a_claim() -> None:
    two = Two()
    two.lease.trouble = Forbidden("leases is forbidden")
    assert claim(two.first) == Claim("octavo-system/octavo")


async def test_claims_are_renewed_and_each_change_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Two()
    changed: list[str] = []
    told = asyncio.Event()

    def hear(namespace: str) -> None:
        changed.append(namespace)
        told.set()

    await two.first.of("team")
    await two.second.of("team")
    monkeypatch.setattr(claims, "RENEWAL", 0.001)
    keeping = asyncio.create_task(two.first.keep(lambda: ["team"], hear))
    await asyncio.wait_for(told.wait(), PATIENCE)
    two.lease.trouble = RuntimeError("no API server")
    await asyncio.sleep(0.01)
    assert not keeping.done(), "no trouble ends it"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert changed == ["team"]


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, {"renewTime": "soon"}])
def test_a_lease_that_says_little_is_nobodys(spec: Object) -> None:
    assert claims.read({"metadata": {}, "spec": spec}) is None


@pytest.mark.parametrize("hours", [-30, 30])
@pytest.mark.parametrize("whose", ["octavo-system/octavo", "team/second"])
def test_clocks_that_do_not_agree_take_nothing_over_and_keep_nothing(whose: str, hours: int) -> None:
    two = Two()
    claim(two.first)
    claim(two.second)
    two.skew[whose] = datetime.timedelta(hours=hours)  # it jumps while they run
    for _ in range(8):
        two.wait(2 * claims.RENEWAL)
        assert claim(two.first) == Claim("octavo-system/octavo", "team/second")
        assert claim(two.second).holder == "octavo-system/octavo"
    two.wait(claims.LENGTH)  # the first is gone
    assert claim(two.second) == Claim("team/second")


def test_a_clock_that_is_set_back_makes_nobody_believe_an_old_claim() -> None:
    two = Two()
    claim(two.first)
    two.skew["octavo-system/octavo"] = datetime.timedelta(hours=-30)
    two.wait(claims.LENGTH)
    assert two.lease.live is not None
    two.lease.live["spec"]["holderIdentity"] = "team/second"  # it took over meanwhile
    assert claim(two.first).holder == "team/second"
