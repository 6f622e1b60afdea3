"""How many pods there are, and who says so: the spec, its own autoscaler or another's."""

from typing import Any

from fake_cluster import FakeCluster, change, cluster_with, condition, run

SCALE = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale"}


def scaled_by(cluster: FakeCluster, replicas: int, manager: str = "kube-controller-manager") -> None:
    """What an autoscaler does to the Deployment by its scale subresource."""
    live = cluster.objects["Deployment", "chat"]
    live["spec"]["replicas"] = replicas
    entry = SCALE | {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    live["metadata"]["managedFields"] = [entry]


def foreign_autoscaler(cluster: FakeCluster, name: str = "theirs", **metadata: Any) -> None:
    target = {"kind": "Deployment", "name": "chat"}
    cluster.put("HorizontalPodAutoscaler", name, metadata=metadata, spec={"scaleTargetRef": target})


def replicas(cluster: FakeCluster) -> int:
    return int(cluster.objects["Deployment", "chat"]["spec"]["replicas"])


def test_an_autoscaler_of_another_decides_where_replicas_is_left_out() -> None:
    cluster = cluster_with()
    run(cluster)
    foreign_autoscaler(cluster)
    scaled_by(cluster, 3)
    run(cluster)
    assert replicas(cluster) == 3
    change(cluster, engine={"maxModelLen": 512})
    run(cluster)
    assert "apply Deployment chat" in cluster.writes
    assert replicas(cluster) == 3
    assert condition(cluster, "Ready")["reason"] == "Starting"


def test_an_autoscaler_of_another_is_named_where_replicas_is_said() -> None:
    cluster = cluster_with(replicas=1)
    run(cluster)
    foreign_autoscaler(cluster, ownerReferences=[{"kind": "ScaledObject", "name": "queue", "uid": "k"}])
    scaled_by(cluster, 3)
    cluster.objects["Deployment", "chat"]["status"] = {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
    }
    run(cluster)
    assert replicas(cluster) == 3, "two that write one field in turns help nobody"
    ready = condition(cluster, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ScaledByAnother")
    assert "ScaledObject queue" in ready["message"]
    assert cluster.recorded[-1].warning


def test_a_hand_that_scales_the_deployment_is_put_right() -> None:
    cluster = cluster_with()
    run(cluster)
    scaled_by(cluster, 4, manager="kubectl")
    run(cluster)
    assert replicas(cluster) == 1


def test_turning_autoscaling_off_keeps_the_present_number() -> None:
    cluster = cluster_with(autoscaling={"maxReplicas": 5})
    run(cluster)
    scaled_by(cluster, 3)
    change(cluster, autoscaling=None)
    run(cluster)
    assert replicas(cluster) == 3
    assert "delete HorizontalPodAutoscaler chat" in cluster.writes
    cluster.objects["Deployment", "chat"]["spec"]["replicas"] = 7
    run(cluster)
    assert replicas(cluster) == 3
    change(cluster, replicas=2)
    run(cluster)
    assert replicas(cluster) == 2


def test_an_autoscaled_service_at_zero_comes_up_again() -> None:
    cluster = cluster_with(autoscaling={"minReplicas": 2, "maxReplicas": 5})
    run(cluster)
    scaled_by(cluster, 0, manager="kubectl")
    run(cluster)
    assert replicas(cluster) == 2


def test_a_suspended_service_runs_no_pod_and_comes_back_with_as_many() -> None:
    cluster = cluster_with(replicas=3, suspend=True)
    run(cluster)
    assert replicas(cluster) == 0, "a new service too"
    change(cluster, suspend=False)
    run(cluster)
    assert replicas(cluster) == 3
    change(cluster, suspend=True)
    run(cluster)
    assert replicas(cluster) == 0
    scaled_by(cluster, 2, manager="kubectl")
    run(cluster)
    assert replicas(cluster) == 0


def test_a_suspended_service_has_no_autoscaler_and_comes_back_with_the_fewest_that_it_may_have() -> None:
    cluster = cluster_with(autoscaling={"minReplicas": 2, "maxReplicas": 5}, suspend=True)
    run(cluster)
    assert replicas(cluster) == 0
    assert ("HorizontalPodAutoscaler", "chat") not in cluster.objects
    for asleep, count in ((False, 2), (True, 0), (False, 2)):
        change(cluster, suspend=asleep)
        run(cluster)
        assert replicas(cluster) == count
        assert (("HorizontalPodAutoscaler", "chat") in cluster.objects) is not asleep
        run(cluster)
        assert cluster.writes == [], "it is settled"


def test_the_number_that_an_autoscaler_of_another_left_outlasts_the_suspension() -> None:
    cluster = cluster_with()
    run(cluster)
    foreign_autoscaler(cluster)
    scaled_by(cluster, 4)
    change(cluster, suspend=True)
    for _ in range(2):
        run(cluster)
        assert replicas(cluster) == 0
    change(cluster, suspend=False)
    run(cluster)
    assert replicas(cluster) == 4
    scaled_by(cluster, 5)
    run(cluster)
    assert replicas(cluster) == 5, "it decides again"
