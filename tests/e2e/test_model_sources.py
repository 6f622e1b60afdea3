"""Models from a hub and from a volume, served by pods that had neither in their image."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import target
from client import Client
from kube import Kube, Object, llmservice

pytestmark = pytest.mark.cluster

HUB = Path(__file__).with_name("hub.py").read_text()
PORT = 8080
TOKEN = "hf_e2e"
FOLDER = "octavo-e2e-models"  # in the node's /tmp
CLAIM = "models"


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
