"""Who says how many pods there are."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from live import SMALLEST, Kubernetes, Operator
from patience import eventually

pytestmark = pytest.mark.cluster


def test_autoscaler_takes_over_and_gives_back(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    def replicas() -> int:
        return int((kubernetes.get("deployment", name) or {"spec": {"replicas": -1}})["spec"]["replicas"])

    kubernetes.apply(name, SMALLEST | {"replicas": 3})
    eventually(lambda: replicas() == 3, what="three replicas")
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="the autoscaler")
    assert replicas() == 3, "the hand-over must not reset the replicas"
    kubernetes.kubectl("scale", f"deployment/{name}", "--replicas=4")
    time.sleep(1)
    assert replicas() == 4, "the operator must leave the autoscaler's number alone"
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: replicas() == 2, what="two replicas")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name) is None, what="the autoscaler is gone")


def test_scale_subresource(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("scale", "llmservice", name, "--replicas=2")
    eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="two replicas")
    kubernetes.kubectl("scale", "llmservice", name, "--replicas=0")
    eventually(lambda: kubernetes.reason(name) == "ScaledToZero", what="ScaledToZero")
    scale = json.loads(
        kubernetes.kubectl(
            "get", "--raw", f"/apis/serving.octavo.dev/v1alpha1/namespaces/default/llmservices/{name}/scale"
        )
    )
    assert scale["status"]["selector"] == f"serving.octavo.dev/service={name}"


def test_scale_can_be_read_and_an_autoscaler_of_the_service_is_no_conflict(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    path = f"/apis/serving.octavo.dev/v1alpha1/namespaces/default/llmservices/{name}/scale"
    assert json.loads(kubernetes.kubectl("get", "--raw", path))["spec"]["replicas"] == 1
    kubernetes.kubectl("autoscale", "llmservice", name, "--min=2", "--max=3")
    try:
        eventually(
            lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2,
            what=lambda: f"two replicas: {kubernetes.kubectl('describe', 'hpa', name)}",
        )
        assert kubernetes.reason(name) == "Starting"
    finally:
        kubernetes.kubectl("delete", "hpa", name)


def test_an_autoscaler_of_the_deployment_is_respected(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("autoscale", "deployment", name, "--name", f"{name}-theirs", "--min=2", "--max=3")
    try:
        eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="two replicas")
        kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})
        eventually(
            lambda: "--max-model-len" in json.dumps(kubernetes.get("deployment", name)), what="the edit is carried out"
        )
        assert (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2
        kubernetes.apply(name, SMALLEST | {"suspend": True})
        eventually(lambda: kubernetes.reason(name) == "Suspended", what="Suspended")
        time.sleep(3)  # the autoscaler looks every second
        assert (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 0
        kubernetes.apply(name, SMALLEST)
        eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="as many again")
    finally:
        kubernetes.kubectl("delete", "hpa", f"{name}-theirs")


def test_a_service_at_zero_on_request_is_settled(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"replicas": 0})
    kubernetes.kubectl("wait", "--for=condition=Ready", f"llmservice/{name}", "--timeout=300s")
    assert kubernetes.reason(name) == "ScaledToZero"
    assert {event["type"] for event in kubernetes.events(name)} == {"Normal"}


def test_a_suspended_service_is_settled_and_comes_back(
    operator: Operator, kubernetes: Kubernetes, name: str, kstatus: Path
) -> None:
    def replicas() -> int:
        return int((kubernetes.get("deployment", name) or {"spec": {"replicas": -1}})["spec"]["replicas"])

    spec = SMALLEST | {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}
    kubernetes.apply(name, spec)
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="the autoscaler")
    kubernetes.apply(name, spec | {"suspend": True})
    eventually(lambda: kubernetes.reason(name) == "Suspended", what="Suspended")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name) is None, what="the autoscaler is gone")
    assert replicas() == 0
    service = kubernetes.get("llmservice", name)
    said = subprocess.run([kstatus], input=json.dumps(service), capture_output=True, text=True, check=True).stdout
    assert said.startswith("Current"), said
    kubernetes.apply(name, spec)
    eventually(lambda: replicas() == 2, what="two replicas")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="the autoscaler")
    assert {event["type"] for event in kubernetes.events(name)} == {"Normal"}
