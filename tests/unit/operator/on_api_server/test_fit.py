"""Whether a model fits, asked of a real API server: the Job that reads it, and nodes that tell their GPUs."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live import Kubernetes, Operator
from patience import eventually

from octavo_operator.cluster import NODES_HOLD
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS

pytestmark = pytest.mark.cluster

HUB = {"model": {"uri": "hf://a/b", "tokenSecret": {"name": "hub"}}}
FOUND = {"exitCode": 0, "message": BUILTIN_DESCRIPTIONS["smollm2"]}


def job(kubernetes: Kubernetes, name: str) -> list[dict[str, Any]]:
    return kubernetes.labelled("jobs", f"serving.octavo.dev/service={name}")


def end_pod(kubernetes: Kubernetes, name: str, terminated: dict[str, Any]) -> dict[str, Any]:
    """The pod of a service's Job ends so; the pod."""
    (made,) = eventually(lambda: job(kubernetes, name), what="a Job")
    selector = f"batch.kubernetes.io/job-name={made['metadata']['name']}"

    def running() -> list[dict[str, Any]]:
        return [pod for pod in kubernetes.labelled("pods", selector) if pod["status"].get("phase") == "Pending"]

    pod: dict[str, Any] = eventually(running, what="its pod")[0]
    container = {"name": "engine", "image": "octavo.local/demo:1", "imageID": "", "ready": False, "restartCount": 0}
    phase = "Failed" if terminated["exitCode"] else "Succeeded"
    ended = {"phase": phase, "containerStatuses": [container | {"state": {"terminated": terminated}}]}
    patch = json.dumps({"status": ended})
    kubernetes.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", patch)
    return pod


def test_a_job_reads_the_model_before_pods_start_and_goes(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, HUB)
    eventually(lambda: kubernetes.reason(name) == "ReadingModel", what="ReadingModel")
    assert kubernetes.get("deployment", name) is None
    pod = end_pod(kubernetes, name, FOUND)
    assert "serving.octavo.dev/service" not in pod["metadata"]["labels"], "the Service does not lead to it"
    eventually(lambda: kubernetes.get("deployment", name), what=lambda: f"pods: {kubernetes.condition(name, 'Ready')}")
    eventually(lambda: kubernetes.condition(name, "Fits").get("status") == "True", what="Fits")
    eventually(lambda: job(kubernetes, name) == [], what="its answer is in the status, and the Job goes")
    eventually(lambda: kubernetes.get("pod", pod["metadata"]["name"]) is None, what="and its pod with it")
    status = (kubernetes.get("llmservice", name) or {})["status"]
    assert status["model"]["description"] == BUILTIN_DESCRIPTIONS["smollm2"]
    assert status["memory"]["weights"] > 0


def test_a_source_that_cannot_be_read_is_told_and_then_the_model(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, HUB)
    for _ in range(2):  # it is tried once more
        end_pod(kubernetes, name, {"exitCode": 2, "message": "octavo: model: cannot reach the hub for hf://a/b"})
    eventually(
        lambda: kubernetes.condition(name, "Fits").get("reason") == "ModelUnreadable",
        what=lambda: f"told: {kubernetes.condition(name, 'Fits')}",
    )
    assert "model: cannot reach the hub for hf://a/b" in kubernetes.condition(name, "Fits")["message"]
    eventually(lambda: kubernetes.get("deployment", name), what="pods start all the same")
    kubernetes.kubectl("delete", "job", job(kubernetes, name)[0]["metadata"]["name"])
    end_pod(kubernetes, name, FOUND)
    eventually(lambda: kubernetes.condition(name, "Fits").get("status") == "True", what="Fits")
    status = (kubernetes.get("llmservice", name) or {})["status"]
    assert "problem" not in status["model"], "what is no longer so is not said"


@pytest.fixture
def gpu_node(kubernetes: Kubernetes) -> Iterator[dict[str, str]]:
    """A node that tells its GPU."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu", "labels": labels}}
    kubernetes.kubectl("apply", "-f", "-", document=json.dumps(node))
    time.sleep(NODES_HOLD)  # the operator may still know the node of the test before
    yield labels
    kubernetes.kubectl("delete", "node", "gpu")


def test_nodes_tell_their_gpus(operator: Operator, kubernetes: Kubernetes, name: str, gpu_node: dict[str, str]) -> None:
    small = {"model": {"uri": "builtin://smollm2"}, "engine": {"maxNumSeqs": 8, "kvCacheMemory": "64Gi"}}
    kubernetes.apply(name, small | {"accelerator": {"type": "nvidia"}, "resources": {"memory": "128Gi"}})
    eventually(
        lambda: kubernetes.reason(name) == "DoesNotFit", what=lambda: f"told: {kubernetes.condition(name, 'Fits')}"
    )
    assert "NVIDIA-L4 (24.15 GB)" in kubernetes.condition(name, "Fits")["message"]
    assert kubernetes.get("deployment", name) is None
    assert kubernetes.condition(name, "Stalled")["reason"] == "DoesNotFit"
    product = {"accelerator": {"type": "nvidia", "product": "NVIDIA-L4"}, "resources": {"memory": "16Gi"}}
    kubernetes.apply(name, {"model": {"uri": "builtin://smollm2"}} | product)
    deployment = eventually(lambda: kubernetes.get("deployment", name), what="it fits by another spec")
    selected = deployment["spec"]["template"]["spec"]["nodeSelector"]
    assert selected == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    eventually(lambda: kubernetes.condition(name, "Fits")["reason"] == "Fits", what="told")


def test_a_node_whose_taint_pods_do_not_tolerate_does_not_count(
    operator: Operator, kubernetes: Kubernetes, name: str, gpu_node: dict[str, str]
) -> None:
    kubernetes.kubectl("taint", "node", "gpu", "team=training:NoSchedule")
    spec = {"model": {"uri": "builtin://smollm2"}, "accelerator": {"type": "nvidia"}}

    def fits(reason: str) -> None:
        eventually(
            lambda: kubernetes.condition(name, "Fits").get("reason") == reason,
            what=lambda: f"{reason}: {kubernetes.condition(name, 'Fits')}",
        )

    kubernetes.apply(name, spec)
    fits("DeviceUnknown")
    toleration = {"key": "team", "value": "training", "effect": "NoSchedule"}
    kubernetes.apply(name, spec | {"tolerations": [toleration], "nodeSelector": {"nvidia.com/gpu.memory": "23034"}})
    fits("Fits")
    pod = (kubernetes.get("deployment", name) or {})["spec"]["template"]["spec"]
    assert toleration | {"operator": "Equal"} in pod["tolerations"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.memory": "23034"}
