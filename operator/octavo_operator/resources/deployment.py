"""Deployment: runs the pods and replaces them without losing a request."""

from typing import Any

from octavo_operator.api import LLMService, LLMServiceSpec
from octavo_operator.resources import metadata, pod_template
from octavo_operator.settings import Settings


def build(service: LLMService, settings: Settings) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": metadata.selector(service.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling_update(service.spec)},
        "revisionHistoryLimit": 2,
        # Loading a large model takes long; the status says what is going on, so no deadline calls it a failure.
        "progressDeadlineSeconds": 3600,
        "template": pod_template.build(service, settings),
    }
    if service.spec.autoscaling is None:
        spec["replicas"] = 1 if service.spec.replicas is None else service.spec.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata.owned(service, service.name),
        "spec": spec,
    }


def _rolling_update(spec: LLMServiceSpec) -> dict[str, int]:
    """A new pod is ready before an old one goes. On GPUs that needs an idle GPU, which a full cluster never has: with
    several replicas one of them makes room instead; a single one still waits, since the endpoint would be down."""
    replicas = spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas
    if spec.accelerator.type == "nvidia" and (replicas or 1) > 1:
        return {"maxUnavailable": 1, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}
