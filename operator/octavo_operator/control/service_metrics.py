"""What the operator tells Prometheus of each LLMService: whether it is ready, its pods, what it promises."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic.alias_generators import to_camel

from octavo_operator.api import Key, slo
from octavo_operator.resources.pod_template import CONTAINER
from octavo_operator.status import conditions
from octavo_operator.status.condition import is_true
from octavo_operator.status.observation import Observation
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric

Object = dict[str, Any]


@dataclass(frozen=True)
class _Told:
    ready: bool
    wanted: int
    ready_replicas: int
    starting: bool
    restarts: dict[str, int]  # by pod
    promised: dict[tuple[str, str], float]  # (objective, le) -> ratio


class ServiceMetrics(Collector):
    """The last that was told of each service. Written by the operator's loop, read by the endpoint's thread."""

    def __init__(self) -> None:
        self._told: dict[Key, _Told] = {}

    def tell(self, seen: Observation, status: Object) -> None:
        """How a service stands. One whose spec is invalid promises nothing."""
        service, rollout = seen.service, seen.rollout
        self._told[seen.key] = _Told(
            ready=is_true(status, "Ready"),
            wanted=rollout.wanted,
            ready_replicas=rollout.ready,
            starting=conditions.is_first_start(status),
            restarts={pod["metadata"]["name"]: _restarts(pod) for pod in seen.pods},
            promised=_promised(service.spec.slo) if service is not None else {},
        )

    def forget(self, key: Key) -> None:
        """The service is gone, or another's."""
        self._told.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families as they are now."""
        told = dict(self._told)
        yield _family(metrics.LLMSERVICE_READY, ((key, one.ready) for key, one in told.items()))
        yield _family(metrics.LLMSERVICE_REPLICAS, ((key, one.wanted) for key, one in told.items()))
        yield _family(metrics.LLMSERVICE_READY_REPLICAS, ((key, one.ready_replicas) for key, one in told.items()))
        yield _family(metrics.LLMSERVICE_STARTING, ((key, one.starting) for key, one in told.items()))
        yield _family(
            metrics.LLMSERVICE_POD_RESTARTS,
            (((*key, pod), count) for key, one in told.items() for pod, count in one.restarts.items()),
        )
        yield _family(
            metrics.LLMSERVICE_SLO_RATIO,
            (((*key, *objective), ratio) for key, one in told.items() for objective, ratio in one.promised.items()),
        )


def _family(metric: Metric, values: Iterable[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _restarts(pod: Object) -> int:
    containers = pod.get("status", {}).get("containerStatuses") or []
    return sum(container["restartCount"] for container in containers if container["name"] == CONTAINER)


def _promised(spec: slo.SLOSpec) -> dict[tuple[str, str], float]:
    promised = {
        (to_camel(field), str(bound)): slo.QUANTILE
        for field in slo.HISTOGRAMS
        if (bound := slo.bound(spec, field)) is not None
    }
    if (ratio := slo.ratio(spec)) is not None:
        promised["availability", ""] = ratio
    return promised
