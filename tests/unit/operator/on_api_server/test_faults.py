"""What a cluster lives through, and the operator with it: it goes on afterwards, and then rests."""

import json
import subprocess
import time
from typing import Any

import pytest
from live import ROOT, SMALLEST, Kubernetes, Operator, llmservice
from patience import eventually

pytestmark = pytest.mark.cluster


def replicas(kubernetes: Kubernetes, name: str) -> int | None:
    found = kubernetes.get("deployment", name)
    return None if found is None else int(found["spec"]["replicas"])


def test_the_api_server_is_restarted(api_server: Any, operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    api_server.stop("kube-apiserver")
    api_server.start("kube-apiserver")
    api_server.wait_until_ready()
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: replicas(kubernetes, name) == 2, what=operator.log)
    assert operator.is_running


def test_etcd_stands_still_for_a_while(api_server: Any, operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    admin = str(api_server.folder / "admin.kubeconfig")
    api_server.freeze("etcd")
    try:
        write = subprocess.Popen(["kubectl", f"--kubeconfig={admin}", "label", "deployment", name, "during=pause"])
        time.sleep(3)
    finally:
        api_server.thaw("etcd")
    write.wait()
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: replicas(kubernetes, name) == 2, what=operator.log)
    kubernetes.writes_at_rest()
    assert operator.is_running


def test_the_definition_is_upgraded_while_services_change(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    definition = json.loads(kubernetes.kubectl("get", "crd", "llmservices.serving.octavo.dev", "--output=json"))
    column = {"name": "Model", "type": "string", "jsonPath": ".spec.model.uri"}
    names = [f"{name}-{number}" for number in range(3)]
    for turn in range(1, 4):
        for each in names:
            kubernetes.apply(each, SMALLEST | {"replicas": turn})
        former = definition["spec"]["versions"][0]["additionalPrinterColumns"]
        now = [*former, column] if turn % 2 else former
        patch = [{"op": "replace", "path": "/spec/versions/0/additionalPrinterColumns", "value": now}]
        kubernetes.kubectl("patch", "crd", definition["metadata"]["name"], "--type=json", "--patch", json.dumps(patch))
    path = ROOT / "crds/llmservices.serving.octavo.dev.yaml"
    kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(path))
    for each in names:
        eventually(lambda each=each: replicas(kubernetes, each) == 3, what=operator.log)
    kubernetes.kubectl("delete", "llmservice", *names, "--wait=false")


def test_a_namespace_is_deleted_while_its_services_are_made(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    place = f"short-{name}"

    def make() -> None:
        for number in range(3):
            document = json.loads(llmservice(f"{name}-{number}", SMALLEST))
            document["metadata"]["namespace"] = place
            kubernetes.kubectl("create", "--filename=-", document=json.dumps(document))

    def reason() -> str:
        out = '--output=jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
        return kubernetes.kubectl("get", "llmservice", f"{name}-0", f"--namespace={place}", out, check=False)

    kubernetes.kubectl("create", "namespace", place)
    make()
    kubernetes.kubectl("delete", "namespace", place, "--timeout=300s")
    kubernetes.writes_at_rest()
    kubernetes.kubectl("create", "namespace", place)
    make()
    eventually(lambda: reason() == "Starting", what=lambda: f"served again: {reason()}")
    kubernetes.kubectl("delete", "namespace", place, "--wait=false")
