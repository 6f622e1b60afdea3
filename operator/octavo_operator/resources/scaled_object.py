"""ScaledObject (keda.sh/v1alpha1): the same targets, as KEDA reads them from Prometheus."""

from decimal import Decimal
from typing import Any

from octavo_operator.api import AutoscalingSpec, LLMService, behavior, targets
from octavo_operator.api.targets import Target
from octavo_operator.resources import metadata, workload
from octavo_operator.resources.pod_template import CONTAINER

_WINDOW = "1m"  # of a quantile; at least two scrapes


def lacks_prometheus(autoscaling: AutoscalingSpec, prometheus: str | None) -> bool:
    """Whether KEDA is to read a target from Prometheus, and none is known."""
    return autoscaling.provider == "keda" and prometheus is None and bool(targets.of_engine(autoscaling.targets))


def build(service: LLMService, autoscaling: AutoscalingSpec, prometheus: str | None) -> dict[str, Any]:
    """`prometheus`: the URL of a Prometheus that scrapes the pods, and labels them with namespace and pod; may be None
    where none of the targets is of the engine."""
    triggers = [
        _on_prometheus(target, amount, prometheus, _pods(service))
        for target, amount in targets.of_engine(autoscaling.targets)
    ]
    if (percent := targets.of_cpu(autoscaling.targets)) is not None:
        of_engine = {"value": str(percent), "containerName": CONTAINER}
        triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": of_engine})
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata.owned(service, service.name),
        "spec": {
            "scaleTargetRef": workload.reference(service),
            "minReplicaCount": autoscaling.min_replicas,
            "maxReplicaCount": autoscaling.max_replicas,
            "pollingInterval": 15,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior.in_full(autoscaling.behavior)}},
            "triggers": triggers,
        },
    }


def _on_prometheus(target: Target, amount: Decimal, prometheus: str | None, pods: str) -> dict[str, Any]:
    """A sum is shared out by KEDA among the pods; a quantile is nothing to share out."""
    return {
        "type": "prometheus",
        "metricType": "AverageValue" if target.quantile is None else "Value",
        "metadata": {
            "serverAddress": prometheus,
            "query": _query(target, pods),
            "threshold": f"{amount.normalize():f}",
        },
    }


def _pods(service: LLMService) -> str:
    """The PromQL selector of a service's pods that answer. A pod's name is the Deployment's and two hashes without
    dashes, and a leader's that of its set and a number: `chat` does not take the pods of `chat-large`."""
    rest = "[^-]+-[^-]+" if service.spec.accelerator.nodes == 1 else "[0-9]+"
    return f'{{namespace="{service.namespace}",pod=~"{service.name}-{rest}"}}'


def _query(target: Target, pods: str) -> str:
    name = target.metric.name
    if target.quantile is not None:
        buckets = f"sum by (le) (rate({name}_bucket{pods}[{_WINDOW}]))"
        # Without traffic the quantile is no number, which a comparison leaves out.
        return f"(histogram_quantile({target.quantile}, {buckets}) >= 0) or vector(0)"
    if "gpu" in target.metric.labels:
        return f"sum(avg by (pod) ({name}{pods}))"
    return f"sum({name}{pods})"
