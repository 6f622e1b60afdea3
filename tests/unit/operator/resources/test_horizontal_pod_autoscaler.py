"""The HorizontalPodAutoscaler."""

from built import built


def test_autoscaler() -> None:
    spec = built("HorizontalPodAutoscaler", autoscaling={"maxReplicas": 3, "targets": {"cpuUtilization": 70}})["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["containerResource"] == {
        "name": "cpu",
        "container": "engine",
        "target": {"type": "Utilization", "averageUtilization": 70},
    }
    assert spec["behavior"]["scaleUp"] == {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
    }
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    }
