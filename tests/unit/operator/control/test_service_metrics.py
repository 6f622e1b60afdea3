"""What the operator tells Prometheus of the services."""

from collections.abc import Iterator
from typing import Any

import pytest
from fake_cluster import FakeCluster, change, cluster_with, run
from prometheus_client import CollectorRegistry

from octavo_operator.control import metrics_endpoint
from octavo_runtime.protocol import metrics

CHAT = {"namespace": "default", "llmservice": "chat"}


@pytest.fixture(autouse=True)
def nothing_told_before() -> Iterator[None]:
    metrics_endpoint.services.forget(("default", "chat"))
    yield
    metrics_endpoint.services.forget(("default", "chat"))


def told(metric: metrics.Metric, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(metrics_endpoint.services)
    return registry.get_sample_value(metric.name, CHAT | labels)


def pod(name: str, restarts: int, sidecar: int = 0) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "chat-1", "uid": "r", "controller": True}
    statuses = [{"name": "engine", "restartCount": restarts}, {"name": "sidecar", "restartCount": sidecar}]
    metadata = {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    metadata |= {"ownerReferences": [owner], "labels": {"pod-template-hash": "1"}}
    return {"metadata": metadata, "spec": {}, "status": {"phase": "Running", "containerStatuses": statuses}}


def settled() -> FakeCluster:
    cluster = cluster_with(replicas=2)
    run(cluster)
    cluster.objects["Deployment", "chat"]["status"] = {"replicas": 2, "readyReplicas": 1}
    return cluster


def test_replicas_and_restarts_are_told() -> None:
    cluster = settled()
    cluster.running = [pod("chat-1-a", 3, sidecar=7), pod("chat-1-b", 0)]
    run(cluster)
    assert (told(metrics.LLMSERVICE_REPLICAS), told(metrics.LLMSERVICE_READY_REPLICAS)) == (2, 1)
    assert told(metrics.LLMSERVICE_READY) == 0
    assert told(metrics.LLMSERVICE_POD_RESTARTS, pod="chat-1-a") == 3
    assert told(metrics.LLMSERVICE_POD_RESTARTS, pod="chat-1-b") == 0


def test_a_first_start_is_told_until_a_pod_has_answered() -> None:
    cluster = cluster_with()
    run(cluster)
    assert told(metrics.LLMSERVICE_STARTING) == 1
    for ready, starting in ((1, 0), (0, 0)):
        cluster.objects["Deployment", "chat"]["status"] = {"replicas": 1, "readyReplicas": ready}
        run(cluster)
        assert told(metrics.LLMSERVICE_STARTING) == starting


def test_a_promise_is_told_with_the_bound_as_the_histogram_spells_it() -> None:
    cluster = cluster_with(slo={"ttftP99": "1s", "itlP99": "75ms", "availability": "99.9%"})
    run(cluster)
    assert told(metrics.LLMSERVICE_SLO_RATIO, slo="ttftP99", le="1.0") == 0.99
    assert told(metrics.LLMSERVICE_SLO_RATIO, slo="itlP99", le="0.075") == 0.99
    assert told(metrics.LLMSERVICE_SLO_RATIO, slo="availability", le="") == pytest.approx(0.999)
    change(cluster, slo={})
    run(cluster)
    assert told(metrics.LLMSERVICE_SLO_RATIO, slo="ttftP99", le="1.0") is None


@pytest.mark.parametrize("how", ["deleted", "elsewhere"])
def test_a_service_that_is_not_served_any_more_is_not_told_of(how: str) -> None:
    cluster = settled()
    run(cluster)
    assert told(metrics.LLMSERVICE_REPLICAS) == 2
    if how == "deleted":
        del cluster.objects["LLMService", "chat"]
        run(cluster)
    else:
        cluster.claims.installation = "another"
        run(cluster)
    assert told(metrics.LLMSERVICE_REPLICAS) is None


def test_every_row_of_the_table_is_told_and_nothing_else() -> None:
    run(cluster_with(slo={"availability": "99%"}))
    assert [family.name for family in metrics_endpoint.services.collect()] == [
        metric.name.removesuffix("_total") for metric in metrics.LLMSERVICE_METRICS
    ]
