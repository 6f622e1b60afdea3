"""Reconciling against an in-memory stand-in for cluster.Cluster."""

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_operator import conditions
from octavo_operator.cluster import Applied, Notice, Refused
from octavo_operator.drift import holds, stamp
from octavo_operator.reconcile import Outcome, reconcile
from octavo_operator.settings import Settings

SETTINGS = Settings(runtime_image="octavo/runtime:1")
Object = dict[str, Any]


class FakeCluster:
    """Objects by (kind, name) in one namespace; every write is listed in `writes`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.running: list[Object] = []
        self.writes: list[str] = []
        self.notices: list[Notice] = []
        self.refuses: dict[str, str] = {}
        self._version = 0

    def put(self, kind: str, name: str, **content: Any) -> Object:
        """What someone else writes."""
        self._version += 1
        metadata = {"name": name, "namespace": "default", "uid": f"{kind}-{name}-{self._version}", "generation": 1}
        metadata |= {"resourceVersion": str(self._version)} | content.pop("metadata", {})
        self.objects[kind, name] = {"apiVersion": "v1", "kind": kind, "metadata": metadata} | content
        return self.objects[kind, name]

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((kind, name)))

    async def pods(self, namespace: str, service_name: str) -> list[Object]:
        return copy.deepcopy(self.running)

    async def apply(self, desired: Object, live: Object | None) -> Applied:
        kind, name = desired["kind"], desired["metadata"]["name"]
        if kind in self.refuses:
            raise Refused(self.refuses[kind])
        self.writes.append(f"apply {kind} {name}")
        former = self.objects.get((kind, name), {})
        managers = [{"manager": "octavo", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
        kept = {"uid": former["metadata"]["uid"]} if former else {}
        if kind == "Deployment" and "replicas" not in desired["spec"]:
            desired = desired | {"spec": desired["spec"] | {"replicas": former.get("spec", {}).get("replicas", 1)}}
            managers = []
        content = {key: copy.deepcopy(desired[key]) for key in desired.keys() - {"kind", "metadata"}}
        metadata = copy.deepcopy(desired["metadata"]) | {"managedFields": managers} | kept
        status = {"status": former["status"]} if "status" in former else {}
        return Applied(copy.deepcopy(self.put(kind, name, metadata=metadata, **content, **status)), "Updated")

    async def hand_over_replicas(self, deployment: Object, replicas: int) -> None:
        self.writes.append(f"hand over {replicas}")
        self.objects["Deployment", deployment["metadata"]["name"]]["spec"]["replicas"] = replicas

    async def delete(self, live: Object) -> None:
        self.writes.append(f"delete {live['kind']} {live['metadata']['name']}")
        del self.objects[live["kind"], live["metadata"]["name"]]

    async def write_status(self, service: Object, status: Object) -> None:
        self.writes.append("status")
        self.objects["LLMService", service["metadata"]["name"]]["status"] = copy.deepcopy(status)

    async def notify(self, service: Object, notice: Notice) -> None:
        self.notices.append(notice)


def cluster_with(**spec: Any) -> FakeCluster:
    cluster = FakeCluster()
    cluster.put("LLMService", "chat", spec={"model": {"uri": "builtin://smollm2"}} | spec)
    return cluster


def change(cluster: FakeCluster, **spec: Any) -> None:
    body = cluster.objects["LLMService", "chat"]
    body["spec"] = {key: value for key, value in (body["spec"] | spec).items() if value is not None}
    body["metadata"]["generation"] += 1


def run(cluster: FakeCluster) -> Outcome:
    cluster.writes.clear()
    return asyncio.run(reconcile(cluster, SETTINGS, "default", "chat"))


def condition(cluster: FakeCluster, type_: str) -> Object:
    found = conditions.of(cluster.objects["LLMService", "chat"]["status"], type_)
    assert found is not None
    return found


specs = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            [{"uri": "builtin://smollm2"}, {"uri": "pvc://models/a"}, {"uri": "hf://a/b", "tokenSecret": {"name": "t"}}]
        )
    },
    optional={
        "replicas": st.integers(0, 3),
        "engine": st.fixed_dictionaries({}, optional={"maxNumSeqs": st.integers(0, 8), "blockSize": st.just(16)}),
        "accelerator": st.sampled_from([{"type": "cpu"}, {"type": "nvidia"}]),
        "resources": st.sampled_from([{"cpu": "0.5", "memory": "1024Mi"}, {"cpu": 2, "memory": "4Gi"}]),
        "autoscaling": st.fixed_dictionaries({"maxReplicas": st.integers(1, 3)}),
        "observability": st.fixed_dictionaries({"dashboard": st.booleans()}),
        "endpoint": st.fixed_dictionaries({"port": st.integers(1, 65535)}),
        "podTemplate": st.just({"spec": {"nodeSelector": {"a": "b"}}}),
    },
)


@given(st.lists(specs, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_twice_is_once_whatever_came_before(history: list[dict[str, Any]]) -> None:
    cluster = cluster_with()
    for spec in history:
        cluster.objects["LLMService", "chat"]["spec"] = spec
        cluster.objects["LLMService", "chat"]["metadata"]["generation"] += 1
        run(cluster)
        notices = len(cluster.notices)
        run(cluster)
        assert cluster.writes == []
        assert len(cluster.notices) == notices
    # And the way there leaves no trace: a fresh cluster ends with the same objects.
    if condition(cluster, "Valid")["status"] == "True":
        fresh = cluster_with(**history[-1])
        fresh.objects["LLMService", "chat"]["metadata"]["uid"] = cluster.objects["LLMService", "chat"]["metadata"][
            "uid"
        ]
        run(fresh)
        assert set(fresh.objects) == set(cluster.objects)
        for key, item in fresh.objects.items():
            if key[0] == "Deployment":
                item["spec"].pop("replicas")
                cluster.objects[key]["spec"].pop("replicas")
            if key[0] != "LLMService":
                assert cluster.objects[key].get("spec") == item.get("spec")


def test_gone_when_deleted() -> None:
    cluster = FakeCluster()
    assert run(cluster) is Outcome.GONE
    cluster.put("LLMService", "chat", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert run(cluster) is Outcome.GONE
    assert cluster.writes == []


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"])
def test_deleted_child_comes_back(kind: str) -> None:
    cluster = cluster_with()
    run(cluster)
    del cluster.objects[kind, "chat"]
    run(cluster)
    assert cluster.writes[0] == f"apply {kind} chat"


def test_edited_child_is_put_right() -> None:
    cluster = cluster_with()
    run(cluster)
    cluster.objects["Service", "chat"]["spec"]["ports"][0]["port"] = 81
    run(cluster)
    assert cluster.writes == ["apply Service chat"]
    assert cluster.objects["Service", "chat"]["spec"]["ports"][0]["port"] == 80


def test_feature_that_is_turned_off_takes_its_object_along() -> None:
    cluster = cluster_with(autoscaling={"maxReplicas": 2})
    run(cluster)
    change(cluster, autoscaling=None, observability={"dashboard": False})
    run(cluster)
    assert {"delete ConfigMap chat-dashboard", "delete HorizontalPodAutoscaler chat"} <= set(cluster.writes)


@pytest.mark.parametrize(("present", "start"), [(0, 2), (3, 3), (9, 5)])
def test_replicas_are_handed_over_within_the_autoscalers_bounds(present: int, start: int) -> None:
    cluster = cluster_with(replicas=present)
    run(cluster)
    change(cluster, replicas=None, autoscaling={"minReplicas": 2, "maxReplicas": 5})
    run(cluster)
    assert cluster.writes[:2] == [f"hand over {start}", "apply Deployment chat"]
    assert cluster.objects["Deployment", "chat"]["spec"]["replicas"] == start
    cluster.objects["Deployment", "chat"]["spec"]["replicas"] = 4
    run(cluster)
    assert "apply Deployment chat" not in cluster.writes
    assert cluster.objects["Deployment", "chat"]["spec"]["replicas"] == 4


def test_bad_spec_leaves_everything_as_it_was() -> None:
    cluster = cluster_with()
    run(cluster)
    before = {key: item for key, item in copy.deepcopy(cluster.objects).items() if key[0] != "LLMService"}
    change(cluster, engine={"maxNumSeqs": 0})
    assert run(cluster) is Outcome.SETTLED
    assert cluster.writes == ["status"]
    assert {key: item for key, item in cluster.objects.items() if key[0] != "LLMService"} == before
    for type_ in ("Valid", "Ready"):
        found = condition(cluster, type_)
        assert (found["status"], found["reason"], found["observedGeneration"]) == ("False", "InvalidSpec", 2)
        assert found["message"] == "spec.engine.maxNumSeqs: input should be greater than or equal to 1, got 0"
    assert cluster.notices[-1].warning


def test_object_of_someone_else_is_never_touched() -> None:
    cluster = cluster_with()
    cluster.put("Service", "chat", spec={"ports": []})
    assert run(cluster) is Outcome.BLOCKED
    assert cluster.writes == ["status"]
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NameConflict")
    assert "Service chat exists" in ready["message"]
    assert condition(cluster, "Valid")["status"] == "True"
    del cluster.objects["Service", "chat"]
    assert run(cluster) is Outcome.SETTLED
    assert condition(cluster, "Ready")["reason"] == "Starting"


def test_what_the_api_server_refuses_is_told() -> None:
    cluster = cluster_with()
    cluster.refuses["Deployment"] = 'Deployment "chat" is invalid: spec.template.spec.containers[1].image: Required'
    assert run(cluster) is Outcome.BLOCKED
    valid = condition(cluster, "Valid")
    assert (valid["status"], valid["reason"]) == ("False", "Refused")
    assert "containers[1].image" in valid["message"]


def test_ready_when_the_deployment_is() -> None:
    cluster = cluster_with()
    run(cluster)
    since = condition(cluster, "Valid")["lastTransitionTime"]
    cluster.objects["Deployment", "chat"]["status"] = {
        "observedGeneration": 1,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
    }
    run(cluster)
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", "Serving", "1 of 1 replicas answer")
    assert cluster.notices[-1] == Notice("Serving", "1 of 1 replicas answer")
    assert condition(cluster, "Valid")["lastTransitionTime"] == since
    status = cluster.objects["LLMService", "chat"]["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["selector"] == "serving.octavo.dev/service=chat"
    assert status["url"] == "http://chat.default.svc/v1"


def test_former_services_objects_are_waited_for() -> None:
    cluster = cluster_with()
    run(cluster)
    cluster.objects["LLMService", "chat"]["metadata"]["uid"] = "another"
    assert run(cluster) is Outcome.BLOCKED
    assert "still being removed" in condition(cluster, "Ready")["message"]


def test_defaults_and_notation_are_no_drift() -> None:
    wanted = {"spec": {"cpu": "0.5", "memory": "1024Mi", "ports": [{"port": 80}]}}
    stored = {"spec": {"cpu": "500m", "memory": "1Gi", "ports": [{"port": 80, "nodePort": 30000}], "policy": "Local"}}
    assert holds(stored, wanted)
    assert not holds(stored, {"spec": {"cpu": "0.6"}})
    assert not holds(stored, {"spec": {"ports": []}})


def test_digest_tells_a_field_that_is_no_longer_wanted() -> None:
    with_selector = stamp({"metadata": {}, "spec": {"nodeSelector": {"a": "b"}}})
    assert not holds(with_selector, stamp({"metadata": {}, "spec": {}}))
