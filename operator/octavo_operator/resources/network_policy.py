"""NetworkPolicy: which namespaces reach the endpoint, and who scrapes the pods, where the network enforces policies. A
kubelet's probes come from the node, which is always let through."""

from collections.abc import Sequence
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata
from octavo_operator.resources.pod_template import METRICS_PORT, PORT
from octavo_operator.settings import Settings

OPERATOR = {"app.kubernetes.io/name": "octavo-operator"}


def build(service: LLMService, allowed: Sequence[str], settings: Settings) -> dict[str, Any]:
    callers = [_namespaces(allowed)] if allowed else []
    scrapers = [_namespaces(settings.metrics_from)] if settings.metrics_from else []
    if settings.operator_namespace is not None:
        scrapers.append(_namespaces([settings.operator_namespace]) | {"podSelector": {"matchLabels": OPERATOR}})
    # A rule without a peer lets everybody in.
    rules = [(peers, port) for peers, port in ((callers, PORT), (scrapers, METRICS_PORT)) if peers]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "podSelector": {"matchLabels": metadata.selector(service.name)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"port": port, "protocol": "TCP"}]} for peers, port in rules],
        },
    }


def _namespaces(names: Sequence[str]) -> dict[str, Any]:
    """By the label that every namespace bears, and nobody can take off."""
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(names)}
    return {"namespaceSelector": {"matchExpressions": [name]}}
