"""A service whose replicas are several pods, through rounds of reconciling."""

import datetime
from typing import Any

import pytest
from fake_cluster import FakeCluster, change, cluster_with, condition, run, settle

from octavo_operator.cluster import Refused
from octavo_operator.control.reconcile import Outcome
from octavo_operator.resources.leader_worker_set import SET, TEMPLATE, WORKER_INDEX
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS

THREE = {"type": "cpu", "nodes": 3}


def group(cluster: FakeCluster, ready: int = 1) -> None:
    """What the controller of LeaderWorkerSets makes of one replica, and says."""
    live = cluster.objects["LeaderWorkerSet", "chat"]
    template = live["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["metadata"]["annotations"][TEMPLATE]
    live["status"] = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": ready, "conditions": []}
    cluster.running = [_pod("chat-0", "chat", 0, template, ready)]
    cluster.running += [_pod(f"chat-0-{index}", "chat-0", index, template, ready) for index in (1, 2)]


def _pod(name: str, owner: str, index: int, template: str, ready: int) -> dict[str, Any]:
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": name,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {SET: "chat", WORKER_INDEX: str(index)},
        "annotations": {TEMPLATE: template} if index == 0 else {},
        "ownerReferences": [{"kind": "StatefulSet", "name": owner, "uid": owner}],
    }
    state = "True" if ready else "False"
    spec = {"nodeName": "a"} if ready else {}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": state}]}}


def three_nodes(**spec: Any) -> FakeCluster:
    cluster = cluster_with(accelerator=THREE, **spec)
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    settle(cluster)
    return cluster


def test_a_replica_is_a_group_that_answers_as_one() -> None:
    cluster = three_nodes()
    assert ("Deployment", "chat") not in cluster.objects
    group(cluster, ready=0)
    for pod in cluster.running:
        pod["metadata"]["creationTimestamp"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert run(cluster) is Outcome.WAITING, "nothing tells that no scheduler ever looks at them"
    assert condition(cluster, "Ready")["reason"] == "Starting"
    group(cluster)
    assert run(cluster) is Outcome.SETTLED
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["message"]) == ("True", "1 of 1 replicas answer")
    change(cluster, engine={"maxNumSeqs": 7})
    assert run(cluster) is Outcome.SETTLED
    assert condition(cluster, "Ready")["status"] == "False", "the former template's pods do not count as the new one's"


def test_without_its_definition_the_condition_says_what_to_install() -> None:
    cluster = cluster_with(accelerator=THREE)
    said = "the API server does not know leaderworkerset.x-k8s.io/v1: install LeaderWorkerSet (lws.sigs.k8s.io)"
    cluster.refuses["LeaderWorkerSet"] = Refused(said)
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    run(cluster)
    assert run(cluster) is Outcome.BLOCKED
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Refused")
    assert said in ready["message"]


def test_the_other_workload_goes_once_the_present_one_is_there() -> None:
    cluster = cluster_with()
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    settle(cluster)
    change(cluster, accelerator=THREE)
    run(cluster)
    if "delete Deployment chat" not in cluster.writes:
        run(cluster)
    assert ("Deployment", "chat") not in cluster.objects
    assert ("LeaderWorkerSet", "chat") in cluster.objects
    change(cluster, accelerator=None)
    settle(cluster)
    assert ("LeaderWorkerSet", "chat") not in cluster.objects
    assert ("Deployment", "chat") in cluster.objects


def reaching(cluster: FakeCluster) -> dict[str, Any]:
    """What leads to pods, and guards them."""
    kinds = ("Service", "NetworkPolicy", "PodDisruptionBudget")
    return {kind: (cluster.objects.get((kind, "chat")) or {}).get("spec") for kind in kinds}


def answering(ready: int = 1, **spec: Any) -> FakeCluster:
    """One pod of a Deployment."""
    cluster = cluster_with(**spec)
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    settle(cluster)
    cluster.objects["Deployment", "chat"]["status"] = {"replicas": ready, "readyReplicas": ready}
    return cluster


def test_a_pod_is_not_cut_off_for_a_group_that_is_refused() -> None:
    cluster = answering()
    cluster.refuses["LeaderWorkerSet"] = Refused("install LeaderWorkerSet")
    before = reaching(cluster)
    change(cluster, accelerator=THREE)
    for _ in range(3):
        run(cluster)
    assert condition(cluster, "Ready")["reason"] == "Refused"
    assert ("Deployment", "chat") in cluster.objects
    assert reaching(cluster) == before


def test_the_pods_of_a_group_reach_each_other_while_a_pod_in_their_place_is_refused() -> None:
    """With `allowedNamespaces` a pod has a NetworkPolicy too, and another one."""
    cluster = three_nodes(endpoint={"allowedNamespaces": ["team"]})
    group(cluster)
    before = reaching(cluster)
    cluster.refuses["Deployment"] = Refused("no")
    change(cluster, accelerator=None)
    for _ in range(3):
        run(cluster)
    assert condition(cluster, "Ready")["reason"] == "Refused"
    assert reaching(cluster) == before


def test_a_pod_is_not_cut_off_for_a_group_that_holds_no_model() -> None:
    cluster = answering()
    before = reaching(cluster)
    change(cluster, accelerator=THREE | {"nodes": 2})
    for _ in range(3):
        run(cluster)
    assert condition(cluster, "Ready")["reason"] == "DoesNotFit"
    assert reaching(cluster) == before


def test_a_group_is_not_left_open_for_a_pod_that_holds_no_model() -> None:
    cluster = three_nodes()
    group(cluster)
    before = reaching(cluster)
    change(cluster, accelerator=None, engine={"maxModelLen": 100_000})
    for _ in range(3):
        run(cluster)
    assert condition(cluster, "Ready")["reason"] == "DoesNotFit"
    assert reaching(cluster) == before
    change(cluster, engine={"maxModelLen": 2048})
    for _ in range(3):
        run(cluster)
    assert reaching(cluster) != before
    assert ("LeaderWorkerSet", "chat") not in cluster.objects


def test_a_pod_is_not_cut_off_where_both_stand() -> None:
    """The endpoint was not turned to the group before the next spec came, which fits none."""
    cluster = answering()
    cluster.refuses["Service"] = Refused("a webhook says no")
    before = reaching(cluster)
    change(cluster, accelerator=THREE)
    run(cluster)
    assert ("LeaderWorkerSet", "chat") in cluster.objects
    del cluster.refuses["Service"]
    change(cluster, engine={"maxModelLen": 100_000})
    for _ in range(3):
        run(cluster)
    assert condition(cluster, "Ready")["reason"] == "DoesNotFit"
    assert reaching(cluster)["Service"] == before["Service"]


@pytest.mark.parametrize(("there", "told"), [(0, "chat"), (2, "chat-0")])
def test_pods_of_a_group_that_the_api_server_refuses_are_told(there: int, told: str) -> None:
    cluster = three_nodes()
    group(cluster, ready=0)
    cluster.running = cluster.running[:there]
    cluster.said[told] = [
        {"reason": "SuccessfulCreate", "message": "create Pod", "lastTimestamp": "2026-01-01T00:00:01Z"},
        {"reason": "FailedCreate", "message": "exceeded quota: few", "lastTimestamp": "2026-01-01T00:00:02Z"},
    ]
    assert run(cluster) is Outcome.WAITING, "events are not watched"
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodsRefused")
    assert "exceeded quota: few" in ready["message"]
    cluster.objects["LeaderWorkerSet", "chat"]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:03Z"
    for leader in cluster.running[:1]:
        leader["metadata"]["creationTimestamp"] = "2026-01-01T00:00:03Z"
    run(cluster)
    assert condition(cluster, "Ready")["reason"] != "PodsRefused", "those were another set's of that name"


def test_a_group_beside_others_that_the_api_server_refuses_is_told() -> None:
    cluster = three_nodes(replicas=2)
    run(cluster)
    live = cluster.objects["LeaderWorkerSet", "chat"]
    assert live["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] == 1
    former = "of before"
    cluster.running = [_pod(f"chat-{group}", "chat", 0, former, 1) for group in (0, 1)]
    cluster.running += [_pod(f"chat-{group}-{i}", f"chat-{group}", i, former, 1) for group in (0, 1) for i in (1, 2)]
    live["status"] = {"replicas": 2, "updatedReplicas": 0, "readyReplicas": 2, "conditions": []}
    cluster.said["chat"] = [{"reason": "FailedCreate", "message": "exceeded quota: few"}]
    assert run(cluster) is Outcome.WAITING
    assert "exceeded quota: few" in condition(cluster, "Ready")["message"]


def test_a_rollout_in_which_a_group_ends_first_goes_on_so() -> None:
    """LeaderWorkerSet would stand still where that changes in the middle."""
    cluster = three_nodes(replicas=1)
    group(cluster)
    change(cluster, replicas=2, engine={"maxNumSeqs": 7})
    run(cluster)
    live = cluster.objects["LeaderWorkerSet", "chat"]
    live["status"] |= {"replicas": 2, "updatedReplicas": 1}
    for _ in range(2):
        run(cluster)
        assert live["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] == 0
        live = cluster.objects["LeaderWorkerSet", "chat"]
    template = live["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["metadata"]["annotations"][TEMPLATE]
    cluster.running = [_pod(f"chat-{index}", "chat", 0, template, 1) for index in (0, 1)]
    live["status"] |= {"updatedReplicas": 2}
    run(cluster)
    live = cluster.objects["LeaderWorkerSet", "chat"]
    assert live["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] == 1


def test_nobody_asks_for_a_gpu_beside_a_single_group() -> None:
    cluster = cluster_with(accelerator={"type": "nvidia", "nodes": 3, "count": 1, "memory": "80Gi"})
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    settle(cluster)
    group(cluster)
    change(cluster, engine={"maxNumSeqs": 7})
    run(cluster)
    said = cluster.objects["LLMService", "chat"]["status"]["conditions"]
    assert "NoSpareGPU" not in {one["type"] for one in said}


def test_groups_are_handed_over_to_their_autoscaler() -> None:
    cluster = three_nodes(replicas=4)
    change(cluster, replicas=None, autoscaling={"minReplicas": 2, "maxReplicas": 3})
    run(cluster)
    assert "hand over 3" in cluster.writes
    assert cluster.objects["LeaderWorkerSet", "chat"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(("nodes", "fits"), [(2, False), (3, True)])
def test_the_model_must_divide_by_all_of_a_groups_devices(nodes: int, fits: bool) -> None:
    """smollm2 has nine heads."""
    cluster = cluster_with(accelerator={"type": "cpu", "nodes": nodes})
    cluster.answer = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}
    run(cluster)
    run(cluster)
    found = condition(cluster, "Fits")
    assert found["status"] == str(fits), found
    if not fits:
        assert "spec.accelerator.nodes times count: must divide the 9 attention heads, got 2" in found["message"]
