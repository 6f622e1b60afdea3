"""One service, in full."""

from octavo_operator.monitoring import promql
from octavo_operator.monitoring.dashboards.board import Board, Panel, Variable
from octavo_operator.monitoring.slo import BUDGET_LEFT, BURN_HOUR
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric

UID = "octavo-service"
FLEET_UID = "octavo-fleet"

_THIS = '{namespace="$namespace",llmservice="$llmservice"}'
_WINDOW = "$__rate_interval"


def _rate(counter: Metric, by: str = "") -> str:
    return promql.rate(counter, _THIS, _WINDOW, by)


def _over(how: str, gauge: Metric, by: str = "") -> str:
    return promql.over(how, gauge, _THIS, by)


def _quantiles(histogram: Metric) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"p{share * 100:.0f}", promql.quantile(share, histogram, _THIS, _WINDOW, by="")) for share in (0.5, 0.95, 0.99)
    )


PANELS = (
    Panel("Requests per second, by outcome", "reqps", (("{{status}}", _rate(metrics.REQUESTS, "status")),)),
    Panel("Request duration", "s", _quantiles(metrics.REQUEST_DURATION)),
    Panel("Time to first token", "s", _quantiles(metrics.TIME_TO_FIRST_TOKEN)),
    Panel("Time between tokens", "s", _quantiles(metrics.INTER_TOKEN_LATENCY)),
    Panel(
        "Tokens per second",
        "short",
        (("prompt", _rate(metrics.PROMPT_TOKENS)), ("generated", _rate(metrics.GENERATION_TOKENS))),
    ),
    Panel(
        "Requests in the engine",
        "short",
        (
            ("running", _over("sum", metrics.REQUESTS_RUNNING)),
            ("waiting", _over("sum", metrics.REQUESTS_WAITING)),
            ("swapped out", _over("sum", metrics.REQUESTS_SWAPPED)),
        ),
    ),
    Panel(
        "Replicas",
        "short",
        (
            ("ready", _over("max", metrics.LLMSERVICE_READY_REPLICAS)),
            ("wanted", _over("max", metrics.LLMSERVICE_REPLICAS)),
        ),
    ),
    Panel(
        "GPU utilisation",
        "percentunit",
        (("{{pod}} {{gpu}}", _over("max", metrics.GPU_UTILIZATION_RATIO, "pod, gpu")),),
    ),
    Panel("GPU memory", "bytes", (("{{pod}} {{gpu}}", _over("max", metrics.GPU_MEMORY_USED_BYTES, "pod, gpu")),)),
    Panel("KV cache in use", "percentunit", (("{{pod}}", _over("max", metrics.KV_CACHE_USAGE_RATIO, "pod")),)),
    Panel(
        "Prompt tokens found in the prefix cache",
        "percentunit",
        (("found", f"{_rate(metrics.PREFIX_CACHE_HITS)} / {_rate(metrics.PREFIX_CACHE_QUERIES)}"),),
    ),
    Panel("Preemptions per second", "short", (("{{mode}}", _rate(metrics.PREEMPTIONS, "mode")),)),
    Panel(
        "Error budget left, of 30 days",
        "percentunit",
        (("{{slo}}", f"{BUDGET_LEFT.name}{_THIS}"),),
        "By the objectives in spec.slo.",
    ),
    Panel(
        "Error budget's burn rate, of the last hour",
        "short",
        (("{{slo}}", f"{BURN_HOUR.name}{_THIS}"),),
        "At 1 the budget lasts for 30 days.",
    ),
    Panel(
        "Starts anew",
        "short",
        (("{{pod}}", f"increase({metrics.LLMSERVICE_POD_RESTARTS.name}{_THIS}[{_WINDOW}])"),),
    ),
    Panel(
        "Answers per second, by reason",
        "reqps",
        (("{{finished_reason}}", _rate(metrics.REQUEST_SUCCESS, "finished_reason")),),
    ),
    Panel("Wait in the engine's queue", "s", _quantiles(metrics.REQUEST_QUEUE)),
    Panel("Prompt's length in tokens", "short", _quantiles(metrics.REQUEST_PROMPT_TOKENS)),
)

SERVICE = Board(
    UID,
    "Octavo / service",
    (
        Variable("namespace", f"label_values({metrics.LLMSERVICE_READY.name}, namespace)"),
        Variable("llmservice", f'label_values({metrics.LLMSERVICE_READY.name}{{namespace="$namespace"}}, llmservice)'),
    ),
    PANELS,
    see_also=("All services", FLEET_UID),
)
