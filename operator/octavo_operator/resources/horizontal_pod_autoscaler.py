"""HorizontalPodAutoscaler: grows fast after a minute of load, shrinks slowly after five minutes of calm."""

from typing import Any

from octavo_operator.api import AutoscalingSpec, LLMService
from octavo_operator.resources import metadata
from octavo_operator.resources.pod_template import CONTAINER

_BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    },
}


def build(service: LLMService, autoscaling: AutoscalingSpec) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [
                {
                    # Of the engine alone: a sidecar that is promised no CPU would make a sum of all unknown.
                    "type": "ContainerResource",
                    "containerResource": {
                        "name": "cpu",
                        "container": CONTAINER,
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": autoscaling.targets.cpu_utilization,
                        },
                    },
                }
            ],
            "behavior": _BEHAVIOR,
        },
    }
