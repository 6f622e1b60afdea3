"""Who reaches the pods: the namespaces that the spec names, and for metrics the operator and those of the chart."""

from typing import Any

import pytest
from built import SETTINGS, built, engine, service

from octavo_operator import resources
from octavo_operator.api import InvalidSpec

PLATFORM = SETTINGS.model_copy(update={"operator_namespace": "octavo-system", "metrics_from": ["monitoring"]})


def rules(*allowed: str, settings: Any = PLATFORM) -> dict[int, list[dict[str, Any]]]:
    """Whom each port lets in."""
    spec = built("NetworkPolicy", settings, endpoint={"allowedNamespaces": list(allowed)})["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"] == {"matchLabels": {"serving.octavo.dev/service": "chat"}}
    return {rule["ports"][0]["port"]: rule["from"] for rule in spec["ingress"]}


def named(*namespaces: str) -> dict[str, Any]:
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
    return {"namespaceSelector": {"matchExpressions": [name]}}


def test_each_port_lets_in_those_that_it_is_for() -> None:
    operator = named("octavo-system") | {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "octavo-operator"}}}
    assert rules("team-a", "team-b") == {8000: [named("team-a", "team-b")], 8001: [named("monitoring"), operator]}


def test_a_list_without_names_lets_nobody_in() -> None:
    assert 8000 not in rules()
    assert rules(settings=SETTINGS) == {}, "a rule without a peer would let in everybody"


def test_metrics_move_to_a_port_of_their_own_where_there_is_a_policy() -> None:
    def said(**endpoint: Any) -> tuple[bool, list[int], str]:
        template = built("Deployment", endpoint=endpoint)["spec"]["template"]
        container = engine(endpoint=endpoint)
        ports = [port["containerPort"] for port in container["ports"]]
        annotation = template["metadata"]["annotations"]["prometheus.io/port"]
        return "--metrics-port" in container["args"], ports, annotation

    assert said() == (False, [8000], "8000")
    assert said(allowedNamespaces=["team-a"]) == (True, [8000, 8001], "8001")


@pytest.mark.parametrize("name", ["", "Team", "a.b", "a" * 64])
def test_what_is_no_name_of_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec.endpoint.allowedNamespaces.0: string should"):
        resources.build(service(endpoint={"allowedNamespaces": [name]}), SETTINGS)
