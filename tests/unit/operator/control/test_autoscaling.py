"""Autoscaling through a service's life: by whom, on what, and what is told of it."""

from typing import Any

import pytest
from fake_cluster import SETTINGS, FakeCluster, change, cluster_with, condition, run

from octavo_operator.api.targets import TARGETS
from octavo_operator.cluster import Forbidden, Refused
from octavo_operator.control.reconcile import Outcome
from octavo_operator.metrics_api.server import OFF
from octavo_operator.scraping.exposition import read

KEY = ("default", "chat")
ON_QUEUE = {"maxReplicas": 3, "targets": {"queueDepth": 4}}
WITH_PROMETHEUS = SETTINGS.model_copy(update={"prometheus_url": "http://prometheus:9090"})


def with_pod(cluster: FakeCluster) -> None:
    """A ready pod of the service's Deployment."""
    owner = {"kind": "ReplicaSet", "name": "chat-abc", "uid": "r"}
    cluster.running = [
        {
            "metadata": {
                "name": "chat-abc-1",
                "labels": {"pod-template-hash": "abc"},
                "ownerReferences": [owner],
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"containers": []},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }
    ]


def works(cluster: FakeCluster, kind: str, *types: str, status: str = "True") -> None:
    """What the autoscaler says of itself."""
    said = [{"type": type_, "status": status, "message": "as it says"} for type_ in types]
    cluster.objects[kind, "chat"]["status"] = {"conditions": said}


def scaling(cluster: FakeCluster) -> tuple[str, str, str]:
    found = condition(cluster, "ScalingActive")
    return found["status"], found["reason"], found["message"]


def test_the_pods_of_a_service_with_such_targets_are_asked_and_no_others() -> None:
    cluster = cluster_with(autoscaling=ON_QUEUE)
    readings = cluster.metrics_api.readings
    run(cluster)
    with_pod(cluster)
    run(cluster)
    assert [source.name for source in readings.due()] == ["chat-abc-1"]
    for other in ({"maxReplicas": 3}, ON_QUEUE | {"provider": "prometheus-adapter"}, None):
        change(cluster, autoscaling=ON_QUEUE)
        run(cluster)
        assert readings.services() == [KEY]
        change(cluster, autoscaling=other)
        run(cluster)
        assert readings.services() == []
    change(cluster, autoscaling=ON_QUEUE)
    run(cluster)
    del cluster.objects["LLMService", "chat"]
    assert run(cluster) is Outcome.GONE
    assert readings.services() == []


def test_scaling_is_active_once_every_metric_has_a_value_and_the_autoscaler_works() -> None:
    cluster = cluster_with(autoscaling=ON_QUEUE)
    run(cluster)
    assert scaling(cluster)[:2] == ("False", "MetricsApiUnavailable")
    assert scaling(cluster)[2] == OFF
    cluster.metrics_api.trouble = None
    run(cluster)
    assert scaling(cluster) == (
        "False",
        "NoMetric",
        "no octavo_requests_waiting (spec.autoscaling.targets.queueDepth): there is no pod",
    )
    with_pod(cluster)
    run(cluster)
    (source,) = cluster.metrics_api.readings.due()
    cluster.metrics_api.readings.heard(source, read("octavo_requests_waiting 0\n", TARGETS))
    run(cluster)
    assert scaling(cluster)[:2] == ("False", "Starting")
    works(cluster, "HorizontalPodAutoscaler", "AbleToScale", "ScalingActive", status="False")
    run(cluster)
    assert scaling(cluster) == ("False", "AutoscalingFailed", "as it says")
    works(cluster, "HorizontalPodAutoscaler", "AbleToScale", "ScalingActive")
    run(cluster)
    assert scaling(cluster) == ("True", "MetricsFound", "every target has a value")


def test_a_service_that_is_not_autoscaled_says_nothing_of_scaling() -> None:
    cluster = cluster_with()
    run(cluster)
    types = {item["type"] for item in cluster.objects["LLMService", "chat"]["status"]["conditions"]}
    assert "ScalingActive" not in types


def test_one_autoscaler_goes_before_the_other_comes() -> None:
    cluster = cluster_with(autoscaling=ON_QUEUE)
    run(cluster)
    change(cluster, autoscaling=ON_QUEUE | {"provider": "keda"})
    run(cluster, WITH_PROMETHEUS)
    assert cluster.writes.index("delete HorizontalPodAutoscaler chat") < cluster.writes.index("apply ScaledObject chat")
    change(cluster, autoscaling=ON_QUEUE)
    run(cluster)
    assert cluster.writes.index("delete ScaledObject chat") < cluster.writes.index("apply HorizontalPodAutoscaler chat")
    change(cluster, autoscaling=None)
    run(cluster)
    assert "delete HorizontalPodAutoscaler chat" in cluster.writes


def test_what_keda_leaves_for_a_moment_is_no_rival() -> None:
    cluster = cluster_with(autoscaling={"maxReplicas": 3, "provider": "keda"})
    run(cluster)
    target = {"kind": "Deployment", "name": "chat"}
    owner = {"kind": "ScaledObject", "name": "chat", "uid": cluster.objects["ScaledObject", "chat"]["metadata"]["uid"]}
    metadata = {"ownerReferences": [owner]}
    cluster.put("HorizontalPodAutoscaler", "keda-hpa-chat", metadata=metadata, spec={"scaleTargetRef": target})
    scaled = {"manager": "hpa", "operation": "Update", "subresource": "scale"}
    entry = scaled | {"fieldsV1": {"f:spec": {"f:replicas": {}}}}
    change(cluster, autoscaling=None, replicas=2)
    for _ in range(2):  # in the first round the ScaledObject goes, in the second it is gone
        cluster.objects["Deployment", "chat"]["metadata"]["managedFields"].append(entry)
        run(cluster)
        assert cluster.objects["Deployment", "chat"]["spec"]["replicas"] == 2


def test_a_scaled_object_is_looked_at_until_keda_has_taken_it() -> None:
    cluster = cluster_with(autoscaling=ON_QUEUE | {"provider": "keda"})
    assert run(cluster, WITH_PROMETHEUS) is Outcome.WAITING
    assert scaling(cluster)[:2] == ("False", "Starting")
    works(cluster, "ScaledObject", "Ready")
    assert run(cluster, WITH_PROMETHEUS) is Outcome.SETTLED
    assert scaling(cluster)[:2] == ("True", "MetricsFound")


def test_keda_without_a_prometheus_is_refused_in_words() -> None:
    cluster = cluster_with(autoscaling=ON_QUEUE | {"provider": "keda"})
    run(cluster)
    assert condition(cluster, "Valid")["status"] == "False"
    assert "prometheus.url in the chart's values" in condition(cluster, "Ready")["message"]
    assert ("ScaledObject", "chat") not in cluster.objects
    change(cluster, autoscaling={"maxReplicas": 3, "provider": "keda"})
    run(cluster)
    assert ("ScaledObject", "chat") in cluster.objects, "CPU takes no Prometheus"


def test_a_cluster_without_keda_is_told() -> None:
    cluster = cluster_with(autoscaling={"maxReplicas": 3, "provider": "keda"})
    cluster.refuses["ScaledObject"] = Refused("the API server does not know keda.sh/v1alpha1: install KEDA")
    run(cluster)
    assert "install KEDA" in condition(cluster, "Ready")["message"]


@pytest.mark.parametrize("autoscaling", [None, ON_QUEUE])
def test_a_chart_without_the_right_to_newer_kinds_serves_on(autoscaling: Any) -> None:
    class Older(FakeCluster):
        async def get(self, kind: str, namespace: str | None, name: str) -> Any:
            if kind in ("ScaledObject", "Ingress", "HTTPRoute"):
                raise Forbidden("forbidden")
            return await super().get(kind, namespace, name)

    cluster = Older()
    spec = {"model": {"uri": "builtin://smollm2"}} | ({"autoscaling": autoscaling} if autoscaling else {})
    cluster.put("LLMService", "chat", spec=spec)
    run(cluster)
    assert condition(cluster, "Ready")["reason"] == "Starting"
