"""Deployment: runs the pods and replaces them without losing a request."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata, pod_template
from octavo_operator.resources.replicas import KEPT, Replicas, rolling_update, written
from octavo_operator.settings import Settings


def build(service: LLMService, settings: Settings, replicas: Replicas, *, makes_room: bool) -> dict[str, Any]:
    """`makes_room`: nothing is spare for one pod more, so under strategy auto one of several pods ends first."""
    spec: dict[str, Any] = {
        "selector": {"matchLabels": metadata.selector(service.name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": rolling_update(service, replicas, makes_room=makes_room),
        },
        "revisionHistoryLimit": 2,
        # Loading a large model takes long; the status says what is going on, so no deadline calls it a failure.
        "progressDeadlineSeconds": 3600,
        "template": pod_template.build(service, settings),
    }
    if (number := written(service, replicas)) is not None:
        spec["replicas"] = number
    owned = metadata.owned(service, service.name)
    if replicas.kept is not None:
        owned["annotations"] = {KEPT: str(replicas.kept)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": owned, "spec": spec}
