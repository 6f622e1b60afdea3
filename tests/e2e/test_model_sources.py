"""Models from a hub and from a volume, served by pods that had neither in their image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import target
from client import Client
from kube import Kube, Object, llmservice
from patience import eventually
from stand_in import stand_in

pytestmark = pytest.mark.cluster

HUB = Path(__file__).with_name("hub.py").read_text()
PORT = 8080
TOKEN = "hf_e2e"
FOLDER = "octavo-e2e-models"  # in the node's /tmp
CLAIM = "models"
MARK = "serving.octavo.dev/model-cache"


@pytest.fixture(scope="module")
def hub(kube: Kube, place: target.Target) -> Iterator[str]:
    """URL of a hub in the first namespace. Its model also lies on a volume of the node, which `models` claims."""
    labels = {"app": "hub"}
    metadata = {"name": "hub", "labels": labels}
    container = {
        "name": "hub",
        "image": place.images["demo"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", HUB, str(PORT), f"/node/{FOLDER}/tiny", TOKEN],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 60},
        "volumeMounts": [{"name": "node", "mountPath": "/node"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "node", "hostPath": {"path": "/tmp"}}],
        "securityContext": {"runAsUser": 0},
        "terminationGracePeriodSeconds": 0,
    }
    kube.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": TOKEN}},
        *volume(),
    )
    kube.kubectl("wait", "--for=condition=Ready", "pod/hub", "--timeout=300s")
    yield f"http://hub.{kube.namespace}.svc:{PORT}"
    kube.kubectl("exec", "hub", "--", "rm", "-r", f"/node/{FOLDER}")
    kube.delete("pod,service,secret", "hub")
    kube.delete("pvc", CLAIM)
    kube.delete("pv", FOLDER)


def volume() -> tuple[Object, Object]:
    """A volume and the claim that is bound to it."""
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    given = shared | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": f"/tmp/{FOLDER}"}}
    asked = shared | {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": FOLDER}
    return (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": FOLDER}, "spec": given},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": asked},
    )


@pytest.mark.parametrize("source", ["hf", "pvc"])
def test_model_is_served(kube: Kube, client: Client, hub: str, name: str, source: str) -> None:
    if source == "hf":
        endpoint = {"name": "engine", "env": [{"name": "HF_ENDPOINT", "value": hub}]}
        spec = {
            "model": {"uri": "hf://tests/tiny", "tokenSecret": {"name": "hub"}},
            "podTemplate": {"spec": {"containers": [endpoint]}},
        }
    else:
        spec = {"model": {"uri": f"pvc://{CLAIM}/tiny"}}
    kube.apply(llmservice(name, **spec))
    kube.wait_ready(name)
    with client.load(f"http://{name}.{kube.namespace}.svc/v1", "tiny", requests=1, tokens=20) as load:
        (request,) = load.stop()
    assert request.error is None
    assert request.tokens > 1


def of_hub(hub: str, **more: Any) -> Object:
    """A spec for the hub's model."""
    model = {"uri": "hf://tests/tiny", "tokenSecret": {"name": "hub"}}
    return {"model": model, "env": [{"name": "HF_ENDPOINT", "value": hub}]} | more


def test_a_model_that_does_not_fit_is_told_before_a_pod_starts(kube: Kube, hub: str, name: str) -> None:
    kube.apply(llmservice(name, **of_hub(hub, resources={"cpu": "100m", "memory": "256Mi"})))
    eventually(
        lambda: kube.condition(name).get("reason") == "DoesNotFit", lambda: f"refused: {kube.condition(name, 'Fits')}"
    )
    message = kube.condition(name)["message"]
    print(message)
    assert "must be at most 0.00 GB, which weights and reserves leave of 0.27 GB, got 128Mi" in message
    assert "what would do: spec.resources.memory 768Mi" in message
    assert kube.get("deployment", name) is None
    assert kube.pods(name) == []
    kube.patch(name, {"resources": {"memory": "1536Mi"}})
    kube.wait_ready(name)
    eventually(lambda: "measuredKvTokens" in status(kube, name)["memory"], lambda: f"measured: {status(kube, name)}")
    memory = status(kube, name)["memory"]
    assert memory["measuredKvTokens"] == memory["kvTokens"] == 128 * 2**20 // memory["kvBytesPerToken"]
    assert kube.all("jobs", name) == [], "read once, and gone"
    eventually(
        lambda: [pod for pod in kube.all("pods") if pod["metadata"]["name"].startswith(f"{name}-model-")] == [],
        "its pod too",
    )


def test_a_source_that_is_not_reached_is_told_and_pods_start(kube: Kube, name: str) -> None:
    kube.apply(llmservice(name, **of_hub("http://127.0.0.1:9", model={"uri": "hf://tests/tiny"})))
    eventually(
        lambda: kube.condition(name, "Fits").get("reason") == "ModelUnreadable",
        lambda: f"told: {kube.condition(name, 'Fits')}",
    )
    print(kube.condition(name, "Fits")["message"])
    assert "cannot reach the hub for hf://tests/tiny" in kube.condition(name, "Fits")["message"]
    assert kube.condition(name, "Fits")["status"] == "Unknown"
    eventually(lambda: kube.pods(name), "pods start")


def test_services_share_one_download_which_goes_on_after_a_kill(kube: Kube, hub: str, name: str) -> None:
    names = (name, f"{name}-b")
    model = {"uri": "hf://tests/slow", "endpoint": hub, "tokenSecret": {"name": "hub"}, "cache": {"claimName": CLAIM}}
    kube.apply(*(stand_in(each, model=model) for each in names))

    def downloads() -> list[Object]:
        return [job for job in kube.all("jobs") if MARK in job["metadata"].get("labels", {})]

    def bytes_there(each: str) -> int:
        return int(status(kube, each).get("model", {}).get("download", {}).get("bytes", 0))

    for each in names:
        eventually(lambda each=each: bytes_there(each) > 0, lambda: f"told how far it is: {kube.condition(name)}")
        assert kube.condition(each)["reason"] == "DownloadingModel"
        print(kube.condition(each)["message"])
        assert kube.get("deployment", each) is None
    (job,) = downloads()
    selector = f"batch.kubernetes.io/job-name={job['metadata']['name']}"
    kube.kubectl("delete", "pod", "--selector", selector, "--grace-period=1")  # waits until it runs no more
    kube.kubectl("exec", "hub", "--", "touch", "/tmp/go")
    for each in names:
        kube.wait_ready(each)
        told = status(kube, each)["model"]
        assert told["revision"] == "0123456789abcdef0123456789abcdef01234567"
        deployment = kube.get("deployment", each)
        assert deployment is not None
        assert deployment["spec"]["template"]["spec"]["containers"][0]["args"][1] == f"file:///models/{told['folder']}"
        folder = f"/models/{told['folder']}"
        inside = kube.kubectl("exec", f"deploy/{each}", "--", "ls", folder)
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(inside.split())
        refused = kube.kubectl("exec", f"deploy/{each}", "--", "touch", f"{folder}/x", check=False)
        assert "Read-only file system" in refused
    asked = [line for line in kube.kubectl("logs", "hub").splitlines() if line.startswith("tests/slow weights from ")]
    print(asked)
    starts = [int(line.rpartition(" ")[2]) for line in asked]
    assert starts[0] == 0
    assert len(starts) == 2, "once for both, and once after the kill"
    assert starts[1] > 0, "from where it was"
    kube.delete("llmservice", names[1])


def test_a_token_that_is_refused_is_a_condition(kube: Kube, hub: str, name: str) -> None:
    bad = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"token": "hf_no"}}
    model = {"uri": "hf://tests/tiny", "endpoint": hub, "cache": {"claimName": CLAIM}}
    kube.apply(bad, llmservice(name, model=model | {"tokenSecret": {"name": name}}))
    eventually(
        lambda: kube.condition(name).get("reason") == "ModelDownloadFailed", lambda: f"told: {kube.condition(name)}"
    )
    print(kube.condition(name)["message"])
    assert "no permission to read tests/tiny (HTTP 401)" in kube.condition(name)["message"]
    assert kube.get("deployment", name) is None
    kube.patch(name, {"model": {"tokenSecret": {"name": "hub"}}})
    kube.wait_ready(name)
    assert kube.condition(name, "Fits")["status"] == "True"
    kube.delete("secret", name)


def status(kube: Kube, name: str) -> Object:
    service = kube.get("llmservice", name)
    assert service is not None
    found: Object = service["status"]
    return found
