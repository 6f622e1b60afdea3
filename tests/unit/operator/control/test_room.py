"""On GPUs a rollout begins with a new pod; where the scheduler finds none for it, the old pods make room."""

from typing import Any

import pytest
from fake_cluster import FakeCluster, Object, change, cluster_with, condition, run

GPUS = {"accelerator": {"type": "nvidia"}}
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def rolling(replicas: int, **spec: Any) -> FakeCluster:
    """A service all of whose pods answer, and of which a new template was just written."""
    cluster = cluster_with(**(GPUS | {"replicas": replicas} | spec))
    run(cluster)
    told(cluster, updated=replicas)
    change(cluster, engine={"maxModelLen": 512})
    run(cluster)
    told(cluster, updated=1, replicas=replicas + 1)
    return cluster


def told(cluster: FakeCluster, *, updated: int, **status: Any) -> None:
    """What the Deployment's controller says."""
    live = cluster.objects["Deployment", "chat"]
    count = live["spec"]["replicas"]
    of_all = {"replicas": count, "readyReplicas": count, "updatedReplicas": updated}
    live["status"] = {"observedGeneration": live["metadata"]["generation"]} | of_all | status


def pod(name: str, template: str = "7f9", *, message: str = "", leaving: bool = False) -> Object:
    """A pod of the Deployment; `message`: why the scheduler has no node for it."""
    owner = {"kind": "ReplicaSet", "name": f"chat-{template}"}
    return {
        "metadata": {
            "name": f"chat-{template}-{name}",
            "namespace": "default",
            "labels": {"pod-template-hash": template},
            "ownerReferences": [owner],
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}),
        "spec": {} if message else {"nodeName": "n"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]} if message else {},
    }


def unschedulable(message: str = NO_GPU) -> Object:
    return pod("new", message=message)


def surge(cluster: FakeCluster) -> int:
    return int(cluster.objects["Deployment", "chat"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"])


def test_a_rollout_surges_while_there_is_a_gpu_for_the_new_pod() -> None:
    cluster = rolling(3)
    run(cluster)
    assert surge(cluster) == 1
    assert (condition(cluster, "NoSpareGPU")["status"], condition(cluster, "NoSpareGPU")["reason"]) == (
        "False",
        "Surges",
    )


def test_without_one_old_pods_go_first_until_the_rollout_is_over() -> None:
    cluster = rolling(3)
    cluster.running = [unschedulable()]
    run(cluster)
    assert surge(cluster) == 0
    assert condition(cluster, "NoSpareGPU")["reason"] == "DrainsFirst"
    cluster.running = []
    told(cluster, updated=2)
    run(cluster)
    assert (surge(cluster), condition(cluster, "NoSpareGPU")["status"]) == (0, "True"), "it stays for that rollout"
    told(cluster, updated=3)
    run(cluster)
    assert (surge(cluster), condition(cluster, "NoSpareGPU")["status"]) == (1, "False")


def test_the_first_pod_of_a_template_decides() -> None:
    """Those after it wait for the GPU of a pod that it replaced, which lets go of it when it is gone."""
    cluster = rolling(3)
    cluster.running = [pod("old", "6e8"), pod("first"), unschedulable()]
    run(cluster)
    assert surge(cluster) == 1
    cluster.running = [pod("old", "6e8"), pod("former", "5d7", leaving=True), unschedulable()]
    run(cluster)
    assert surge(cluster) == 1, "one of an earlier rollout is about to leave its GPU"
    cluster.running = [pod("old", "6e8"), unschedulable()]
    run(cluster)
    assert surge(cluster) == 0


def test_the_only_pod_is_not_ended_for_its_successor() -> None:
    cluster = rolling(1)
    cluster.running = [unschedulable()]
    run(cluster)
    assert surge(cluster) == 1
    said = condition(cluster, "NoSpareGPU")
    assert (said["status"], said["reason"]) == ("True", "WaitsForGPU")
    assert "set spec.rollout.strategy: recreate" in said["message"]


def test_a_quota_of_gpus_counts_as_a_want_of_them() -> None:
    refusal = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": 'pods "chat-7f9-" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: '
        "requests.nvidia.com/gpu=3, limited: requests.nvidia.com/gpu=3",
    }
    cluster = rolling(3)
    told(cluster, updated=0, conditions=[refusal])
    run(cluster)
    assert surge(cluster) == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "0/3 nodes are available: 3 Insufficient cpu."),
        ({"rollout": {"strategy": "surge"}}, NO_GPU),
        ({"accelerator": {"type": "cpu"}}, NO_GPU),
    ],
)
def test_whatever_else_is_wanting_makes_no_pod_go(spec: dict[str, Any], message: str) -> None:
    cluster = rolling(3, **spec)
    cluster.running = [unschedulable(message)]
    run(cluster)
    assert surge(cluster) == 1


def test_only_who_leaves_the_choice_to_the_operator_is_told_of_it() -> None:
    for spec in ({"rollout": {"strategy": "surge"}}, {"accelerator": {"type": "cpu"}}):
        cluster = rolling(3, **spec)
        types = [item["type"] for item in cluster.objects["LLMService", "chat"]["status"]["conditions"]]
        assert "NoSpareGPU" not in types
