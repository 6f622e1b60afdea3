"""Ingress and HTTPRoute come, go, and are told of."""

from typing import Any

from fake_cluster import change, cluster_with, condition, run, settle

from octavo_operator.cluster import Refused
from octavo_operator.control.reconcile import Outcome

INGRESS, ROUTE = ("Ingress", "chat"), ("HTTPRoute", "chat")
BOTH = {"ingress": {"host": "a.example.com"}, "gateway": {"name": "public", "hostname": "b.example.com"}}


def test_routes_come_and_go_with_the_spec_and_replace_no_pod() -> None:
    cluster = cluster_with()
    settle(cluster)
    template = cluster.objects["Deployment", "chat"]["spec"]["template"]
    change(cluster, endpoint=BOTH)
    settle(cluster)
    assert {INGRESS, ROUTE} <= cluster.objects.keys()
    status = cluster.objects["LLMService", "chat"]["status"]
    assert status["url"] == "https://b.example.com/v1"
    assert status["clusterUrl"] == "http://chat.default.svc/v1"
    change(cluster, endpoint={"ingress": BOTH["ingress"]})
    settle(cluster)
    assert ROUTE not in cluster.objects
    assert cluster.objects["LLMService", "chat"]["status"]["url"] == "http://a.example.com/v1"
    change(cluster, endpoint=None)
    settle(cluster)
    assert INGRESS not in cluster.objects
    assert cluster.objects["LLMService", "chat"]["status"]["url"] == "http://chat.default.svc/v1"
    assert cluster.objects["Deployment", "chat"]["spec"]["template"] == template


def test_what_a_gateway_says_of_a_route_is_told() -> None:
    cluster = cluster_with(endpoint={"gateway": BOTH["gateway"]})
    assert run(cluster) is Outcome.SETTLED, "an event tells what it says"
    assert condition(cluster, "Routed")["status"] == "Unknown"
    accepted: dict[str, Any] = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    cluster.objects[ROUTE]["status"] = {"parents": [{"conditions": [accepted]}]}
    assert run(cluster) is Outcome.SETTLED
    assert condition(cluster, "Routed")["status"] == "True"


def test_a_cluster_without_the_gateway_api_is_told_and_the_pods_run() -> None:
    cluster = cluster_with(endpoint={"gateway": BOTH["gateway"]})
    words = "the API server does not know gateway.networking.k8s.io/v1: install the Gateway API"
    cluster.refuses["HTTPRoute"] = Refused(words)
    assert run(cluster) is Outcome.BLOCKED
    assert condition(cluster, "Ready")["message"] == f"HTTPRoute chat: {words}"
    assert ("Deployment", "chat") in cluster.objects
