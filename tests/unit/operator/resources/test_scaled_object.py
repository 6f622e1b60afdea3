"""The ScaledObject of KEDA."""

from typing import Any

from built import SETTINGS, service

from octavo_operator import resources


def scaled(**autoscaling: Any) -> dict[str, Any]:
    said = service(autoscaling={"maxReplicas": 3, "provider": "keda"} | autoscaling)
    settings = SETTINGS.model_copy(update={"prometheus_url": "http://prometheus:9090"})
    found: dict[str, Any] = next(item for item in resources.build(said, settings) if item["kind"] == "ScaledObject")
    return found["spec"]


def test_it_scales_the_deployment_within_the_bounds_at_the_pace_asked_for() -> None:
    spec = scaled(minReplicas=2, behavior={"scaleDown": {"stabilizationWindowSeconds": 7}})
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 3)
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 7
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 60


def test_cpu_decides_where_nothing_else_does() -> None:
    of_engine = {"value": "80", "containerName": "engine"}
    assert scaled()["triggers"] == [{"type": "cpu", "metricType": "Utilization", "metadata": of_engine}]


def test_a_gauge_is_summed_up_and_shared_out_among_the_pods() -> None:
    (trigger,) = scaled(targets={"kvCacheUsage": 75})["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(octavo_kv_cache_usage_ratio{namespace="default",pod=~"chat-[^-]+-[^-]+"})',
        "threshold": "0.75",
    }


def test_a_quantile_is_of_all_pods_and_nothing_without_traffic() -> None:
    (trigger,) = scaled(targets={"ttftP99": "500ms"})["triggers"]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", "0.5")
    assert trigger["metadata"]["query"] == (
        "(histogram_quantile(0.99, sum by (le) (rate(octavo_time_to_first_token_seconds_bucket"
        '{namespace="default",pod=~"chat-[^-]+-[^-]+"}[1m]))) >= 0) or vector(0)'
    )


def test_thresholds_are_plain_numbers() -> None:
    (trigger,) = scaled(targets={"tokensPerSecond": 1000})["triggers"]
    assert trigger["metadata"]["threshold"] == "1000"
