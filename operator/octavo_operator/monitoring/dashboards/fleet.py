"""All services at once, from what the recording rules have worked out; a click on a line leads to the service."""

from octavo_operator.monitoring import promql
from octavo_operator.monitoring import recording_rules as recorded
from octavo_operator.monitoring.dashboards import service
from octavo_operator.monitoring.dashboards.board import Board, Panel, Variable
from octavo_operator.monitoring.promql import SERVICE
from octavo_operator.monitoring.recording_rules import RecordingRule
from octavo_operator.monitoring.slo import BUDGET_LEFT, BURN_HOUR
from octavo_runtime.protocol import metrics

_CHOSEN = '{namespace=~"$namespace",llmservice!=""}'
_SHOWN = 20  # lines in a panel
_LEGEND = "{{namespace}}/{{llmservice}}"


def _most(expr: str) -> tuple[tuple[str, str], ...]:
    return ((_LEGEND, f"topk({_SHOWN}, {expr})"),)


def _least(expr: str, legend: str = _LEGEND) -> tuple[tuple[str, str], ...]:
    return ((legend, f"bottomk({_SHOWN}, {expr})"),)


def _of(rule: RecordingRule) -> str:
    return f"{rule.name}{_CHOSEN}"


def _sum(rule: RecordingRule, by: str = "") -> str:
    return f"sum by ({by}) ({_of(rule)})"


PANELS = (
    Panel(
        "Services",
        "short",
        (
            ("ready", promql.over("sum", metrics.LLMSERVICE_READY, _CHOSEN, by="")),
            ("all", promql.over("count", metrics.LLMSERVICE_READY, _CHOSEN, by="")),
        ),
    ),
    Panel(
        "Replicas",
        "short",
        (
            ("ready", promql.over("sum", metrics.LLMSERVICE_READY_REPLICAS, _CHOSEN, by="")),
            ("wanted", promql.over("sum", metrics.LLMSERVICE_REPLICAS, _CHOSEN, by="")),
        ),
    ),
    Panel("Requests per second, by outcome", "reqps", (("{{status}}", _sum(recorded.REQUESTS, "status")),)),
    Panel(
        "Request duration, of all requests",
        "s",
        tuple(
            (
                f"p{share * 100:.0f}",
                promql.quantile(share, metrics.REQUEST_DURATION, _CHOSEN, "$__rate_interval", by=""),
            )
            for share in (0.5, 0.95, 0.99)
        ),
    ),
    Panel(
        "Tokens per second",
        "short",
        (("prompt", _sum(recorded.PROMPT_TOKENS)), ("generated", _sum(recorded.GENERATION_TOKENS))),
    ),
    Panel(
        "Requests in the engines",
        "short",
        (("running", _sum(recorded.RUNNING)), ("waiting", _sum(recorded.WAITING))),
    ),
    Panel("Error budget left, of 30 days: least", "percentunit", _least(_of(BUDGET_LEFT), f"{_LEGEND} {{{{slo}}}}")),
    Panel(
        "Error budget's burn rate, of the last hour: fastest",
        "short",
        ((f"{_LEGEND} {{{{slo}}}}", f"topk({_SHOWN}, {_of(BURN_HOUR)})"),),
        "At 1 the budget lasts for 30 days.",
    ),
    Panel("Share of requests that fail: most", "percentunit", _most(_of(recorded.ERRORS))),
    Panel("Requests per second: most", "reqps", _most(_sum(recorded.REQUESTS, SERVICE))),
    Panel("Request duration, p99: longest", "s", _most(_of(recorded.LATENCY))),
    Panel("Time to first token, p99: longest", "s", _most(_of(recorded.FIRST_TOKEN))),
    Panel("Time between tokens, p99: longest", "s", _most(_of(recorded.INTER_TOKEN))),
    Panel("Tokens generated per second: most", "short", _most(_of(recorded.GENERATION_TOKENS))),
    Panel("Requests that wait: most", "short", _most(_of(recorded.WAITING))),
    Panel("KV cache in use: fullest", "percentunit", _most(_of(recorded.KV_CACHE))),
    Panel("Preemptions per second: most", "short", _most(_of(recorded.PREEMPTIONS))),
    Panel("Prompt tokens found in the prefix cache: least", "percentunit", _least(_of(recorded.PREFIX_HITS))),
    Panel("GPU utilisation: least", "percentunit", _least(_of(recorded.GPU))),
    Panel(
        "Starts anew, in an hour: most",
        "short",
        _most(f"sum by ({SERVICE}) (increase({metrics.LLMSERVICE_POD_RESTARTS.name}{_CHOSEN}[1h]))"),
    ),
)

FLEET = Board(
    service.FLEET_UID,
    "Octavo / fleet",
    (Variable("namespace", f"label_values({metrics.LLMSERVICE_READY.name}, namespace)", several=True),),
    PANELS,
    drill_down=f"/d/{service.UID}?var-namespace=${{__field.labels.namespace}}"
    "&var-llmservice=${__field.labels.llmservice}&${__url_time_range}",
)
