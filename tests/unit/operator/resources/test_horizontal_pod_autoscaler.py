"""The HorizontalPodAutoscaler."""

from typing import Any

import pytest
from built import built

TARGETS = {
    "gpuUtilization": (80, "octavo_gpu_utilization_ratio", "800m"),
    "p99Latency": ("2s", "octavo_request_duration_seconds_p99", "2"),
    "ttftP99": ("500ms", "octavo_time_to_first_token_seconds_p99", "500m"),
    "itlP99": ("50ms", "octavo_inter_token_latency_seconds_p99", "50m"),
    "queueDepth": (4, "octavo_requests_waiting", "4"),
    "runningRequests": (8, "octavo_requests_running", "8"),
    "kvCacheUsage": (75, "octavo_kv_cache_usage_ratio", "750m"),
    "tokensPerSecond": (1500, "octavo_tokens_per_second", "1500"),
}


def autoscaler(**autoscaling: Any) -> dict[str, Any]:
    found: dict[str, Any] = built("HorizontalPodAutoscaler", autoscaling={"maxReplicas": 3} | autoscaling)["spec"]
    return found


def cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    source = {"name": "cpu", "container": "engine", "target": target}
    return {"type": "ContainerResource", "containerResource": source}


def test_cpu_decides_where_nothing_else_does() -> None:
    spec = autoscaler()
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"] == [cpu(80)]
    assert autoscaler(targets={"cpuUtilization": 70})["metrics"] == [cpu(70)]


@pytest.mark.parametrize("field", TARGETS)
def test_a_target_is_a_metric_of_the_pods(field: str) -> None:
    value, name, quantity = TARGETS[field]
    (metric,) = autoscaler(targets={field: value})["metrics"]
    target = {"type": "AverageValue", "averageValue": quantity}
    assert metric == {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def test_several_targets_stand_beside_each_other() -> None:
    wanted: dict[str, Any] = {field: value for field, (value, _, _) in TARGETS.items()} | {"cpuUtilization": 90}
    metrics = autoscaler(targets=wanted)["metrics"]
    names = {metric["pods"]["metric"]["name"] for metric in metrics[:-1]}
    assert names == {name for _, name, _ in TARGETS.values()}
    assert metrics[-1] == cpu(90)


def test_it_grows_after_a_minute_and_shrinks_after_five() -> None:
    assert autoscaler()["behavior"] == {
        "scaleUp": {
            "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def test_what_behavior_says_goes_before_the_usual() -> None:
    policies = [{"type": "Pods", "value": 4, "periodSeconds": 15}]
    said = {"scaleUp": {"policies": policies, "selectPolicy": "Min"}, "scaleDown": {"stabilizationWindowSeconds": 0}}
    assert autoscaler(behavior=said)["behavior"] == {
        "scaleUp": {"stabilizationWindowSeconds": 60, "policies": policies, "selectPolicy": "Min"},
        "scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }
