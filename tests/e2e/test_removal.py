"""What goes, and what stays, when a service or the chart is removed."""

import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually
from release import DEFINITION, Release

pytestmark = pytest.mark.cluster

OWNED = (
    "deployments,replicasets,pods,services,endpointslices,horizontalpodautoscalers,poddisruptionbudgets,configmaps,"
    "serviceaccounts"
)


@pytest.mark.parametrize("operator", ["running", "gone"])
def test_a_deleted_service_takes_all_it_owned_along(release: Release, kube: Kube, name: str, operator: str) -> None:
    kube.apply(llmservice(name, autoscaling={"maxReplicas": 2}))
    eventually(
        lambda: {item["kind"] for item in kube.all(OWNED, name)} >= {"HorizontalPodAutoscaler", "Pod"},
        "its objects",
    )
    if operator == "gone":
        release.scale_operator(0)
    try:
        kube.kubectl("delete", "llmservice", name, "--timeout=300s")
        eventually(lambda: kube.all(OWNED, name) == [], lambda: f"gone: {kube.kubectl('get', OWNED)}")
    finally:
        if operator == "gone":
            release.scale_operator(1)


def test_uninstall_keeps_the_definition_and_the_services(
    release: Release, kube: Kube, client: Client, chat: str
) -> None:
    url = f"http://{chat}.{kube.namespace}.svc/v1"
    (before,) = (pod["metadata"]["name"] for pod in kube.pods(chat))
    release.uninstall()
    try:
        eventually(lambda: release.operators() == [], "the operator is gone")
        assert kube.get("crd", DEFINITION) is not None
        assert kube.get("llmservice", chat) is not None
        assert "Paris" in client.ask(url, chat)
        kube.delete("poddisruptionbudget", chat)
    finally:
        release.install()
    eventually(lambda: kube.get("poddisruptionbudget", chat), "what went meanwhile is back")
    kube.wait_ready(chat)
    assert [pod["metadata"]["name"] for pod in kube.pods(chat)] == [before], "the pods run on"


def test_helm_test(release: Release) -> None:
    said = release.kube.run("helm", "test", "octavo-e2e", "--timeout=8m")
    assert "Succeeded" in said
