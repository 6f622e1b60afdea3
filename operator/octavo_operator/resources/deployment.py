"""Deployment: runs the pods and replaces them without losing a request."""

from dataclasses import dataclass
from typing import Any

from octavo_operator.api import GROUP, LLMService
from octavo_operator.resources import metadata, pod_template
from octavo_operator.settings import Settings

# Remembers the number that an autoscaler left behind, also while the service is suspended.
KEPT = f"{GROUP}/replicas"


@dataclass(frozen=True)
class Replicas:
    """How many pods there are and are to be.

    Attributes:
        present: what the Deployment has, or will have once it is written; None for a new one.
        wanted: what the operator writes; None where somebody else does.
        kept: the number that an autoscaler left behind; None where the spec says another.
    """

    present: int | None = None
    wanted: int | None = None
    kept: int | None = None


FRESH = Replicas()


def build(service: LLMService, settings: Settings, replicas: Replicas, *, makes_room: bool) -> dict[str, Any]:
    """`makes_room`: nothing is spare for one pod more, so under strategy auto one of several pods ends first."""
    wanted = replicas.wanted
    if wanted is None and service.spec.autoscaling is None and replicas.present is None:
        wanted = service.spec.replicas
    spec: dict[str, Any] = {
        "selector": {"matchLabels": metadata.selector(service.name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": _rolling_update(service, replicas, makes_room=makes_room),
        },
        "revisionHistoryLimit": 2,
        # Loading a large model takes long; the status says what is going on, so no deadline calls it a failure.
        "progressDeadlineSeconds": 3600,
        "template": pod_template.build(service, settings),
    }
    if wanted is not None:
        spec["replicas"] = wanted
    owned = metadata.owned(service, service.name)
    if replicas.kept is not None:
        owned["annotations"] = {KEPT: str(replicas.kept)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": owned, "spec": spec}


def _rolling_update(service: LLMService, replicas: Replicas, *, makes_room: bool) -> dict[str, int]:
    """Under auto a single pod is never ended for its successor: the endpoint would be down."""
    strategy = service.spec.rollout.strategy
    several = (replicas.present if replicas.wanted is None else replicas.wanted) not in (None, 0, 1)
    if strategy == "recreate" or (strategy == "auto" and makes_room and several):
        return {"maxUnavailable": 1, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}
