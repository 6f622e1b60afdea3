"""HorizontalPodAutoscaler: keeps what the targets say, as an average over the pods."""

from decimal import Decimal
from typing import Any

from octavo_operator.api import AutoscalingSpec, LLMService, behavior, targets
from octavo_operator.api.quantities import milli
from octavo_operator.resources import metadata, workload
from octavo_operator.resources.pod_template import CONTAINER


def build(service: LLMService, autoscaling: AutoscalingSpec) -> dict[str, Any]:
    wanted = [_of_engine(target.name, amount) for target, amount in targets.of_engine(autoscaling.targets)]
    if (percent := targets.of_cpu(autoscaling.targets)) is not None:
        wanted.append(_of_cpu(percent))
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "scaleTargetRef": workload.reference(service),
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": wanted,
            "behavior": behavior.in_full(autoscaling.behavior),
        },
    }


def _of_engine(name: str, amount: Decimal) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": milli(amount)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def _of_cpu(percent: int) -> dict[str, Any]:
    """Of the engine alone: a sidecar that is promised no CPU would make a sum of all unknown."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": CONTAINER, "target": target}}
