"""A service from the first apply to its deletion, and what its status says meanwhile."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from live import CHILDREN, READY, SMALLEST, Kubernetes, Operator, llmservice, set_pod_status
from patience import eventually

pytestmark = pytest.mark.cluster


def test_from_apply_to_ready(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"maxReplicas": 3}, "observability": {"dashboard": True}})
    for kind in CHILDREN:
        child = f"{name}-dashboard" if kind == "configmap" else name
        live = eventually(lambda kind=kind, child=child: kubernetes.get(kind, child), what=f"{kind} {child}")
        assert live["metadata"]["ownerReferences"][0]["name"] == name
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    set_pod_status(kubernetes, name, READY)
    kubernetes.kubectl("wait", "--for=condition=Ready", f"llmservice/{name}", "--timeout=300s")
    service = kubernetes.get("llmservice", name)
    assert service is not None
    assert "finalizers" not in service["metadata"]
    assert [key for key in service["metadata"]["annotations"] if "kubectl" not in key] == []
    columns = kubernetes.kubectl("get", "llmservice", name).splitlines()
    assert columns[0].split() == ["NAME", "READY", "REASON", "REPLICAS", "URL", "AGE"]
    assert columns[1].split()[:5] == [name, "True", "Serving", "1/1", f"http://{name}.default.svc/v1"]
    told = {event["message"] for event in kubernetes.events(name)}
    assert {f"created Deployment {name}", f"created Service {name}", "1 of 1 replicas answer"} <= told


def test_edit_of_the_service_rolls_the_pods(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}})
    eventually(lambda: kubernetes.labelled("pods", f"serving.octavo.dev/service={name}"), what="a pod")
    kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})

    def template() -> dict[str, Any]:
        found: dict[str, Any] = (kubernetes.get("deployment", name) or {})["spec"]["template"]["spec"]
        return found

    eventually(lambda: "--max-model-len" in template()["containers"][0]["args"], what="the new flag")
    assert "nodeSelector" not in template()


def test_delete_takes_everything_along(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"maxReplicas": 2}})
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="everything")
    kubernetes.kubectl("delete", "llmservice", name, "--timeout=300s")
    selector = f"serving.octavo.dev/service={name}"
    for kind in CHILDREN:
        eventually(
            lambda kind=kind: kubernetes.labelled(kind, selector) == [],
            what=lambda kind=kind: f"no {kind}: {kubernetes.kubectl('get', kind, '-l', selector, '-o', 'wide')}",
        )


def test_deleted_and_made_again(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("delete", "llmservice", name)
    kubernetes.apply(name, SMALLEST)
    uid = (kubernetes.get("llmservice", name) or {})["metadata"]["uid"]

    def owned_by_the_new_one() -> bool:
        deployment = kubernetes.get("deployment", name)
        return deployment is not None and deployment["metadata"]["ownerReferences"][0]["uid"] == uid

    eventually(
        owned_by_the_new_one,
        what=lambda: f"a Deployment of the new service: {kubernetes.condition(name, 'Ready')}",
    )
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {
                "containerStatuses": [
                    {
                        "name": "engine",
                        "image": "octavo.local/demo:1",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    }
                ]
            },
            "ImagePullBackOff",
            "no such image",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "Unschedulable",
            "add a node with one",
        ),
    ],
)
def test_root_cause_of_a_pod(
    operator: Operator, kubernetes: Kubernetes, name: str, status: dict[str, Any], reason: str, words: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    set_pod_status(kubernetes, name, status)
    eventually(lambda: kubernetes.reason(name) == reason, what=reason)
    assert words in kubernetes.condition(name, "Ready")["message"]
    eventually(
        lambda: [e for e in kubernetes.events(name) if (e["type"], e["reason"]) == ("Warning", reason)], what="event"
    )


def test_nothing_is_written_when_nothing_changes(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"resources": {"cpu": "0.5", "memory": "1024Mi"}})
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    before = kubernetes.writes_at_rest()
    kubernetes.kubectl("annotate", "llmservice", name, "example.com/look=again")
    kubernetes.kubectl("label", "deployment", name, "example.com/look=again")
    time.sleep(2)
    assert kubernetes.writes() == before


def test_operator_that_was_away_catches_up(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    other = f"{name}-b"
    kubernetes.apply(name, SMALLEST)
    kubernetes.apply(other, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name) and kubernetes.get("deployment", other), what="both")
    operator.stop(signal.SIGKILL)
    kubernetes.kubectl("delete", "deployment", name)
    kubernetes.kubectl("delete", "llmservice", other, "--timeout=300s")
    eventually(
        lambda: kubernetes.get("deployment", other) is None,
        what=lambda: f"owned objects go without the operator: {kubernetes.get('deployment', other)}",
    )
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    operator.start()
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment is back")
    assert (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2
    assert operator.stop() == 0
    operator.start()


@pytest.mark.slow
def test_tools_that_go_by_kstatus_wait_for_the_truth(
    operator: Operator, kubernetes: Kubernetes, name: str, kstatus: Path
) -> None:
    """kstatus is what Helm 4, Flux and others wait by."""

    def said_of(service: dict[str, Any]) -> str:
        done = subprocess.run([kstatus], input=json.dumps(service), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def said() -> str:
        return said_of(kubernetes.get("llmservice", name) or {})

    def becomes(status: str, message: str = "") -> None:
        eventually(
            lambda: said().startswith(status) and message in said(), what=lambda: f"{status} ({message}): {said()}"
        )

    document = llmservice(name, SMALLEST)
    fresh = kubernetes.kubectl("create", "--dry-run=server", "--output=json", "-f", "-", document=document)
    assert said_of(json.loads(fresh)).startswith("InProgress"), "nobody has looked at it"
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    assert said().startswith("InProgress")
    set_pod_status(kubernetes, name, READY)
    becomes("Current")
    edited = kubernetes.get("llmservice", name) or {}
    edited["metadata"]["generation"] += 1
    assert said_of(edited).startswith("InProgress"), "a status of a former generation"

    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"terminationGracePeriodSeconds": "abc"}}})
    becomes("Failed", "terminationGracePeriodSeconds: must be a whole number")
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: kubernetes.reason(name) == "Serving", what="one of two answers")
    becomes("Current")
    kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})
    eventually(lambda: kubernetes.reason(name) == "RollingOut", what="RollingOut")
    assert said().startswith("InProgress")
    kubernetes.apply(name, SMALLEST | {"replicas": 0})
    becomes("Current")
    assert kubernetes.reason(name) == "ScaledToZero"
