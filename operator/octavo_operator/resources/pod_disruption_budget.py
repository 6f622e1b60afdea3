"""PodDisruptionBudget: a node drain takes one replica at a time."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata


def build(service: LLMService) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata.owned(service, service.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": metadata.selector(service.name)}},
    }
