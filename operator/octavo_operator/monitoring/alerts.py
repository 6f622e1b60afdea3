"""What calls a person, for every service at once."""

from dataclasses import dataclass
from typing import Any

from octavo_operator.monitoring import recording_rules
from octavo_operator.monitoring.promql import SERVICE, over
from octavo_runtime.protocol import metrics

RUNBOOKS = "docs/runbooks.md"


@dataclass(frozen=True)
class Alert:
    """`hold`: how long `expr` must hold before it fires."""

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity, **dict(self.labels)},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}#{self.name.lower()}",
            },
        }


_WHO = "{{ $labels.namespace }}/{{ $labels.llmservice }}"

_NOT_READY = f"{over('max', metrics.LLMSERVICE_READY)} == 0"
_ANSWERING = over("max", metrics.LLMSERVICE_READY_REPLICAS)
_STARTING = over("max", metrics.LLMSERVICE_STARTING)

ALERTS = (
    Alert(
        "OctavoDown",
        # Ready of a service without a pod, as where replicas is 0, may be as asked for. A first start that goes on,
        # however long the model takes, is no outage.
        f"{_ANSWERING} == 0 and on ({SERVICE}) {_NOT_READY} unless on ({SERVICE}) {_STARTING} == 1",
        "15m",
        "critical",
        f"{_WHO} does not answer",
        "It is to answer, and no pod of it has for a quarter of an hour.",
    ),
    Alert(
        "OctavoNotReady",
        f"{_ANSWERING} > 0 and on ({SERVICE}) {_NOT_READY}",
        "30m",
        "warning",
        f"{_WHO} is not as its spec wants it",
        "Pods of it answer ({{ $value }}), and its condition Ready has been False for half an hour.",
    ),
    Alert(
        "OctavoHighLatency",
        f"{recording_rules.LATENCY.name} > 5",
        "5m",
        "warning",
        f"{_WHO} answers slowly",
        "One request in a hundred takes longer than {{ $value | humanizeDuration }}, more than 5s.",
    ),
    Alert(
        "OctavoHighErrorRate",
        f"{recording_rules.ERRORS.name} > 0.05",
        "5m",
        "critical",
        f"{_WHO} fails",
        "{{ $value | humanizePercentage }} of the requests fail by the server's fault, more than 5%.",
    ),
    Alert(
        "OctavoLowGPUUtilization",
        f"{recording_rules.GPU.name} < 0.5",
        "10m",
        "info",
        f"{_WHO} leaves its GPUs idle",
        "Its GPUs work {{ $value | humanizePercentage }} of the time, less than 50%.",
    ),
    Alert(
        "OctavoQueueGrowth",
        # A line through ten minutes: one burst, or a queue that is long and steady, is no growth.
        f"deriv({recording_rules.WAITING.name}[10m]) * 600 > 10",
        "10m",
        "warning",
        f"{_WHO} has more requests than it can take",
        "Its queue grows by {{ $value | humanize }} requests in ten minutes, more than 10.",
    ),
    Alert(
        "OctavoKVCacheFull",
        f"{recording_rules.KV_CACHE.name} > 0.95",
        "5m",
        "warning",
        f"{_WHO} has no room for more tokens",
        "The KV cache of a pod is {{ $value | humanizePercentage }} full, more than 95%.",
    ),
    Alert(
        "OctavoPreemptionStorm",
        f"{recording_rules.PREEMPTIONS.name} > on ({SERVICE})"
        f" 0.1 * sum by ({SERVICE}) ({recording_rules.REQUESTS.name})",
        "10m",
        "warning",
        f"{_WHO} computes the same tokens again and again",
        "{{ $value | humanize }} preemptions a second: more than one for every ten requests.",
    ),
    Alert(
        "OctavoRestartLoop",
        f"sum by ({SERVICE}) (increase({metrics.LLMSERVICE_POD_RESTARTS.name}[15m])) > 2",
        "5m",
        "critical",
        f"{_WHO} starts again and again",
        "Its engines were started anew {{ $value | humanize }} times in a quarter of an hour, more than 2.",
    ),
)
