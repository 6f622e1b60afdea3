"""The autoscaler at work, on the metrics of the cluster's metrics-server."""

import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually

pytestmark = pytest.mark.cluster


def test_load_brings_a_second_pod(kube: Kube, client: Client, name: str) -> None:
    kube.apply(llmservice(name, autoscaling={"maxReplicas": 2, "targets": {"cpuUtilization": 200}}))
    kube.wait_ready(name)

    def utilization() -> int | None:
        """CPU use as the autoscaler sees it, in percent of what a pod is promised; None while it is unknown."""
        status = (kube.get("horizontalpodautoscaler", name) or {}).get("status", {})
        for metric in status.get("currentMetrics") or []:
            found: int | None = metric.get("containerResource", {}).get("current", {}).get("averageUtilization")
            return found
        return None

    with client.load(f"http://{name}.{kube.namespace}.svc/v1", "smollm2", workers=2, tokens=64):
        eventually(lambda: (utilization() or 0) > 200, lambda: kube.kubectl("describe", "hpa", name))
        assert "<unknown>" not in kube.kubectl("get", "hpa", name)
        eventually(lambda: len(kube.pods(name)) == 2, lambda: kube.kubectl("describe", "hpa", name))
    kube.wait_ready(name)
    assert kube.condition(name)["message"] == "2 of 2 replicas answer"
