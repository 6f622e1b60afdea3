"""Pod templates that are wrong, held to the real validation."""

from typing import Any

import pytest
from live import SMALLEST, Kubernetes, Operator
from patience import eventually

pytestmark = pytest.mark.cluster


def test_template_that_the_api_server_refuses(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    before = eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"containers": [{"name": "sidecar"}]}}})
    eventually(lambda: kubernetes.reason(name) == "Refused", what="Refused")
    assert kubernetes.condition(name, "Valid")["status"] == "False"
    assert "spec.template.spec.containers[1].image" in kubernetes.condition(name, "Valid")["message"]
    after = kubernetes.get("deployment", name)
    assert after is not None
    assert after["spec"] == before["spec"]
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"noSuchField": 1}}})
    eventually(lambda: "noSuchField" in kubernetes.condition(name, "Valid")["message"], what="the field is named")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"metadata": {"annotations": {"prometheus.io/scrape": False}}}, ""),
        ({"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": 1}]}]}}, ""),
        ({"spec": {"nodeSelector": {"gpu": True}}}, ""),
        ({"spec": {"terminationGracePeriodSeconds": "abc"}}, "terminationGracePeriodSeconds: must be a whole number"),
        ({"spec": {"containers": {"engine": {}}}}, "containers: must be a list"),
        ({"metadata": {"labels": ["a"]}}, "labels: must be a map"),
    ],
)
def test_wrong_types_in_a_template_leave_no_service_without_a_status(
    operator: Operator, kubernetes: Kubernetes, name: str, template: dict[str, Any], said: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    kubernetes.apply(name, SMALLEST | {"podTemplate": template})

    def observed() -> bool:
        service = kubernetes.get("llmservice", name) or {}
        return bool(service["status"]["observedGeneration"] == service["metadata"]["generation"] == 2)

    eventually(observed, what="a status of the present generation")
    assert kubernetes.reason(name) == ("InvalidSpec" if said else "Starting")
    if said:
        assert said in kubernetes.condition(name, "Valid")["message"]
        assert kubernetes.condition(name, "Stalled")["status"] == "True"
