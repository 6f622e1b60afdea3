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


def build(service: LLMService, settings: Settings, replicas: Replicas) -> dict[str, Any]:
    wanted = replicas.wanted
    if wanted is None and service.spec.autoscaling is None and replicas.present is None:
        wanted = service.spec.replicas
    spec: dict[str, Any] = {
        "selector": {"matchLabels": metadata.selector(service.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling_update(service, wanted, replicas.present)},
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


def _rolling_update(service: LLMService, wanted: int | None, present: int | None) -> dict[str, int]:
    """A new pod is ready before an old one goes. On GPUs that needs an idle GPU, which a full cluster never has: with
    several replicas one of them makes room instead; a single one still waits, since the endpoint would be down."""
    spec = service.spec
    count = wanted if wanted is not None else present
    if count is None:
        count = spec.autoscaling.min_replicas if spec.autoscaling else 1
    strategy = spec.rollout.strategy
    if strategy == "auto":
        strategy = "recreate" if spec.accelerator.type == "nvidia" and count > 1 else "surge"
    if strategy == "recreate":
        return {"maxUnavailable": 1, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}
