"""Rounds that die between two writes, see old versions, come late, live by a clock that jumps, or by edits of others;
run in this process against a real API server, in a namespace that the other operator leaves alone."""

import asyncio
import contextlib
import copy
import datetime
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fake_cluster import turns
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from live import SMALLEST, Kubernetes
from patience import eventually

from octavo_operator import kinds
from octavo_operator.cluster import Connection, Stale
from octavo_operator.control import reconcile as rounds
from octavo_operator.control.claims import Claims
from octavo_operator.control.drift import DIGEST
from octavo_operator.control.operator import Operator
from octavo_operator.control.reconcile import Outcome
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.scraping.measurements import Measurements
from octavo_operator.scraping.readings import Readings
from octavo_operator.settings import Settings

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
PLACE = "interrupted"
SETTINGS = Settings(runtime_image="octavo.local/demo:1", installation="interrupted")

SCALED: Object = SMALLEST | {
    "autoscaling": {"maxReplicas": 3},
    "observability": {"dashboard": True},
    "endpoint": {"allowedNamespaces": ["default"]},
}
FIXED: Object = SMALLEST | {"replicas": 2, "engine": {"maxModelLen": 512}}


class Killed(BaseException):
    """The process is gone: nothing of it catches this."""


class Wire(Connection):
    """A connection that is cut after so many `left` writes, and counts those that it lets through."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.left = 10**6
        self.writes = 0

    async def _request(self, method: str, path: str, **parameters: Any) -> Object | None:
        if method != "get":
            if self.left == 0:
                raise Killed
            self.left -= 1
            self.writes += "/leases" not in path
        return await super()._request(method, path, **parameters)


class Place:
    """A namespace with services, and operators that begin and end at will."""

    def __init__(self, wire: Wire, run: Callable[[Awaitable[Any]], Any]) -> None:
        self.wire = wire
        self.run = run
        self.skew = datetime.timedelta()
        self.restart()

    def restart(self) -> None:
        """Another process: nothing is known of before."""
        self.wire.left = 10**6
        self._claims = Claims(self.wire, SETTINGS.installation, lambda: datetime.datetime.now(datetime.UTC) + self.skew)
        self._measurements = Measurements()
        self._metrics_api = MetricsApi(self.wire, Readings(), None, 0, lambda *_: None)
        self.run(self._claims.of(PLACE))

    def round(self, name: str, wire: Wire | None = None) -> Outcome:
        operator = Operator(
            wire or self.wire,
            SETTINGS,
            self._claims,
            turns([], at_once=100),
            self._metrics_api,
            self._measurements,
            Downloads(),
        )
        outcome: Outcome = self.run(rounds.reconcile(operator, PLACE, name))
        return outcome

    def settle(self, name: str) -> None:
        """Rounds until one writes nothing."""

        def writes_nothing() -> bool:
            before = self.wire.writes
            try:
                self.round(name)
            except Stale:  # a controller was faster
                return False
            return self.wire.writes == before

        eventually(writes_nothing, what=f"a round of {name} that writes nothing")

    def want(self, name: str, spec: Object) -> None:
        """Make the service, or have it replaced."""
        path = kinds.path("LLMService", PLACE, name)
        body = {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": name}}
        self.run(
            self.wire._request(
                "patch",
                path,
                body=body | {"spec": spec},
                content_type="application/apply-patch+yaml",
                field_manager="person",
            )
        )

    def objects(self, name: str) -> dict[str, Object]:
        """What bears the service's label, as the operator wants it: by kind, with the service's name taken out. Each
        object once, or this fails."""
        found: dict[str, Object] = {}
        for kind in (kind for kind in kinds.KINDS if kind.suffix is not None):
            path, selector = kinds.path(kind.name, PLACE), f"{kinds.SERVICE_LABEL}={name}"
            listed = self.run(self.wire._request("get", path, label_selector=selector))
            for item in (listed or {"items": []})["items"]:
                assert kind.name not in found, f"two of {kind.name}"
                assert [owner["name"] for owner in item["metadata"]["ownerReferences"]] == [name]
                found[kind.name] = {key: item[key] for key in ("spec", "data") if key in item}
        text = re.sub(rf"\b{name}\b", "NAME", json.dumps(found, sort_keys=True))
        text = re.sub(r"octavo-[0-9a-f-]{33}", "UID", text)  # of the service, in its dashboard
        plain: dict[str, Object] = json.loads(text)
        for key in ("clusterIP", "clusterIPs"):
            plain.get("Service", {}).get("spec", {}).pop(key, None)
        return plain


@pytest.fixture(scope="module")
def place(api_server: Any, kubernetes: Kubernetes) -> Iterator[Place]:
    async def connection() -> ApiClient:
        await config.load_kube_config(config_file=str(api_server.folder / "admin.kubeconfig"))
        return ApiClient()

    kubernetes.kubectl("create", "namespace", PLACE)
    with asyncio.Runner() as loop:
        api = loop.run(connection())
        try:
            yield Place(Wire(api), loop.run)
        finally:
            loop.run(api.close())
            kubernetes.kubectl("delete", "namespace", PLACE, "--wait=false")


@pytest.mark.parametrize(
    ("before", "then"), [(None, SCALED), (SCALED, FIXED), (FIXED, SCALED)], ids=["make", "fix", "scale"]
)
def test_killed_after_any_write_the_next_one_makes_the_same(
    place: Place, request: pytest.FixtureRequest, before: Object | None, then: Object
) -> None:
    """Nothing is missing, left behind or there twice, whichever write was the last."""

    def prepared(name: str) -> None:
        if before is not None:
            place.want(name, before)
            place.settle(name)
        place.want(name, then)

    own = request.node.callspec.id  # what is deleted goes in its own time: each has names of its own
    whole = f"{own}-whole"
    prepared(whole)
    written = place.wire.writes
    place.settle(whole)
    steps = place.wire.writes - written
    expected = place.objects(whole)
    killed = 0
    for step in range(steps):
        name = f"{own}-cut-{step}"
        prepared(name)
        place.wire.left = step
        try:
            place.settle(name)
        except Killed:
            killed += 1
        place.restart()
        place.settle(name)
        assert place.objects(name) == expected, f"killed after {step} writes"
    assert killed > 5, "the autoscaler may add a round to one and not to another"
    for name in (whole, *(f"{own}-cut-{step}" for step in range(steps))):
        place.run(place.wire.delete(place.run(place.wire.get("LLMService", PLACE, name))))


class Past(Wire):
    """Sees each object as it was when it first looked: a cache whose watch hangs."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self._seen: dict[str, Object] = {}

    async def _request(self, method: str, path: str, **parameters: Any) -> Object | None:
        found = await super()._request(method, path, **parameters)
        if method == "get" and found is not None and "/llmservices" not in path:
            found = copy.deepcopy(self._seen.setdefault(path, copy.deepcopy(found)))
        return found


def test_old_versions_that_are_seen_late_undo_nothing(place: Place) -> None:
    past = Past(place.wire._client.client)
    place.want("late", SCALED)
    place.settle("late")
    place.round("late", past)
    place.want("late", FIXED)
    place.settle("late")
    expected = place.objects("late")
    deployment = place.run(place.wire.get("Deployment", PLACE, "late"))
    for _ in range(3):
        place.round("late", past)
    assert place.objects("late") == expected
    after = place.run(place.wire.get("Deployment", PLACE, "late"))
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"]
    place.settle("late")


def test_an_event_of_a_service_that_is_gone_brings_nothing_back(place: Place) -> None:
    place.want("gone", SMALLEST)
    place.settle("gone")
    service = place.run(place.wire.get("LLMService", PLACE, "gone"))
    place.run(place.wire.delete(service))
    before = place.wire.writes
    assert place.round("gone") is Outcome.GONE
    assert place.wire.writes == before
    eventually(lambda: place.objects("gone") == {}, what=lambda: place.objects("gone"))


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_jumps_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Nothing is written while nothing happens, the claim on the namespace is kept, and what happens is told."""
    name = f"timed{hours}".replace("-", "-minus-")
    place.want(name, SCALED)
    place.settle(name)
    told = conditions(place, name)

    class Skewed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.now(tz) + datetime.timedelta(hours=hours)

    class Module:
        datetime, UTC, timedelta = Skewed, datetime.UTC, datetime.timedelta

    monkeypatch.setattr(rounds, "datetime", Module)
    place.skew = datetime.timedelta(hours=hours)
    try:
        place.restart()

        def rounds_write_nothing() -> bool:
            before = place.wire.writes
            for _ in range(3):
                assert place.round(name) is not Outcome.ELSEWHERE
            return place.wire.writes == before

        # What the controllers still had to say of the Deployment may come late.
        eventually(rounds_write_nothing, what=f"three rounds of {name} that write nothing")
        assert conditions(place, name) == told
        place.want(name, SCALED | {"engine": {"maxModelLen": 512}})
        place.settle(name)
        deployment = place.run(place.wire.get("Deployment", PLACE, name))
        assert "512" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        after = conditions(place, name)
    finally:
        place.skew = datetime.timedelta()
        place.restart()
    monkeypatch.undo()  # and back again
    place.settle(name)
    assert conditions(place, name) == after, "each keeps the time at which it turned"


def conditions(place: Place, name: str) -> dict[str, tuple[str, str]]:
    """Status of each condition and the time at which it turned, by type."""
    service = place.run(place.wire.get("LLMService", PLACE, name))
    return {each["type"]: (each["status"], each["lastTransitionTime"]) for each in service["status"]["conditions"]}


def test_a_child_that_is_edited_a_hundred_times_is_as_before(place: Place) -> None:
    """By three other field managers in turn, as controllers and people do: by force, by a merge, and by a patch."""
    place.want("edited", FIXED)
    place.settle("edited")
    expected = place.objects("edited")
    path = kinds.path("Deployment", PLACE, "edited")

    def edit(number: int) -> None:
        image = {"name": "engine", "image": f"elsewhere:{number}"}
        kind, body = [
            (
                "application/apply-patch+yaml",
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "edited"},
                    "spec": {"template": {"spec": {"containers": [image]}}},
                },
            ),
            ("application/merge-patch+json", {"spec": {"paused": True, "replicas": 7}}),
            ("application/strategic-merge-patch+json", {"spec": {"template": {"spec": {"containers": [image]}}}}),
        ][number % 3]
        parameters = {"force_conflicts": True} if kind.startswith("application/apply") else {}
        place.run(
            place.wire._request(
                "patch", path, body=body, content_type=kind, field_manager=f"hand-{number % 3}", **parameters
            )
        )

    for number in range(100):
        edit(number)
        with contextlib.suppress(Stale):
            place.round("edited")
    place.settle("edited")
    assert place.objects("edited") == expected
    live = place.run(place.wire.get("Deployment", PLACE, "edited"))
    managers = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(managers) < 10, managers
    assert live["metadata"]["annotations"][DIGEST]
    events = place.run(place.wire._request("get", kinds.path("Event", PLACE), limit=500))
    own = [item for item in events["items"] if item["involvedObject"]["name"] == "edited"]
    assert len(own) < 30, "the same event again counts up the one that is there"
