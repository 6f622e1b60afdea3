"""A replica of several pods: a LeaderWorkerSet in the Deployment's place, and what leads to its leaders."""

from typing import Any

import pytest
from built import SETTINGS, built, kinds, service

from octavo_operator.resources import leader_worker_set, workload
from octavo_operator.resources.replicas import Replicas

NODES: dict[str, Any] = {"type": "nvidia", "nodes": 3, "count": 8}
LEADERS = {"serving.octavo.dev/service": "chat", "leaderworkerset.sigs.k8s.io/worker-index": "0"}


def group(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built("LeaderWorkerSet", **{"accelerator": NODES} | spec)
    return found


def templates(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    template = group(**spec)["spec"]["leaderWorkerTemplate"]
    return template["leaderTemplate"], template["workerTemplate"]


def test_a_service_has_one_of_both() -> None:
    assert "LeaderWorkerSet" not in kinds()
    assert "LeaderWorkerSet" not in kinds(accelerator={"type": "nvidia", "count": 8, "nodes": 1})
    assert "LeaderWorkerSet" in kinds(accelerator=NODES)
    assert "Deployment" not in kinds(accelerator=NODES)


def test_all_pods_of_a_group_are_one_engine() -> None:
    spec = group()["spec"]
    assert spec["replicas"] == 1
    assert spec["leaderWorkerTemplate"]["size"] == 3
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert spec["startupPolicy"] == "LeaderCreated", "a leader waits for its workers"
    leader, worker = templates()
    words = " ".join(leader["spec"]["containers"][0]["args"])
    assert "--tensor-parallel-size 24 --nnodes 3 --node-rank $(LWS_WORKER_INDEX)" in words
    assert "--master-addr $(LWS_LEADER_ADDRESS)" in words
    assert leader["spec"] == worker["spec"]
    assert leader["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_stages_have_their_part_of_the_devices() -> None:
    leader, _ = templates(engine={"pipelineParallelSize": 3})
    words = " ".join(leader["spec"]["containers"][0]["args"])
    assert "--tensor-parallel-size 8 --nnodes 3 " in words
    assert "--pipeline-parallel-size 3" in words


def test_leaders_alone_are_scraped() -> None:
    leader, worker = templates()
    assert leader["metadata"]["labels"] == worker["metadata"]["labels"]
    assert leader["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    assert not any(name.startswith("prometheus.io/") for name in worker["metadata"]["annotations"])


def test_a_leader_says_of_which_template_it_is() -> None:
    leader, _ = templates()
    assert leader_worker_set.is_current(leader, group())
    assert leader_worker_set.is_current(leader, group(replicas=5, rollout={"strategy": "recreate"}))
    assert not leader_worker_set.is_current(leader, group(engine={"maxNumSeqs": 7}))
    assert not leader_worker_set.is_current(leader, group(accelerator=NODES | {"nodes": 2}))


@pytest.mark.parametrize(
    ("strategy", "makes_room", "replicas", "unavailable", "surge"),
    [
        ("auto", False, Replicas(wanted=1), 1, 0),
        ("surge", False, Replicas(present=1), 1, 0),
        ("surge", False, Replicas(), 1, 0),
        ("surge", False, Replicas(present=1, wanted=2), 1, 0),
        ("surge", True, Replicas(present=2), 1, 0),
        ("auto", False, Replicas(wanted=2), 0, 1),
        ("auto", False, Replicas(present=2), 0, 1),
        ("auto", True, Replicas(wanted=4), 1, 0),
        ("recreate", False, Replicas(wanted=1), 1, 0),
    ],
)
def test_rolling_update(strategy: str, makes_room: bool, replicas: Replicas, unavailable: int, surge: int) -> None:
    chat = service(accelerator=NODES, rollout={"strategy": strategy})
    spec = leader_worker_set.build(chat, SETTINGS, replicas, makes_room=makes_room)["spec"]
    update = spec["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert update == {"partition": 0, "maxUnavailable": unavailable, "maxSurge": surge}


def test_a_domain_of_its_own_for_each_group() -> None:
    key = "leaderworkerset.sigs.k8s.io/exclusive-topology"
    assert key not in group()["metadata"].get("annotations", {})
    asked = group(accelerator=NODES | {"exclusiveTopology": "example.com/rack"})
    assert asked["metadata"]["annotations"][key] == "example.com/rack"


@pytest.mark.parametrize("provider", ["builtin", "keda"])
def test_groups_are_scaled_by_their_leaders(provider: str) -> None:
    kind = {"builtin": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[provider]
    scaling = {"provider": provider, "maxReplicas": 3, "targets": {"cpuUtilization": 60}}
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "chat"}
    assert built(kind, accelerator=NODES, autoscaling=scaling)["spec"]["scaleTargetRef"] == target
    assert "replicas" not in group(autoscaling=scaling)["spec"]


def test_the_endpoint_leads_to_leaders() -> None:
    assert built("Service", accelerator=NODES)["spec"]["selector"] == LEADERS
    assert built("Service")["spec"]["selector"] == {"serving.octavo.dev/service": "chat"}


def test_pods_of_a_group_reach_each_other_and_others_the_api_alone() -> None:
    assert "NetworkPolicy" not in kinds()
    among = {"from": [{"podSelector": {"matchLabels": {"serving.octavo.dev/service": "chat"}}}]}
    spec = built("NetworkPolicy", accelerator=NODES)["spec"]
    assert spec["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]}, among]
    few = built("NetworkPolicy", accelerator=NODES, endpoint={"allowedNamespaces": ["team"]})["spec"]["ingress"]
    assert [rule.get("ports", [{}])[0].get("port") for rule in few] == [8000, None]
    assert few[-1] == among


def pod(name: str, owner: str, kind: str = "StatefulSet", **labels: str) -> dict[str, Any]:
    owners = [{"kind": kind, "name": owner, "uid": "x"}]
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": owners}}


def test_whose_a_pod_is() -> None:
    index, of = leader_worker_set.WORKER_INDEX, leader_worker_set.SET
    live = group()
    assert workload.is_of(pod("chat-0", "chat", **{index: "0", of: "chat"}), live)
    assert workload.is_of(pod("chat-0-1", "chat-0", **{index: "1", of: "chat"}), live)
    assert not workload.is_of(pod("chat-0", "chat", "Job", **{index: "0", of: "chat"}), live)
    assert not workload.is_of(pod("chat-0-1", "other-0", **{index: "1", of: "chat"}), live)
    assert not workload.is_of(pod("chat-f-1", "chat-f", "ReplicaSet", **{"pod-template-hash": "f"}), live)
    assert workload.is_of(pod("chat-f-1", "chat-f", "ReplicaSet", **{"pod-template-hash": "f"}), built("Deployment"))
    assert not workload.is_of(pod("chat-0", "chat", **{index: "0", of: "chat"}), built("Deployment"))
