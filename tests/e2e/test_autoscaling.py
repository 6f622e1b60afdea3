"""The autoscaler at work: on the cluster's metrics-server, and on the engine's own metrics, by way of the operator."""

import json
import re

import pytest
from client import POD, Client
from kube import Kube, llmservice
from patience import eventually
from release import NAME

pytestmark = pytest.mark.cluster

AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}
DIRECTLY = f"""\
import ssl, urllib.error, urllib.request
try:
    urllib.request.urlopen("https://{NAME}-metrics-api.{NAME}.svc/apis", context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:
    print(error.code)
"""


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


def test_a_queue_brings_pods_and_they_go_with_it(kube: Kube, client: Client, name: str) -> None:
    autoscaling = {
        "maxReplicas": 3,
        "targets": {"queueDepth": 1, "runningRequests": 8},
        "behavior": {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE},
    }
    kube.apply(llmservice(name, autoscaling=autoscaling, engine={"kvCacheMemory": "128Mi", "maxNumSeqs": 1}))
    kube.wait_ready(name)

    def told() -> str:
        return f"{kube.condition(name, 'ScalingActive')}\n{kube.kubectl('describe', 'hpa', name)}"

    def sizes() -> list[int]:
        """Those that the autoscaler has asked for, by its events."""
        events = [
            event
            for event in kube.all("events")
            if event["involvedObject"]["kind"] == "HorizontalPodAutoscaler" and event["involvedObject"]["name"] == name
        ]
        return [int(found[1]) for event in events if (found := re.search(r"New size: (\d+)", event["message"]))]

    eventually(lambda: kube.condition(name, "ScalingActive").get("status") == "True", told)
    with client.load(f"http://{name}.{kube.namespace}.svc/v1", "smollm2", workers=8, tokens=64):
        eventually(lambda: len(kube.pods(name)) == 3, told)
        path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{kube.namespace}/pods/*/octavo_requests_running"
        answer = json.loads(kube.kubectl("get", f"--raw={path}"))
        assert answer["kind"] == "MetricValueList"
        assert {item["describedObject"]["kind"] for item in answer["items"]} == {"Pod"}
    eventually(lambda: len(kube.pods(name)) == 1, told)
    assert 3 in sizes()
    assert 1 in sizes()
    assert "pods metric octavo_requests_waiting above target" in kube.kubectl("describe", "hpa", name)
    anonymous = kube.kubectl("get", f"--raw={path}", "--as=system:anonymous", "--as-group=nobody", check=False)
    assert "Forbidden" in anonymous or "forbidden" in anonymous
    assert client.kube.kubectl("exec", POD, "--", "python", "-c", DIRECTLY).strip() == "401"
