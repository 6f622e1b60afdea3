"""Service: the endpoint that clients connect to."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import leader_worker_set, metadata


def build(service: LLMService) -> dict[str, Any]:
    leaders = {leader_worker_set.WORKER_INDEX: "0"} if service.spec.accelerator.nodes > 1 else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata.owned(service, service.name) | {"annotations": service.spec.endpoint.annotations},
        "spec": {
            "type": service.spec.endpoint.type,
            "selector": metadata.selector(service.name) | leaders,
            "ports": [
                {"name": "http", "port": service.spec.endpoint.port, "targetPort": "http", "protocol": "TCP"},
            ],
        },
    }
