"""Reconciling against an in-memory stand-in for cluster.Connection."""

import copy
import datetime
import os
from functools import partial
from typing import Any

import pytest
from fake_cluster import SETTINGS, FakeCluster, Object, change, cluster_with, condition, run, settle
from hypothesis import given, settings
from hypothesis import strategies as st
from random_specs import usual_specs
from random_templates import templates

from octavo_operator.cluster import Event, Forbidden, Refused, Trouble
from octavo_operator.control.claims import Claims
from octavo_operator.control.drift import holds, stamp
from octavo_operator.control.reconcile import Outcome
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS

SMALL = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}


@given(st.lists(usual_specs, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_twice_is_once_whatever_came_before(history: list[dict[str, Any]]) -> None:
    cluster = cluster_with()
    cluster.answer = SMALL
    for spec in history:
        cluster.objects["LLMService", "chat"]["spec"] = spec
        cluster.objects["LLMService", "chat"]["metadata"]["generation"] += 1
        settle(cluster)
        before = len(cluster.recorded)
        run(cluster)
        assert cluster.writes == []
        assert len(cluster.recorded) == before
    # And the way there leaves no trace: a fresh cluster ends with the same objects; but a spec that does not fit leaves
    # the pods of the former one.
    if condition(cluster, "Valid")["status"] == "True" and condition(cluster, "Fits")["status"] != "False":
        fresh = cluster_with(**history[-1])
        fresh.objects["LLMService", "chat"]["metadata"]["uid"] = cluster.objects["LLMService", "chat"]["metadata"][
            "uid"
        ]
        fresh.answer = SMALL
        settle(fresh)
        caches = {("PersistentVolumeClaim", "chat-model-cache")}  # which goes with the service alone
        assert set(fresh.objects) - caches == set(cluster.objects) - caches
        for key, item in fresh.objects.items():
            if key[0] == "Deployment":
                # How many there are, and by that how they roll, is the history's.
                for field in ("replicas", "strategy"):
                    item["spec"].pop(field)
                    cluster.objects[key]["spec"].pop(field)
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
    cluster = cluster_with(autoscaling={"maxReplicas": 2}, observability={"dashboard": True})
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
    assert cluster.recorded[-1].warning


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
    cluster.refuses["Deployment"] = Refused('Deployment "chat" is invalid: spec.template.spec.containers[1].image')
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
    assert cluster.recorded[-1] == Event("Serving", "1 of 1 replicas answer")
    assert condition(cluster, "Valid")["lastTransitionTime"] == since
    status = cluster.objects["LLMService", "chat"]["status"]
    assert (status["replicas"], status["readyReplicas"], status["readiness"]) == (1, 1, "1/1")
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


@pytest.mark.parametrize(("kind", "name"), [("HorizontalPodAutoscaler", "chat"), ("ConfigMap", "chat-dashboard")])
def test_an_object_that_is_not_wanted_is_no_conflict_and_stays(kind: str, name: str) -> None:
    cluster = cluster_with(observability={"dashboard": False})
    cluster.put(kind, name, spec={"scaleTargetRef": {"kind": "LLMService", "name": "chat"}})
    assert run(cluster) is Outcome.SETTLED
    assert condition(cluster, "Ready")["reason"] == "Starting"
    assert (kind, name) in cluster.objects


def test_all_conflicts_are_named_at_once_and_orphans_can_be_adopted() -> None:
    cluster = cluster_with()
    run(cluster)
    owned = [key for key in cluster.objects if key[0] != "LLMService"]
    for key in owned:
        del cluster.objects[key]["metadata"]["ownerReferences"]
    run(cluster)
    message = condition(cluster, "Ready")["message"]
    assert [key for key in owned if f"{key[0]} {key[1]} exists" not in message] == []
    assert "kubectl annotate llmservice chat serving.octavo.dev/adopt=true" in message
    cluster.objects["LLMService", "chat"]["metadata"]["annotations"] = {"serving.octavo.dev/adopt": "true"}
    assert run(cluster) is Outcome.SETTLED
    for key in owned:
        assert cluster.objects[key]["metadata"]["ownerReferences"][0]["name"] == "chat"


def test_what_others_wrote_is_taken_away_and_told() -> None:
    cluster = cluster_with()
    run(cluster)
    service = cluster.objects["Service", "chat"]
    service["spec"]["sessionAffinity"] = "ClientIP"
    written = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:sessionAffinity": {}}}}
    service["metadata"]["managedFields"].append(written)
    assert run(cluster) is Outcome.REPAIRED
    assert "sessionAffinity" not in cluster.objects["Service", "chat"]["spec"]
    assert "took away what others wrote into Service chat" in [event.message for event in cluster.recorded]
    assert run(cluster) is Outcome.SETTLED
    assert cluster.writes == []


def test_a_label_that_is_handed_down_comes_changes_and_goes() -> None:
    handing_down = SETTINGS.model_copy(update={"propagate_labels": ["team"]})
    cluster = cluster_with()
    for value in ("search", "ads", None):
        cluster.objects["LLMService", "chat"]["metadata"]["labels"] = {"team": value} if value else {}
        run(cluster, handing_down)
        template = cluster.objects["Deployment", "chat"]["spec"]["template"]
        for item in (cluster.objects["Service", "chat"], template):
            assert item["metadata"]["labels"].get("team") == value


def test_a_quota_is_no_mistake_in_the_spec() -> None:
    cluster = cluster_with()
    cluster.refuses["Deployment"] = Forbidden("exceeded quota: count/deployments.apps=1")
    assert run(cluster) is Outcome.BLOCKED
    assert condition(cluster, "Valid")["status"] == "True"
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Refused")
    assert ready["message"].startswith("Deployment chat: exceeded quota")


@pytest.mark.parametrize("trouble", [Trouble("etcdserver: request timed out"), KeyError("surprise")])
def test_trouble_of_any_kind_ends_in_a_status_at_the_present_generation_and_one_event(trouble: Exception) -> None:
    cluster = cluster_with()
    cluster.refuses["Deployment"] = trouble
    for _ in range(3):
        assert run(cluster) is Outcome.FAILED
    status = cluster.objects["LLMService", "chat"]["status"]
    assert status["observedGeneration"] == 1
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Trouble")
    assert str(trouble) in ready["message"]
    assert len([event for event in cluster.recorded if event.reason == "Trouble"]) == 1


def serving() -> FakeCluster:
    cluster = cluster_with()
    run(cluster)
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    cluster.objects["Deployment", "chat"]["status"] = counts
    run(cluster)
    assert condition(cluster, "Ready")["status"] == "True"
    return cluster


def held(by: str, **annotations: str) -> Object:
    """A Lease that was renewed just now."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    metadata = {"name": "serving.octavo.dev", "annotations": annotations}
    return {"metadata": metadata, "spec": {"holderIdentity": by, "renewTime": now, "leaseDurationSeconds": 60}}


def test_services_of_a_namespace_that_another_installation_serves_are_left_alone() -> None:
    cluster = cluster_with()
    cluster.lease = held("octavo-system/octavo")
    assert run(cluster) is Outcome.ELSEWHERE
    assert cluster.writes == []
    assert set(cluster.objects) == {("LLMService", "chat")}


def test_another_installation_is_named_by_the_one_that_serves() -> None:
    cluster = serving()
    now = datetime.datetime.now(datetime.UTC).isoformat()
    contends = {"serving.octavo.dev/contender": "team/second", "serving.octavo.dev/contended-at": now}
    cluster.lease = held(SETTINGS.installation, **contends)
    cluster.claims = Claims(cluster, SETTINGS.installation, partial(datetime.datetime.now, datetime.UTC))
    run(cluster)
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Contended")
    assert "installation team/second of the operator would serve this namespace too" in ready["message"]
    assert cluster.recorded[-1].warning
    assert cluster.writes == ["status"]


def test_trouble_after_an_edit_leaves_no_former_ready() -> None:
    cluster = serving()
    change(cluster, engine={"maxModelLen": 512})
    cluster.refuses["Deployment"] = Trouble("internal error")
    run(cluster)
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "Trouble", 2)


def test_trouble_with_what_was_carried_out_already_does_not_say_that_pods_no_longer_answer() -> None:
    cluster = serving()
    del cluster.objects["PodDisruptionBudget", "chat"]
    cluster.refuses["PodDisruptionBudget"] = Trouble("internal error")
    for _ in range(2):
        run(cluster)
        ready = condition(cluster, "Ready")
        assert (ready["status"], ready["reason"]) == ("True", "Trouble")


def test_pods_of_strangers_are_not_the_services() -> None:
    cluster = serving()
    status = {"containerStatuses": [{"name": "x", "image": "x", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    cluster.running = [
        {"metadata": {"name": "stranger", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}
    ]
    cluster.objects["Deployment", "chat"]["status"]["readyReplicas"] = 0
    run(cluster)
    assert condition(cluster, "Ready")["reason"] == "Starting"


def with_a_silent_pod() -> FakeCluster:
    """A service whose only pod is on a node that says nothing of it."""
    cluster = serving()
    cluster.objects["Deployment", "chat"]["status"]["readyReplicas"] = 0
    owner = {"kind": "ReplicaSet", "name": "chat-abc", "uid": "r"}
    metadata = {"name": "chat-abc-1", "namespace": "default", "labels": {"pod-template-hash": "abc"}}
    metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [owner]}
    cluster.running = [{"metadata": metadata, "spec": {"nodeName": "n"}, "status": {}}]
    return cluster


def test_a_pod_that_is_not_ended_is_looked_at_again_and_told_once() -> None:
    cluster = with_a_silent_pod()
    cluster.running[0]["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    assert run(cluster) is Outcome.WAITING, "nothing tells that its node is away"
    told = condition(cluster, "Ready")
    assert told["reason"] == "NotEnded"
    assert run(cluster) is Outcome.WAITING
    assert condition(cluster, "Ready") == told


def test_events_of_a_pod_that_does_not_start_are_asked_for() -> None:
    cluster = with_a_silent_pod()
    cluster.said["chat-abc-1"] = [{"reason": "FailedMount", "message": 'volume "tls" : secret "absent" not found'}]
    assert run(cluster) is Outcome.WAITING
    ready = condition(cluster, "Ready")
    assert ready["reason"] == "FailedMount"
    assert 'secret "absent" not found' in ready["message"]
    assert "spec.endpoint.tlsSecret" in ready["message"]


@given(templates)
@settings(max_examples=int(os.environ.get("OCTAVO_EXAMPLES", "100")), deadline=None)
def test_no_template_leaves_a_service_without_a_status_of_its_generation(template: Any) -> None:
    cluster = serving()
    change(cluster, podTemplate=template)
    run(cluster)
    status = cluster.objects["LLMService", "chat"]["status"]
    assert status["observedGeneration"] == 2
    assert {item["observedGeneration"] for item in status["conditions"]} == {2}
    assert condition(cluster, "Ready")["reason"] in ("InvalidSpec", "Serving", "RollingOut"), condition(
        cluster, "Ready"
    )
