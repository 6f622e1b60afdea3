"""The Service: the endpoint that clients connect to."""

import pytest
from built import built, pod


@pytest.mark.parametrize(
    ("endpoint", "port", "kind"), [({}, 80, "ClusterIP"), ({"port": 8443, "type": "NodePort"}, 8443, "NodePort")]
)
def test_the_endpoint_is_as_asked_for_and_leads_to_the_engines_port(
    endpoint: dict[str, object], port: int, kind: str
) -> None:
    spec = built("Service", endpoint=endpoint)["spec"]
    (opened,) = spec["ports"]
    assert (spec["type"], opened["port"]) == (kind, port)
    assert opened["targetPort"] in [item["name"] for item in pod()["containers"][0]["ports"]]


def test_it_selects_the_pods_of_its_service() -> None:
    labels = built("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert built("Service")["spec"]["selector"].items() <= labels.items()


def test_it_bears_the_annotations_of_the_endpoint() -> None:
    annotations = {"service.example.com/load-balancer-type": "internal"}
    assert built("Service", endpoint={"annotations": annotations})["metadata"]["annotations"] == annotations
