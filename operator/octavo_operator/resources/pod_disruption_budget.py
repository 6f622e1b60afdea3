"""PodDisruptionBudget: a node drain takes one replica that answers at a time; one that does not may go at once."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata


def build(service: LLMService) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": metadata.selector(service.name)},
            # Else a service whose pods all crash would keep its nodes from ever being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
