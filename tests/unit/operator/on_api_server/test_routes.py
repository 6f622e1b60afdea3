"""Ways from outside of the cluster, on a real API server; HTTPRoutes by the Gateway API's own definition. Controllers'
words are written by the tests."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from foreign import defined, definition
from live import READY, SMALLEST, Kubernetes, Operator, namespaced_operator, set_pod_status
from patience import eventually

pytestmark = pytest.mark.cluster

GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.0"
DEFINITION = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
GATEWAY = {"name": "public", "namespace": "gateways", "hostname": "chat.example.com", "sectionName": "https"}


def routed(kubernetes: Kubernetes, name: str) -> tuple[str, str]:
    found = kubernetes.condition(name, "Routed")
    return found.get("status", ""), found.get("message", "")


def url(kubernetes: Kubernetes, name: str) -> str:
    return str((kubernetes.get("llmservice", name) or {}).get("status", {}).get("url"))


def say(kubernetes: Kubernetes, kind: str, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    kubernetes.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


def answer(kubernetes: Kubernetes, name: str, status: str, message: str = "") -> None:
    """What a Gateway's controller says of a route."""
    said = {"type": "Accepted", "status": status, "reason": "Said", "message": message}
    said |= {"lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    reference = {"controllerName": "example.com/gateways", "parentRef": {"name": "public", "namespace": "gateways"}}
    say(kubernetes, "httproute", name, {"parents": [reference | {"conditions": [said]}]})


def test_an_ingress_comes_is_kept_and_goes(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    generation = (kubernetes.get("deployment", name) or {})["metadata"]["generation"]
    ingress = {"host": "chat.example.com", "className": "nginx", "tlsSecret": {"name": "c"}, "annotations": {"a": "b"}}
    kubernetes.apply(name, SMALLEST | {"endpoint": {"ingress": ingress}})
    made = eventually(lambda: kubernetes.get("ingress", name), what=lambda: str(kubernetes.condition(name, "Ready")))
    assert made["spec"]["tls"] == [{"hosts": ["chat.example.com"], "secretName": "c"}]
    eventually(lambda: url(kubernetes, name) == "https://chat.example.com/v1", what="the address")
    assert routed(kubernetes, name)[0] == "Unknown"
    say(kubernetes, "ingress", name, {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}})
    eventually(lambda: "192.0.2.7" in routed(kubernetes, name)[1], what="who serves it")
    elsewhere = [{"op": "replace", "path": "/spec/rules/0/host", "value": "elsewhere.example.com"}]
    kubernetes.kubectl("patch", "ingress", name, "--type=json", "-p", json.dumps(elsewhere))
    eventually(
        lambda: (kubernetes.get("ingress", name) or {})["spec"]["rules"][0]["host"] == "chat.example.com",
        what="the host as before",
    )
    kubernetes.kubectl("delete", "ingress", name)
    eventually(lambda: kubernetes.get("ingress", name), what="it is back")
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("ingress", name) is None, what="it goes")
    eventually(lambda: url(kubernetes, name) == f"http://{name}.default.svc/v1", what="the address inside")
    assert (kubernetes.get("deployment", name) or {})["metadata"]["generation"] == generation, "no pod is replaced"


@pytest.fixture(scope="module")
def gateway_definition() -> Path:
    return definition(GATEWAY_API, DEFINITION)


def test_a_route_without_the_gateway_api_is_told_and_once_it_is_there_it_is_made_kept_and_goes(
    operator: Operator, kubernetes: Kubernetes, name: str, gateway_definition: Path
) -> None:
    spec = SMALLEST | {"endpoint": {"gateway": GATEWAY}}
    kubernetes.apply(name, spec)
    eventually(lambda: kubernetes.get("deployment", name), what="pods all the same")
    eventually(
        lambda: (
            "gateway.networking.k8s.io/v1: install the Gateway API" in kubernetes.condition(name, "Ready")["message"]
        ),
        what=lambda: str(kubernetes.condition(name, "Ready")),
    )
    with defined(kubernetes, gateway_definition):
        made = eventually(
            lambda: kubernetes.get("httproute", name), what=lambda: str(kubernetes.condition(name, "Ready"))
        )
        (parent,) = made["spec"]["parentRefs"]
        assert (parent["namespace"], parent["name"], parent["sectionName"]) == ("gateways", "public", "https")
        assert made["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
        eventually(lambda: url(kubernetes, name) == "https://chat.example.com/v1", what="the address")
        set_pod_status(kubernetes, name, READY)
        eventually(lambda: kubernetes.reason(name) == "Serving", what=lambda: str(kubernetes.condition(name, "Ready")))
        answer(kubernetes, name, "False", "no listener takes the host")
        eventually(
            lambda: "no listener takes the host" in kubernetes.condition(name, "Ready").get("message", ""),
            what=lambda: f"{routed(kubernetes, name)}",
        )
        answer(kubernetes, name, "True")
        eventually(lambda: routed(kubernetes, name)[0] == "True", what=lambda: f"{routed(kubernetes, name)}")
        # Nothing is on its way now, so only an event tells of another turn before the next look of itself.
        eventually(lambda: kubernetes.reason(name) == "Serving", what=lambda: str(kubernetes.condition(name, "Ready")))
        kubernetes.writes_at_rest()
        answer(kubernetes, name, "False", "its listener is gone")
        eventually(lambda: "its listener is gone" in routed(kubernetes, name)[1], what="what the gateway says now")
        answer(kubernetes, name, "True")
        eventually(lambda: routed(kubernetes, name)[0] == "True", what=lambda: f"{routed(kubernetes, name)}")
        version = (kubernetes.get("httproute", name) or {})["metadata"]["generation"]
        kubernetes.kubectl("annotate", "llmservice", name, "example.com/look=again")
        time.sleep(1)
        assert (kubernetes.get("httproute", name) or {})["metadata"]["generation"] == version, "nothing to write"
        kubernetes.apply(name, SMALLEST)
        eventually(lambda: kubernetes.get("httproute", name) is None, what="it goes")


def test_an_operator_for_some_namespaces_watches_a_kind_that_came_after_it(
    api_server: Any, operator: Operator, kubernetes: Kubernetes, name: str, gateway_definition: Path
) -> None:
    """It may not watch definitions, and goes on as the installation of the other, which is stopped meanwhile."""
    narrow = namespaced_operator(api_server, kubernetes, "narrow", ["default"], OCTAVO_RESYNC="1h")
    operator.stop()
    narrow.start()
    try:
        kubernetes.apply(name, SMALLEST | {"endpoint": {"gateway": GATEWAY}})
        eventually(
            lambda: "install the Gateway API" in kubernetes.condition(name, "Ready").get("message", ""), what=narrow.log
        )
        with defined(kubernetes, gateway_definition):
            eventually(lambda: kubernetes.get("httproute", name), what=narrow.log)
            set_pod_status(kubernetes, name, READY)
            answer(kubernetes, name, "True")
            eventually(lambda: routed(kubernetes, name)[0] == "True", what=narrow.log)
            eventually(lambda: kubernetes.reason(name) == "Serving", what=narrow.log)
            kubernetes.writes_at_rest()
            kubernetes.kubectl("delete", "httproute", name)
            eventually(lambda: kubernetes.get("httproute", name), what=narrow.log)
    finally:
        ended = narrow.stop()
        operator.start()
    assert ended == 0
    assert "Traceback" not in narrow.log()
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="the other goes on")
