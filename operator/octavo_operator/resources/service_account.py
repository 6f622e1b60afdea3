"""ServiceAccount of the pods: an identity without any right, so that they do not run as the namespace's default."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata


def build(service: LLMService) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata.owned(service, service.name),
        "automountServiceAccountToken": False,
    }
