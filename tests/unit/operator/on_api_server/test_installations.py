"""Installations of the operator: their rights, their namespaces, and each other."""

import json
import signal
from typing import Any

import pytest
from live import READY, SMALLEST, Kubernetes, Operator, llmservice, namespaced_operator
from patience import eventually

pytestmark = pytest.mark.cluster


def test_installation_check(operator: Operator, kubernetes: Kubernetes) -> None:
    """What `helm test` runs, as the operator's account; the operator's Deployment has no node to run on here."""
    arguments = ["--namespace", "default", "--deployment", "octavo-operator"]
    said = operator.run("octavo_operator.control.installation", *arguments)
    assert "llmservices in all namespaces" in said
    assert "the operator is not up: kubectl --namespace default describe deployment octavo-operator" in said


def test_two_installations_over_one_namespace_do_not_fight(
    api_server: Any, operator: Operator, kubernetes: Kubernetes
) -> None:
    """The second is told of, and leaves the services alone until the first is gone."""
    within = "--namespace=contested"
    kubernetes.kubectl("create", "namespace", "contested")
    second = namespaced_operator(
        api_server,
        kubernetes,
        "second",
        ["contested"],
        OCTAVO_INSTALLATION="team/second",
        OCTAVO_RUNTIME_IMAGE="octavo.local/other:2",
    )

    def get(kind: str, field: str) -> str:
        return kubernetes.kubectl("get", kind, "chat", within, f"--output=jsonpath={{{field}}}", check=False)

    def image() -> str:
        return get("deployment", ".spec.template.spec.containers[0].image")

    def reason() -> str:
        return get("llmservice", '.status.conditions[?(@.type=="Ready")].reason')

    document = json.loads(llmservice("chat", SMALLEST))
    document["metadata"]["namespace"] = "contested"
    kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document))
    eventually(lambda: image() == "octavo.local/demo:1", what="the first serves")
    (pod,) = eventually(
        lambda: json.loads(kubernetes.kubectl("get", "pods", within, "--output=json"))["items"], what="a pod"
    )
    ready = json.dumps({"status": READY})
    kubernetes.kubectl("patch", "pod", pod["metadata"]["name"], within, "--subresource=status", "-p", ready)
    eventually(lambda: reason() == "Serving", what="Serving")
    generation = get("deployment", ".metadata.generation")
    second.start()
    try:
        eventually(lambda: reason() == "Contended", what=lambda: f"the second is told of: {reason()} {second.log()}")
        message = get("llmservice", '.status.conditions[?(@.type=="Ready")].message')
        assert "installation team/second of the operator would serve this namespace too" in message
        arguments = ["--namespace=octavo-system", "--deployment=octavo-operator", "--serves=contested"]
        assert "installation team/second" in operator.run("octavo_operator.control.installation", *arguments)
        assert (image(), get("deployment", ".metadata.generation")) == ("octavo.local/demo:1", generation)

        operator.stop(signal.SIGKILL)
        eventually(lambda: image() == "octavo.local/other:2", what=second.log)
        generation = get("deployment", ".metadata.generation")
        operator.start()
        eventually(lambda: "team/second serves it" in operator.log(), what=operator.log)
        assert (image(), get("deployment", ".metadata.generation")) == ("octavo.local/other:2", generation)
    finally:
        second.stop()
        kubernetes.kubectl("delete", "namespace", "contested", "--wait=false")


def test_a_namespace_that_goes_does_not_take_the_others_along(api_server: Any, kubernetes: Kubernetes) -> None:
    """An operator with the rights that the chart gives for two namespaces, told to serve a third that is not there."""
    served = ("team-a", "team-b")
    for namespace in served:
        kubernetes.kubectl("create", "namespace", namespace)
    running = namespaced_operator(api_server, kubernetes, "apart", served, OCTAVO_NAMESPACES="team-a,team-b,absent")

    def reported(namespace: str, name: str) -> bool:
        reason = '--output=jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
        return kubernetes.kubectl("get", "llmservice", name, "--namespace", namespace, reason) == "Starting"

    def apply(namespace: str, name: str) -> None:
        kubernetes.kubectl("apply", "--namespace", namespace, "-f", "-", document=anywhere(name))

    def anywhere(name: str) -> str:
        document = json.loads(llmservice(name, SMALLEST))
        del document["metadata"]["namespace"]
        return json.dumps(document)

    running.start()
    try:
        for namespace in served:
            apply(namespace, "before")
        for namespace in served:
            eventually(lambda namespace=namespace: reported(namespace, "before"), what=running.log)
        kubernetes.kubectl("delete", "namespace", "team-b", "--timeout=300s")
        eventually(lambda: "namespace absent cannot be served" in running.log(), what=running.log)
        apply("team-a", "after")
        eventually(lambda: reported("team-a", "after"), what=running.log)
        assert "Traceback" not in running.log()
    finally:
        ended = running.stop()
        kubernetes.kubectl("delete", "namespace", "team-a", "--wait=false")
    assert ended == 0
