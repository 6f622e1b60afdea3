"""NetworkPolicy: which namespaces reach the endpoint, who scrapes the pods, and that other ports of a group's pods are
reached by each other alone, where the network enforces policies. A kubelet's probes come from the node, which is
always let through."""

from collections.abc import Sequence
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata
from octavo_operator.resources.pod_template import METRICS_PORT, PORT
from octavo_operator.settings import Settings

OPERATOR = {"app.kubernetes.io/name": "octavo-operator"}


def is_wanted(service: LLMService) -> bool:
    """Where somebody is to be kept out: of the endpoint, or of what the pods of a group tell each other."""
    return service.spec.endpoint.allowed_namespaces is not None or service.spec.accelerator.nodes > 1


def build(service: LLMService, settings: Settings) -> dict[str, Any]:
    allowed = service.spec.endpoint.allowed_namespaces
    rules = [{"ports": [_port(PORT)]}] if allowed is None else _callers(allowed, settings)
    if service.spec.accelerator.nodes > 1:
        # On whatever ports the collectives choose. Nobody else may: there are no keys between ranks.
        rules.append({"from": [{"podSelector": {"matchLabels": metadata.selector(service.name)}}]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "podSelector": {"matchLabels": metadata.selector(service.name)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def _callers(allowed: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Who may ask the model, and who may scrape. A rule without a peer would let everybody in."""
    callers = [_namespaces(allowed)] if allowed else []
    scrapers = [_namespaces(settings.metrics_from)] if settings.metrics_from else []
    if settings.operator_namespace is not None:
        scrapers.append(_namespaces([settings.operator_namespace]) | {"podSelector": {"matchLabels": OPERATOR}})
    rules = ((callers, PORT), (scrapers, METRICS_PORT))
    return [{"from": peers, "ports": [_port(port)]} for peers, port in rules if peers]


def _port(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}


def _namespaces(names: Sequence[str]) -> dict[str, Any]:
    """By the label that every namespace bears, and nobody can take off."""
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(names)}
    return {"namespaceSelector": {"matchExpressions": [name]}}
