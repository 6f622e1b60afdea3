"""An in-memory stand-in for cluster.Connection, and rounds of reconciling against it."""

import asyncio
import copy
import datetime
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from octavo_operator.api import Key
from octavo_operator.cluster import Applied, Event
from octavo_operator.control.claims import Claims
from octavo_operator.control.operator import Operator
from octavo_operator.control.reconcile import Outcome, reconcile
from octavo_operator.control.turns import Turns
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.resources.workload import KINDS
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.scraping.measurements import Measurements
from octavo_operator.scraping.readings import Readings
from octavo_operator.settings import Settings
from octavo_operator.status.condition import condition_of

SETTINGS = Settings(runtime_image="octavo/runtime:1")
Object = dict[str, Any]


class FakeCluster:
    """Objects by (kind, name) in one namespace; every write is listed in `writes`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.running: list[Object] = []
        self.writes: list[str] = []
        self.recorded: list[Event] = []
        self.said: dict[str, list[Object]] = {}  # events, by the name of what they are of
        self.refuses: dict[str, Exception] = {}
        self.answer: Object | None = None  # how the pods of Jobs ended; None: they still run
        self.reading: list[Object] = []  # pods of Jobs that still run
        self.labelled: list[dict[str, str]] = []  # labels of nodes
        self.lease: Object | None = None
        self._version = 0
        self.metrics_api = MetricsApi(self, Readings(), None, 0, lambda *_: None)
        self.measurements = Measurements()
        self.downloads = Downloads()
        self.woken: list[str] = []
        self.turns = turns(self.woken)
        self.claims = Claims(self, SETTINGS.installation, partial(datetime.datetime.now, datetime.UTC))

    def put(self, kind: str, name: str, **content: Any) -> Object:
        """What someone else writes."""
        self._version += 1
        metadata = {"name": name, "namespace": "default", "uid": f"{kind}-{name}-{self._version}", "generation": 1}
        metadata |= {"resourceVersion": str(self._version)} | content.pop("metadata", {})
        self.objects[kind, name] = {"apiVersion": "v1", "kind": kind, "metadata": metadata} | content
        return self.objects[kind, name]

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        if kind == "Lease":
            return copy.deepcopy(self.lease)
        if kind == "Job":
            return next((job for job in await self.jobs("", "") if job["metadata"]["name"] == name), None)
        return copy.deepcopy(self.objects.get((kind, name)))

    async def pods(self, namespace: str, service_name: str) -> list[Object]:
        return copy.deepcopy(self.running)

    async def events(self, kind: str, namespace: str, name: str) -> list[Object]:
        return copy.deepcopy(self.said.get(name, []))

    async def jobs(self, namespace: str, service_name: str) -> list[Object]:
        found = [copy.deepcopy(item) for (kind, _), item in self.objects.items() if kind == "Job"]
        if self.answer is not None:
            type_ = "Failed" if self.answer["exitCode"] else "Complete"
            found = [job | {"status": {"conditions": [{"type": type_, "status": "True"}]}} for job in found]
        return found

    async def job_pods(self, namespace: str, job: str) -> list[Object]:
        if self.answer is None:
            return copy.deepcopy(self.reading)
        ended = copy.deepcopy(self.answer)
        if job.startswith("octavo-model-") and ended["exitCode"] == 0 and ended["message"].startswith('{"spec"'):
            # It does not only read what the model is: it brings it.
            said = {"revision": "c0ffee", "folder": "a/c0ffee/b", "size": 7, "description": ended["message"]}
            ended["message"] = json.dumps(said)
        container = {"name": "engine", "state": {"terminated": ended}}
        return [{"metadata": {"name": f"{job}-x"}, "spec": {}, "status": {"containerStatuses": [container]}}]

    async def nodes(self, selector: str) -> list[Object]:
        return [{"metadata": {"labels": labels}} for labels in self.labelled if selector in labels]

    async def autoscalers(self, namespace: str) -> list[Object]:
        return [copy.deepcopy(item) for (kind, _), item in self.objects.items() if kind == "HorizontalPodAutoscaler"]

    async def repair(self, live: Object, content: Object) -> None:
        self.writes.append(f"repair {live['kind']} {live['metadata']['name']}")
        stored = self.objects[live["kind"], live["metadata"]["name"]]
        stored |= copy.deepcopy(content)
        entries = stored["metadata"].get("managedFields", [])
        stored["metadata"]["managedFields"] = [entry for entry in entries if entry["manager"] == "octavo"]

    async def apply(self, desired: Object, live: Object | None) -> Applied:
        kind, name = desired["kind"], desired["metadata"]["name"]
        if kind in self.refuses:
            raise self.refuses[kind]
        self.writes.append(f"apply {kind} {name}")
        former = self.objects.get((kind, name), {})
        written: Object = {f"f:{field}": {} for field in desired.get("spec", {})}
        managers: list[Object] = [{"manager": "octavo", "operation": "Apply", "fieldsV1": {"f:spec": written}}]
        kept = {"uid": former["metadata"]["uid"]} if former else {}
        if kind in KINDS and "replicas" not in desired["spec"]:
            desired = desired | {"spec": desired["spec"] | {"replicas": former.get("spec", {}).get("replicas", 1)}}
            others = former.get("metadata", {}).get("managedFields", [])
            managers += [entry for entry in others if entry["manager"] != "octavo"]
        content = {key: copy.deepcopy(desired[key]) for key in desired.keys() - {"kind", "metadata"}}
        metadata = copy.deepcopy(desired["metadata"]) | {"managedFields": managers} | kept
        status = {"status": former["status"]} if "status" in former else {}
        return Applied(copy.deepcopy(self.put(kind, name, metadata=metadata, **content, **status)), "Updated")

    async def hand_over_replicas(self, workload: Object, replicas: int) -> None:
        self.writes.append(f"hand over {replicas}")
        self.objects[workload["kind"], workload["metadata"]["name"]]["spec"]["replicas"] = replicas

    async def create(self, content: Object) -> None:
        self.lease = content

    async def merge(self, live: Object, content: Object) -> None:
        self.lease = live | content

    async def delete(self, live: Object) -> None:
        self.writes.append(f"delete {live['kind']} {live['metadata']['name']}")
        del self.objects[live["kind"], live["metadata"]["name"]]

    async def write_status(self, service: Object, status: Object) -> None:
        self.writes.append("status")
        self.objects["LLMService", service["metadata"]["name"]]["status"] = copy.deepcopy(status)

    async def record(self, service: Object, event: Event) -> None:
        self.recorded.append(event)


def turns(woken: list[str], at_once: int = 1, under_way: Sequence[Key] = ()) -> Turns:
    """Turns of services in one namespace; `woken`: the names of those that are."""

    async def listed() -> Sequence[Key]:
        return under_way

    return Turns(at_once, listed, lambda _, name: woken.append(name))


def cluster_with(**spec: Any) -> FakeCluster:
    cluster = FakeCluster()
    cluster.put("LLMService", "chat", spec={"model": {"uri": "builtin://smollm2"}} | spec)
    return cluster


def change(cluster: FakeCluster, **spec: Any) -> None:
    body = cluster.objects["LLMService", "chat"]
    body["spec"] = {key: value for key, value in (body["spec"] | spec).items() if value is not None}
    body["metadata"]["generation"] += 1


def run(cluster: FakeCluster, settings: Settings = SETTINGS) -> Outcome:
    cluster.writes.clear()
    operator = Operator(
        cluster,
        settings,
        cluster.claims,
        cluster.turns,
        cluster.metrics_api,
        cluster.measurements,
        cluster.downloads,
    )
    return asyncio.run(reconcile(operator, "default", "chat"))


def settle(cluster: FakeCluster, settings: Settings = SETTINGS) -> None:
    """Rounds until one finds nothing to do."""
    for _ in range(6):
        run(cluster, settings)
        if not cluster.writes:
            return
    raise AssertionError(f"still writes {cluster.writes}")


def condition(cluster: FakeCluster, type_: str) -> Object:
    found = condition_of(cluster.objects["LLMService", "chat"]["status"], type_)
    assert found is not None
    return found
