"""What is worked out once for each service, so that 300 of them cost alerts and the fleet's dashboard little."""

from dataclasses import dataclass
from typing import Any

from octavo_operator.monitoring import promql
from octavo_operator.monitoring.promql import SERVICE
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric


@dataclass(frozen=True)
class RecordingRule:
    """`name`: level:metric:operations, by Prometheus' convention; all have the labels namespace and llmservice."""

    name: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expr} | labels


def _name(metric: Metric, operations: str) -> str:
    return f"llmservice:{metric.name.removesuffix('_total')}:{operations}"


def _rate(counter: Metric) -> RecordingRule:
    return RecordingRule(_name(counter, "rate5m"), promql.rate(counter))


def _p99(histogram: Metric) -> RecordingRule:
    return RecordingRule(_name(histogram, "p99_rate5m"), promql.quantile(0.99, histogram))


def _over(how: str, gauge: Metric) -> RecordingRule:
    return RecordingRule(_name(gauge, how), promql.over(how, gauge))


REQUESTS = RecordingRule(_name(metrics.REQUESTS, "rate5m"), promql.rate(metrics.REQUESTS, by=f"{SERVICE}, status"))
"""By status too."""
ERRORS = RecordingRule(
    _name(metrics.REQUESTS, "error_ratio_rate5m"),
    f'sum by ({SERVICE}) ({REQUESTS.name}{{status="error"}}) / sum by ({SERVICE}) ({REQUESTS.name})',
)
LATENCY = _p99(metrics.REQUEST_DURATION)
FIRST_TOKEN = _p99(metrics.TIME_TO_FIRST_TOKEN)
INTER_TOKEN = _p99(metrics.INTER_TOKEN_LATENCY)
PROMPT_TOKENS = _rate(metrics.PROMPT_TOKENS)
GENERATION_TOKENS = _rate(metrics.GENERATION_TOKENS)
RUNNING = _over("sum", metrics.REQUESTS_RUNNING)
WAITING = _over("sum", metrics.REQUESTS_WAITING)
KV_CACHE = _over("max", metrics.KV_CACHE_USAGE_RATIO)
PREEMPTIONS = _rate(metrics.PREEMPTIONS)
PREFIX_HITS = RecordingRule(
    _name(metrics.PREFIX_CACHE_HITS, "ratio_rate5m"),
    f"{promql.rate(metrics.PREFIX_CACHE_HITS)} / {promql.rate(metrics.PREFIX_CACHE_QUERIES)}",
)
GPU = _over("avg", metrics.GPU_UTILIZATION_RATIO)

RECORDING_RULES = (
    REQUESTS,
    ERRORS,
    LATENCY,
    FIRST_TOKEN,
    INTER_TOKEN,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    RUNNING,
    WAITING,
    KV_CACHE,
    PREEMPTIONS,
    PREFIX_HITS,
    GPU,
)
