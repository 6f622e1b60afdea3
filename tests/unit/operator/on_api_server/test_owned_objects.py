"""What a service owns stays as it is to be, and what it does not own is left alone."""

import json
import time
from typing import Any

import pytest
from live import CHILDREN, SMALLEST, Kubernetes, Operator
from patience import eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("kind", [*CHILDREN, "networkpolicy"])
def test_deleted_child_is_back(operator: Operator, kubernetes: Kubernetes, name: str, kind: str) -> None:
    everything = {"autoscaling": {"maxReplicas": 3}, "observability": {"dashboard": True}}
    kubernetes.apply(name, SMALLEST | everything | {"endpoint": {"allowedNamespaces": ["default"]}})
    child = f"{name}-dashboard" if kind == "configmap" else name
    live = eventually(lambda: kubernetes.get(kind, child), what=f"{kind} {child}")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="everything")
    kubernetes.kubectl("delete", kind, child, "--cascade=background")
    eventually(
        lambda: (kubernetes.get(kind, child) or live)["metadata"]["uid"] != live["metadata"]["uid"],
        what=lambda: f"it is back: {kubernetes.condition(name, 'Ready')}",
    )


def test_edited_child_is_put_right(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("set", "image", f"deployment/{name}", "engine=elsewhere:1")
    kubernetes.kubectl("scale", f"deployment/{name}", "--replicas=4")

    def restored() -> bool:
        spec = (kubernetes.get("deployment", name) or {})["spec"]
        return (spec["template"]["spec"]["containers"][0]["image"], spec["replicas"]) == ("octavo.local/demo:1", 1)

    eventually(restored, what="image and replicas as before")


def test_what_a_hand_wrote_is_taken_away(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    before = (kubernetes.get("deployment", name) or {})["spec"]
    kubernetes.kubectl("set", "env", f"deployment/{name}", "ROGUE=1")
    added = {"priorityClassName": "x", "containers": [{"name": "b", "image": "bad"}]}
    kubernetes.kubectl("patch", "deployment", name, "-p", json.dumps({"spec": {"template": {"spec": added}}}))
    kubernetes.kubectl("patch", "deployment", name, "-p", '{"spec": {"paused": true}}')
    port = [{"op": "replace", "path": "/spec/ports/0/port", "value": 9999}]
    kubernetes.kubectl("patch", "service", name, "--type=json", "-p", json.dumps(port))
    eventually(
        lambda: (kubernetes.get("deployment", name) or {})["spec"] == before,
        what=lambda: f"as before: {(kubernetes.get('deployment', name) or {})['spec']}",
    )
    eventually(
        lambda: [item["port"] for item in (kubernetes.get("service", name) or {})["spec"]["ports"]] == [80],
        what="the port as before",
    )
    label = '{"spec": {"selector": {"version": "v2"}}}'
    kubernetes.kubectl("patch", "service", name, "--type=merge", "-p", label)
    eventually(
        lambda: "version" not in (kubernetes.get("service", name) or {})["spec"]["selector"],
        what="it leads to the pods again",
    )

    def applied_again() -> bool:
        records = (kubernetes.get("service", name) or {})["metadata"]["managedFields"]
        return any(
            each["manager"] == "octavo" and "f:selector" in each["fieldsV1"].get("f:spec", {}) for each in records
        )

    eventually(applied_again, what="the record says who applies the selector")
    kubernetes.kubectl("rollout", "restart", f"deployment/{name}")
    time.sleep(2)

    def template() -> dict[str, Any]:
        found: dict[str, Any] = (kubernetes.get("deployment", name) or {})["spec"]["template"]
        return found

    mark = "kubectl.kubernetes.io/restartedAt"
    assert mark in template()["metadata"]["annotations"], "a restart is anybody's right"
    kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})
    eventually(lambda: "--max-model-len" in json.dumps(template()), what="the edit is carried out")
    assert mark in template()["metadata"]["annotations"], "and replaces the pods once more, not back"


def test_name_conflict(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.kubectl("create", "service", "clusterip", name, "--tcp=80")
    before = (kubernetes.get("service", name) or {})["metadata"]["resourceVersion"]
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "NameConflict", what="NameConflict")
    assert f"Service {name} exists" in kubernetes.condition(name, "Ready")["message"]
    assert kubernetes.get("deployment", name) is None
    assert (kubernetes.get("service", name) or {})["metadata"]["resourceVersion"] == before
    kubernetes.kubectl("delete", "service", name)
    eventually(lambda: kubernetes.get("deployment", name), what="the conflict is over")


def test_orphans_can_be_adopted(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    uid = (kubernetes.get("deployment", name) or {})["metadata"]["uid"]
    kubernetes.kubectl("delete", "llmservice", name, "--cascade=orphan", "--timeout=300s")
    eventually(
        lambda: "ownerReferences" not in (kubernetes.get("deployment", name) or {})["metadata"], what="an orphan"
    )
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "NameConflict", what="NameConflict")
    assert "serving.octavo.dev/adopt=true" in kubernetes.condition(name, "Ready")["message"]
    kubernetes.kubectl("annotate", "llmservice", name, "serving.octavo.dev/adopt=true")
    eventually(
        lambda: kubernetes.reason(name) == "Starting", what=lambda: f"adopted: {kubernetes.condition(name, 'Ready')}"
    )
    deployment = kubernetes.get("deployment", name) or {}
    assert deployment["metadata"]["uid"] == uid
    assert deployment["metadata"]["ownerReferences"][0]["name"] == name


def test_labels_that_are_handed_down_and_annotations_of_the_endpoint_come_and_go(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    def marks() -> tuple[str | None, str | None, set[str]]:
        service, deployment = (kubernetes.get(kind, name) or {} for kind in ("service", "deployment"))
        if not service or not deployment:
            return None, None, set()
        pods = deployment["spec"]["template"]["metadata"]["labels"]
        annotations = {key for key in service["metadata"]["annotations"] if "example.com" in key}
        return service["metadata"]["labels"].get("team"), pods.get("team"), annotations

    kubernetes.apply(name, SMALLEST | {"endpoint": {"annotations": {"example.com/scheme": "internal"}}})
    eventually(lambda: marks() == (None, None, {"example.com/scheme"}), what=lambda: f"the annotation: {marks()}")
    kubernetes.kubectl("annotate", "service", name, "cloud.example.com/id=7")
    kubernetes.kubectl("label", "llmservice", name, "team=search")
    both = {"example.com/scheme", "cloud.example.com/id"}
    eventually(lambda: marks() == ("search", "search", both), what=lambda: f"the label: {marks()}")
    kubernetes.kubectl("label", "llmservice", name, "team-")
    kubernetes.apply(name, SMALLEST)
    gone = (None, None, {"cloud.example.com/id"})
    eventually(lambda: marks() == gone, what=lambda: f"what was handed down is gone: {marks()}")
